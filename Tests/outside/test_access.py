"""Who may call: tokens, roles, nodes and certificates, as docs/security.md promises."""

import datetime
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request

import grpc
import pytest
from client import Client, Refused, launcher, vm
from conftest import POOL
from credentials import ISSUER, Authority, Key, Mounted, claims, replace, write_keys
from cryptography import x509
from processes import Agent, Server, free_port, run, wait_until

POLICY = """
agent:
  serviceAccounts: [holdfast/holdfast-agent]
  certificates: ["system:node:*"]
operator:
  groups: [system:serviceaccounts:holdfast-ops]
  certificates: [admin]
reader:
  serviceAccounts: [monitoring/prometheus]
"""
DAY = datetime.timedelta(days=1)
READS = ["IPAM.ListBindings", "Pools.ListPools"]
# docs/security.md: who may call what.
ROLES = {
    ("reader", "agent", "operator"): [
        "IPAM.GetBinding", "IPAM.ListBindings", "IPAM.ListHistory", "IPAM.WatchBindings", "Pools.GetPool",
        "Pools.ListPools"],
    ("agent", "operator"): [
        "IPAM.Allocate", "IPAM.Release", "IPAM.Transfer", "Nodes.RenewCopies", "Pools.CreatePool", "Pools.UpdatePool"],
    ("operator",): ["Pools.DeletePool", "Maintenance.Backup", "Maintenance.Restore"],
}


class Guarded(Server):
    """A server that asks for tokens of the test's own issuer."""

    def __init__(self, folder, *arguments, **more):
        self.key = Key("first")
        self.keys, self.policy = folder / "keys.json", folder / "policy.yaml"
        write_keys(self.keys, self.key)
        self.policy.write_text(POLICY)
        super().__init__(
            folder, "--tokens", f"jwks:{self.keys}", "--token-issuer", ISSUER, "--policy", str(self.policy), *arguments,
            **more)
        self.clients = []

    def client(self, token=None, **more):
        self.clients.append(Client(self.target, token, **more))
        return self.clients[-1]

    def agent(self, node="node-a", **changes):
        return self.client(self.key.sign(claims(node=node, **changes)))

    @property
    def operator(self):
        return self.client(self.key.sign(claims("holdfast-ops/anna", node=None)))

    def close(self):
        for client in self.clients:
            client.close()
        self.stop()


@pytest.fixture
def guarded(tmp_path):
    server = Guarded(tmp_path).start()
    server.operator.call("Pools.CreatePool", {"pool": POOL})
    yield server
    server.close()


def test_without_credentials_nothing_is_read(guarded):
    """Garbage in the message's place is not even looked at."""
    for method in ("IPAM/Allocate", "IPAM/ListBindings", "Pools/DeletePool", "Nodes/RenewCopies"):
        channel = grpc.insecure_channel(guarded.target)
        for message in (b"", b"\xff" * 100):
            with pytest.raises(grpc.RpcError) as error:
                channel.unary_unary(f"/holdfast.ipam.v1.{method}")(message, timeout=20)
            refused = Refused(error.value)
            assert (refused.code, refused.reason) == ("UNAUTHENTICATED", "CREDENTIALS_MISSING")
        channel.close()
    # With credentials the same garbage is looked at.
    with pytest.raises(Refused) as error:
        guarded.agent().call_bytes("IPAM.Allocate", b"\xff" * 100)
    assert error.value.code == "INVALID_ARGUMENT"


def test_refused_callers_are_counted(tmp_path, refused):
    """By method and why: what an alert on somebody's wrong tokens, or on an attack, looks at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    guarded = Guarded(tmp_path, "--http", address).start()
    try:
        with grpc.insecure_channel(guarded.target) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary("/holdfast.ipam.v1.IPAM/ListBindings")(b"", timeout=20)
        for _ in range(2):
            with refused("PERMISSION_DENIED", "ROLE_MISSING"):
                guarded.agent().call("Pools.CreatePool", {"pool": POOL})
        text = wait_until("metrics are served", lambda: metrics(address))
        for method, code, count in [("ListBindings", "Unauthenticated", 1), ("CreatePool", "PermissionDenied", 2)]:
            line = next(line for line in text.splitlines() if f'grpc_method="{method}",grpc_code="{code}"' in line)
            assert line.startswith("grpc_server_handled_total{") and line.endswith(f" {count}")
    finally:
        guarded.close()


def test_what_a_stream_without_credentials_is_told(guarded):
    channel = grpc.insecure_channel(guarded.target)
    with pytest.raises(grpc.RpcError) as error:
        next(channel.unary_stream("/holdfast.ipam.v1.IPAM/WatchBindings")(b"\xff", timeout=20))
    assert Refused(error.value).code == "UNAUTHENTICATED"
    reflection = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as error:
        next(reflection(iter([b"\x3a\x00"]), timeout=20))
    assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED, "as little as the services themselves"
    # Probes have no credentials.
    health = channel.unary_unary("/grpc.health.v1.Health/Check")
    assert health(b"", timeout=20) == b"\x08\x01"
    channel.close()


@pytest.mark.parametrize("what, change, why", [
    ("another audience", {"aud": ["https://kubernetes.default.svc"]}, "not for holdfast"),
    ("no audience", {"aud": []}, "not for holdfast"),
    ("expired", {"exp": int(time.time()) - 3600}, "expired"),
    ("not valid yet", {"nbf": int(time.time()) + 3600}, "not valid before"),
    ("another issuer", {"iss": "https://elsewhere"}, "issuer"),
    ("without expiry", {"exp": None}, "no JSON Web Token"),
    ("an endless number", {"exp": 1e300, "iss": "https://elsewhere"}, "issuer"),
])
def test_tokens_that_are_refused(guarded, refused, what, change, why):
    call(guarded, guarded.key.sign(claims()))
    with refused("UNAUTHENTICATED", "TOKEN_REFUSED") as error:
        call(guarded, guarded.key.sign(claims(**change)))
    assert why in error.value.message, what


def call(server, token, method="IPAM/ListBindings", message=b""):
    """Without reflection, which is refused as well."""
    channel = grpc.insecure_channel(server.target)
    try:
        metadata = [("authorization", token if " " in token else f"Bearer {token}")]
        return channel.unary_unary(f"/holdfast.ipam.v1.{method}")(message, timeout=20, metadata=metadata)
    except grpc.RpcError as error:
        raise Refused(error) from None
    finally:
        channel.close()


def test_forged_tokens(guarded, refused):
    good = guarded.key.sign(claims())
    head, body, signature = good.split(".")
    other = guarded.key.sign(claims(node="node-b")).split(".")[1]
    forged = {
        "another payload": f"{head}.{other}.{signature}",
        "no signature": f"{head}.{body}.",
        "alg none": Key("first").sign(claims(), alg="none").rsplit(".", 1)[0] + ".",
        "the name of a key, and another key": Key("first").sign(claims()),
        "alg HS256": Key("first").sign(claims(), alg="HS256"),
        "an unknown key": Key("second").sign(claims()),
        "no key's name": guarded.key.sign(claims(), kid=None),
        "no token": "x", "dots": "...", "half": good[:40],
    }
    for what, token in forged.items():
        with refused("UNAUTHENTICATED", "TOKEN_REFUSED"):
            call(guarded, token)
    for header in ("Basic dXNlcjpwYXNz", "Bearer "):
        with refused("UNAUTHENTICATED", "TOKEN_REFUSED"):
            call(guarded, header)
    call(guarded, "bearer " + good)
    call(guarded, good)


def test_an_agent_acts_for_its_own_node_only(guarded, refused):
    """Promise 8, for each call that an agent makes: refused, both nodes are named, and nothing changes."""
    a, b, stranger, operator = guarded.agent("node-a"), guarded.agent("node-b"), guarded.agent("node-c"), guarded.operator
    here, there = launcher(1, "node-a"), launcher(2, "node-b")
    binding = a.allocate(vm(), here)["binding"]

    def unchanged(call, node):
        before = operator.bindings()
        with refused("PERMISSION_DENIED", "OTHER_NODE") as error:
            call()
        assert error.value.metadata["node"] == node and node in error.value.message
        assert error.value.metadata["callerNode"] in error.value.message
        assert operator.bindings() == before

    unchanged(lambda: b.allocate(vm("other"), here), "node-a")
    unchanged(lambda: b.detach(vm(), here), "node-a")
    unchanged(lambda: b.call("IPAM.Release", {
        "owner": {"network": "vm-net/eth0"}, "scope": "RELEASE_SCOPE_ATTACHMENT",
        "attachment": {"container_id": here["container_id"]}}), "node-a")
    unchanged(lambda: a.transfer(vm(), "PREPARE", "m1", target=there), "node-b")
    b.transfer(vm(), "PREPARE", "m1", target=there)
    for phase in ("COMMIT", "ABORT"):
        unchanged(lambda: stranger.transfer(vm(), phase, "m1"), "node-b")
    unchanged(lambda: stranger.call("Nodes.RenewCopies", {"node": "node-b"}), "node-b")
    committed = a.transfer(vm(), "COMMIT", "m1")
    assert committed["active"]["node"] == "node-b" and committed["mac"] == binding["mac"]
    assert b.transfer(vm(), "COMMIT", "m1")["active"]["node"] == "node-b", "promise 4"
    with refused("PERMISSION_DENIED", "ROLE_MISSING"):
        a.allocate(vm("reserved"))
    with refused("PERMISSION_DENIED", "ROLE_MISSING"):
        b.free(vm())
    with refused("PERMISSION_DENIED", "ROLE_MISSING"):
        a.call("Pools.UpdatePool", {"pool": POOL | {"namespaces": ["mine"]}})
    # An operator may all of it.
    operator.detach(vm(), there)
    operator.free(vm())


def test_an_agent_whose_token_names_no_node(guarded, refused):
    nowhere = guarded.agent(node=None)
    nowhere.call("IPAM.ListBindings")
    with refused("PERMISSION_DENIED", "NODE_UNKNOWN"):
        nowhere.allocate(vm(), launcher(1))


def test_a_reader_looks_and_changes_nothing(guarded, refused):
    reader = guarded.client(guarded.key.sign(claims("monitoring/prometheus")))
    for method in READS:
        reader.call(method)
    watch = reader.watch()
    assert watch.until_synced()[0] == {}
    watch.cancel()
    for change in (
        lambda: reader.allocate(vm(), launcher(1)), lambda: reader.free(vm()),
        lambda: reader.transfer(vm(), "ABORT", "m"), lambda: reader.call("Nodes.RenewCopies", {"node": "node-a"}),
        lambda: reader.call("Pools.DeletePool", {"name": "vm-net"}),
        lambda: reader.call("Pools.CreatePool", {"pool": POOL}),
    ):
        with refused("PERMISSION_DENIED", "ROLE_MISSING") as error:
            change()
        assert "prometheus" in error.value.message and "wants operator" in error.value.message
    # And a token that is good, of an account that the policy does not know.
    with refused("PERMISSION_DENIED", "ROLE_MISSING"):
        call(guarded, guarded.key.sign(claims("default/anyone")))


def test_each_method_is_for_its_roles_alone(guarded):
    """Every method that the server has, so that a new one has its line in the table."""
    clients = {
        "reader": guarded.client(guarded.key.sign(claims("monitoring/prometheus"))),
        "agent": guarded.agent(), "operator": guarded.operator}
    operator = clients["operator"]
    services = [name for name in operator.database.get_services() if name.startswith("holdfast.")]
    methods = {f"{name.rsplit('.', 1)[1]}.{method}" for name in services
               for method in operator.descriptors.FindServiceByName(name).methods_by_name}
    assert methods == {name for names in ROLES.values() for name in names}

    def is_let_in(client, name):
        """Whether a request with nothing in it got as far as the rules."""
        try:
            answer = client._stub(name)(b"", timeout=10)
            if client.method(name).server_streaming:
                next(answer)
                answer.cancel()
        except grpc.RpcError as error:
            return Refused(error).reason != "ROLE_MISSING"
        return True

    for roles, names in ROLES.items():
        for name in names:
            assert tuple(role for role, client in clients.items() if is_let_in(client, name)) == roles, name


def test_a_changed_policy_holds_for_tokens_that_are_known(guarded, refused):
    token = guarded.key.sign(claims("monitoring/prometheus"))
    call(guarded, token)
    replace(guarded.policy, "agent: [what]\n")
    wait_until("a broken policy is logged", lambda: "policy refused" in guarded.log.read_text())
    call(guarded, token)
    replace(guarded.policy, POLICY.replace("monitoring/prometheus", "monitoring/other"))
    wait_until("the new policy is applied", lambda: "policy applied" in guarded.log.read_text())
    with refused("PERMISSION_DENIED", "ROLE_MISSING"):
        call(guarded, token)
    guarded.policy.unlink()
    wait_until("that there is no policy is logged", lambda: "policy cannot be read" in guarded.log.read_text())
    call(guarded, guarded.key.sign(claims("monitoring/other")))


def test_rotated_keys(guarded, refused):
    """A key that the server has not seen is fetched; who guesses keys does not make it fetch each time."""
    second = Key("second", "ES256")
    with refused("UNAUTHENTICATED", "TOKEN_REFUSED"):
        call(guarded, second.sign(claims()))
    write_keys(guarded.keys, guarded.key, second)

    def accepted():
        try:
            return call(guarded, second.sign(claims())) is not None
        except Refused as error:
            assert error.reason == "TOKEN_REFUSED"

    wait_until("the new key is fetched", accepted)
    call(guarded, guarded.key.sign(claims()))
    guarded.keys.unlink()
    with refused("UNAUTHENTICATED", "TOKEN_REFUSED"):
        call(guarded, Key("third").sign(claims()))
    call(guarded, second.sign(claims(node="node-z")))  # The keys at hand serve on.


def test_keys_that_cannot_be_had_are_no_verdict(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    server = Guarded(tmp_path, "--http", address)
    server.keys.unlink()
    server.start()

    def missing(value):
        return f"\nholdfast_token_keys_missing {value}\n" in (metrics(address) or "")

    try:
        with pytest.raises(Refused) as error:
            call(server, server.key.sign(claims()))
        assert (error.value.code, error.value.reason) == ("UNAVAILABLE", "TOKEN_KEYS_UNAVAILABLE")
        wait_until("the metrics say so", lambda: missing(1))
        write_keys(server.keys, server.key)

        def accepted():
            try:
                return call(server, server.key.sign(claims())) is not None
            except Refused:
                return False

        wait_until("the keys are there", accepted)
        assert missing(0)
    finally:
        server.close()


def test_a_unix_socket_is_its_owners(tmp_path):
    server = Guarded(tmp_path, listen=("127.0.0.1:0", f"unix:{tmp_path}/server.sock")).start()
    try:
        client = Client(f"unix:{tmp_path}/server.sock")
        client.call("Pools.CreatePool", {"pool": POOL})
        client.allocate(vm())
        client.close()
        done = run("holdfast", "pool", "list", "--server", f"unix:{tmp_path}/server.sock")
        assert done.returncode == 0, done.stderr
    finally:
        server.close()


def test_reflection_can_be_switched_off(tmp_path):
    server = Server(tmp_path, "--reflection", "off").start()
    try:
        channel = grpc.insecure_channel(server.target)
        for version in ("v1", "v1alpha"):
            reflection = channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
            with pytest.raises(grpc.RpcError) as error:
                next(reflection(iter([b"\x3a\x00"]), timeout=20))
            assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert channel.unary_unary("/holdfast.ipam.v1.Pools/ListPools")(b"", timeout=20) == b""
        channel.close()
    finally:
        server.stop()


def test_the_programs_show_their_token(guarded, tmp_path, refused):
    """The command and the agent, whose file is replaced as the kubelet does it."""
    token = tmp_path / "token"
    token.write_text(guarded.key.sign(claims("monitoring/prometheus")) + "\n")
    shown = run("holdfast", "pool", "list", "--server", guarded.target, "--token-file", str(token))
    assert shown.returncode == 0 and "vm-net" in shown.stdout, shown.stderr
    denied = run("holdfast", "pool", "delete", "vm-net", "--server", guarded.target, "--token-file", str(token))
    assert denied.returncode == 1 and "has only the role reader" in denied.stderr
    token.write_text(guarded.key.sign(claims("holdfast-ops/anna", node=None)))
    saved = run("holdfast", "backup", str(tmp_path / "saved"), "--server", guarded.target, "--token-file", str(token))
    assert saved.returncode == 0 and (tmp_path / "saved").stat().st_size, saved.stderr
    none = run("holdfast", "pool", "list", "--server", guarded.target)
    assert none.returncode == 1 and "neither a token" in none.stderr
    unsafe = run("holdfast", "pool", "list", "--server", "192.0.2.1:7440", "--token-file", str(token))
    assert unsafe.returncode == 2 and "--tls-ca" in unsafe.stderr


# Certificates


def tls_server(folder, mount, *arguments, **more):
    return Server(
        folder, "--tls-cert", mount.path("tls.crt"), "--tls-key", mount.path("tls.key"),
        "--tls-client-ca", mount.path("ca.crt"), *arguments, **more)


def issue(authority, name="localhost", trusted=None, **more):
    certificate, key = authority.issue(name, **more)
    return {"tls_crt": certificate, "tls_key": key, "ca_crt": trusted or authority.pem}


def test_certificates_have_roles_by_their_names(tmp_path, refused):
    authority, mount = Authority(), Mounted(tmp_path / "tls")
    mount.write(**issue(authority))
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    server = tls_server(tmp_path, mount, "--policy", str(policy)).start()
    admin, node = (Client(server.target, tls=authority.client(name)) for name in ("admin", "system:node:node-a"))
    try:
        admin.call("Pools.CreatePool", {"pool": POOL})
        node.allocate(vm(), launcher(1, "node-a"))
        with refused("PERMISSION_DENIED", "OTHER_NODE"):
            node.allocate(vm("other"), launcher(2, "node-b"))
        channel = grpc.secure_channel(server.target, authority.client("nobody"))
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/holdfast.ipam.v1.Pools/ListPools")(b"", timeout=20)
        assert Refused(error.value).reason == "ROLE_MISSING"
        channel.close()
    finally:
        admin.close()
        node.close()
        server.stop()


def test_tokens_and_certificates_side_by_side(tmp_path, refused):
    """Who has a token needs no certificate; and the token counts, not the certificate of the connection."""
    authority, mount = Authority(), Mounted(tmp_path / "tls")
    mount.write(**issue(authority))
    server = Guarded(
        tmp_path, "--tls-cert", mount.path("tls.crt"), "--tls-key", mount.path("tls.key"),
        "--tls-client-ca", mount.path("ca.crt")).start()
    try:
        server.client(tls=authority.client("admin")).call("Pools.CreatePool", {"pool": POOL})
        token = server.key.sign(claims())
        server.client(token, tls=authority.client()).allocate(vm(), launcher(1))
        both = server.client(token, tls=authority.client("admin"))
        with refused("PERMISSION_DENIED", "OTHER_NODE"):
            both.allocate(vm("other"), launcher(2, "node-b"))
        stale = server.key.sign(claims(exp=1))
        with pytest.raises(grpc.RpcError) as error:
            server.client(stale, tls=authority.client("admin")).call("Pools.ListPools")
        assert "UNAUTHENTICATED" in str(error.value), "no certificate stands in for a token that is refused"
        channel = grpc.secure_channel(server.target, authority.client())
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/holdfast.ipam.v1.Pools/ListPools")(b"", timeout=20)
        assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED
        channel.close()
    finally:
        server.close()


class Load:
    """Calls on one connection, and calls each on a connection of its own, until it is told to stop; failures are kept."""

    def __init__(self, target, credentials):
        self.target, self.credentials = target, credentials
        self.failures, self.calls, self.connections = [], 0, 0
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(fresh,)) for fresh in (False, False, True)]

    def run(self, fresh):
        channel = None
        while not self.stopping.is_set():
            try:
                if channel is None:
                    options = [("grpc.use_local_subchannel_pool", 1)]
                    channel = grpc.secure_channel(self.target, self.credentials(), options)
                    self.connections += 1
                channel.unary_unary("/holdfast.ipam.v1.Pools/ListPools")(b"", timeout=20)
                self.calls += 1
            except grpc.RpcError as error:
                self.failures.append(f"{error.code()} {error.details()}")
            if fresh and channel:
                channel.close()
                channel = None
        if channel:
            channel.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)


def shown_by(target):
    """The serial number of the certificate that the server shows now; the handshake need not get further."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, port = target.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 10) as plain, context.wrap_socket(plain) as secure:
        return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True)).serial_number


def serial(files):
    return x509.load_pem_x509_certificate(files["tls_crt"].encode()).serial_number


def test_certificates_rotate_under_load_and_no_call_fails(tmp_path):
    """Server's certificate, then a new CA: first both are trusted, then the new one's certificates come, then the old goes."""
    old, new, mount = Authority("old"), Authority("new"), Mounted(tmp_path / "tls")
    mount.write(**issue(old))
    certificate, key = old.issue("admin")
    trusted = [old.pem]

    def credentials():
        return grpc.ssl_channel_credentials("".join(trusted).encode(), key.encode(), certificate.encode())

    server = tls_server(tmp_path, mount).start()

    def goes_on(load):
        calls, connections = load.calls, load.connections
        wait_until("calls go on", lambda: load.calls > calls + 50 and load.connections > connections + 3)

    try:
        with Load(server.target, credentials) as load:
            for files in (issue(old), issue(old, trusted=old.pem + new.pem), issue(new, trusted=old.pem + new.pem)):
                trusted[:] = [old.pem, new.pem]
                mount.write(**files)
                wait_until("connections see the new certificate", lambda: shown_by(server.target) == serial(files))
                goes_on(load)
            # What is no good is kept out, and said.
            good = issue(new)
            for broken, why in (
                (good | {"tls_key": issue(new)["tls_key"]}, "no pair"), (good | {"tls_crt": "nonsense"}, "no pair"),
                (good | {"ca_crt": ""}, "holds no certificate"), (issue(new, life=-DAY), "has expired"),
            ):
                seen = server.log.read_text().count("kept out")
                mount.write(**broken)
                wait_until("broken files are logged", lambda: server.log.read_text().count("kept out") > seen)
                assert why in server.log.read_text().splitlines()[-1]
                goes_on(load)
        assert load.failures == []
        assert shown_by(server.target) == serial(files), "the last good one is shown on"
    finally:
        server.stop()


def test_a_rotated_client_certificate_is_used_without_a_restart(tmp_path):
    """The agent's: it goes on as it is with a server that believes only the new CA by then."""
    old, new = Authority("old"), Authority("new")
    shown, mine = Mounted(tmp_path / "server-tls"), Mounted(tmp_path / "agent-tls")
    shown.write(**issue(old, trusted=old.pem + new.pem))
    mine.write(**issue(old, "system:node:node-a"))
    port, probe = free_port(), free_port()
    server = tls_server(tmp_path, shown, listen=(f"127.0.0.1:{port}",)).start()
    (tmp_path / "agent").mkdir()
    agent = Agent(
        tmp_path / "agent", server.target, "--tls-ca", mine.path("ca.crt"), "--tls-cert", mine.path("tls.crt"),
        "--tls-key", mine.path("tls.key"), "--http", f"127.0.0.1:{probe}").start()
    try:
        wait_until("the agent is ready", lambda: is_ready(probe))
        mine.write(**issue(new, "system:node:node-a", trusted=old.pem + new.pem))
        wait_until("the agent has read it", lambda: "certificates read anew" in agent.log.read_text())
        mine.write(**{**issue(new), "tls_key": "nonsense"})
        wait_until("nonsense is kept out", lambda: "kept out" in agent.log.read_text())
        wait_until("the agent is ready still", lambda: is_ready(probe))
        shown.write(**issue(new))
        server.restart()
        wait_until("the agent reaches who believes the new CA alone", lambda: is_ready(probe))
    finally:
        agent.stop()
        server.stop()


def metrics(address):
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            return answer.read().decode()
    except OSError:
        return None


def is_ready(port):
    """What the agent's probe says, which asks the server."""
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10).status == 200
    except OSError:
        return False
