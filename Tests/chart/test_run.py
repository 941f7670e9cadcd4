"""The real programs, started as the chart's containers start them: arguments, variables, certificates, pools and probes are
the rendered ones. Of them only places are others: a folder of the test's, and free ports of this machine."""

import base64
import http.client
import os
import signal
import socket
import subprocess
import time
from contextlib import ExitStack

import pytest
from chart import NAMESPACE, POOLS, merged, one, render
from credentials import ISSUER, Key, claims, write_keys
from processes import DEADLINE, binaries, environment, wait_until

NO_AUTH = {"auth": {"enabled": False}}
MODES = {
    "tokens, TLS with client certificates": {}, "tokens, TLS": {"tls": {"clientCertificates": False}},
    "TLS with client certificates": NO_AUTH, "no TLS": {"tls": {"mode": "none"}, **NO_AUTH},
    "agents read by Prometheus": {"monitoring": {"podMonitor": {"enabled": True}}}}

# As a container's root is one who has none of root's powers. Who is not root has none anyway.
WITHOUT_CAPABILITIES = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"] if os.geteuid() == 0 else []


class Node:
    """Where the containers' files and ports are, here."""

    def __init__(self, folder, objects):
        self.folder, self.objects, self.processes = folder, objects, []
        self.ports = {}
        # All bound before the first is let go, so that no two are the same.
        with ExitStack() as probes:
            for port in ("7440", "9440", "9441"):
                probe = probes.enter_context(socket.create_server(("127.0.0.1", 0)))
                self.ports[port] = str(probe.getsockname()[1])
        for it in objects:
            if it["kind"] == "ConfigMap" and it["metadata"]["name"] in ("holdfast-pools", "holdfast-policy"):
                self.write(f"etc/holdfast/{it['metadata']['name'].removeprefix('holdfast-')}", it["data"])
        # The API server's part: it signs tokens, and shows its keys.
        self.key = Key("api-server")
        write_keys(folder / "keys.json", self.key)
        for directory in ("run/holdfast", "var/lib/holdfast", "var/lib/holdfast-agent", "host/cni/bin", "pods"):
            (folder / directory).mkdir(parents=True)

    def write(self, place, files):
        (self.folder / place).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (self.folder / place / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    def mount(self, role, pod):
        """The pod's certificates, as its volume has them. Gives back where."""
        place = f"{role}/etc/holdfast/tls"
        for volume in pod.get("volumes", []):
            if "secret" in volume:
                data = one(self.objects, "Secret", volume["secret"]["secretName"])["data"]
                items = volume["secret"].get("items") or [{"key": key, "path": key} for key in data]
                self.write(place, {item["path"]: base64.b64decode(data[item["key"]]) for item in items})
            for source in volume.get("projected", {}).get("sources", []):
                token = source["serviceAccountToken"]
                account = f"{NAMESPACE}/{pod['serviceAccountName']}"
                signed = self.key.sign(claims(account, aud=[token["audience"]]))
                self.write(f"{role}/etc/holdfast/token", {token["path"]: signed})
        return place

    def here(self, text, role):
        for place in ("/etc/holdfast/tls", "/etc/holdfast/token/"):
            text = text.replace(place, f"{self.folder}/{role}{place}")
        for place in ("/etc/holdfast/pools", "/etc/holdfast/policy", "/var/lib/holdfast", "/run/holdfast", "/host/cni/bin"):
            text = text.replace(place, f"{self.folder}{place}")
        text = text.replace("[$(HOST_IP)]", "127.0.0.1")
        for port, mine in self.ports.items():
            for host in ("0.0.0.0", "127.0.0.1", "holdfast-server.holdfast-system.svc"):
                text = text.replace(f"{host}:{port}", f"127.0.0.1:{mine}")
        # There is no API server.
        return text.replace("$(NODE_NAME)", "node-a").replace("--pods=kubernetes", f"--pods=directory:{self.folder}/pods")

    def command(self, container, role):
        program = binaries() / container["command"][0].removeprefix("/usr/local/bin/")
        words = [self.here(word, role) for word in container["command"][1:] + container["args"]
                 if word != "--kubernetes" and not word.startswith("--grace=")]
        if "--tokens=kubernetes" in words:
            words[words.index("--tokens=kubernetes")] = f"--tokens=jwks:{self.folder}/keys.json"
            words.append(f"--token-issuer={ISSUER}")
        variables = {it["name"]: self.here(it["value"], role) for it in container.get("env", []) if "value" in it}
        capabilities = container["securityContext"]["capabilities"]
        assert capabilities == {"drop": ["ALL"]}
        return [*WITHOUT_CAPABILITIES, str(program), *words], {**environment(), **variables}

    def start(self, role, pod):
        self.mount(role, pod)
        command, variables = self.command(pod["containers"][0], role)
        with open(self.folder / f"{role}.log", "wb") as log:
            process = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append((role, process))
        return process

    def stop(self):
        status = {}
        for role, process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            try:
                status[role] = process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                status[role] = "killed"
        self.processes = []
        return status

    def log(self, role):
        return (self.folder / f"{role}.log").read_text(errors="replace")

    def probe(self, container, name, host="127.0.0.1"):
        """As the kubelet asks; whether it is content."""
        probe = container[name]
        if "grpc" in probe:
            import grpc
            from grpc_health.v1 import health_pb2, health_pb2_grpc
            assert probe["grpc"]["port"] == 7440
            with grpc.insecure_channel(f"127.0.0.1:{self.ports['7440']}") as channel:
                try:
                    answer = health_pb2_grpc.HealthStub(channel).Check(
                        health_pb2.HealthCheckRequest(service=probe["grpc"]["service"]), timeout=probe["timeoutSeconds"])
                    return answer.status == health_pb2.HealthCheckResponse.SERVING
                except grpc.RpcError:
                    return False
        port = probe["httpGet"]["port"]
        if isinstance(port, str):
            port = next(it["containerPort"] for it in container["ports"] if it["name"] == port)
        connection = http.client.HTTPConnection(host, int(self.ports[str(port)]), timeout=probe.get("timeoutSeconds", 1))
        try:
            connection.request("GET", probe["httpGet"]["path"])
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def pod(objects, kind):
    return one(objects, kind)["spec"]["template"]["spec"]


@pytest.fixture(params=MODES)
def node(request, tmp_path):
    for program in ("holdfast-server", "holdfast-agent", "holdfast"):
        if not (binaries() / program).exists():
            pytest.fail(f"{binaries() / program} is missing: `make build`, or set HOLDFAST_BIN")
    node = Node(tmp_path, render(merged(POOLS, MODES[request.param])))
    yield node
    node.stop()


def test_the_server_gets_ready_and_helm_test_takes_an_address_and_gives_it_back(node):
    server = pod(node.objects, "StatefulSet")["containers"][0]
    process = node.start("server", pod(node.objects, "StatefulSet"))
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        wait_until(f"its {probe} is content", lambda: node.probe(server, probe) or process.poll() is not None)
        assert process.poll() is None, node.log("server")

    test = one(node.objects, "Pod")["spec"]
    node.mount("test", test)
    said = []
    for container in test["initContainers"] + test["containers"]:
        command, variables = node.command(container, "test")
        result = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=DEADLINE)
        assert result.returncode == 0, f"{container['name']}: {result.stderr}"
        said.append(result.stdout)
    assert "reserved" in said[0] and "10.16.0.10" in said[1] and said[2].startswith("released: 10.16.0.10")

    if any(it.startswith("--tokens") for it in server["args"]):
        # The agents' token attaches and does not reserve; and without a token nobody gets in.
        agent = pod(node.objects, "DaemonSet")
        node.mount("agent", agent)
        _, variables = node.command(agent["containers"][0], "agent")
        fewer = {name: value for name, value in variables.items() if name != "HOLDFAST_TOKEN_FILE"}
        for env, why in ((variables, "by an operator"), (fewer, "certificate")):
            refused = subprocess.run(
                [str(binaries() / "holdfast"), "reserve", "default/other", "--network=vm-net/eth0"], env=env, capture_output=True, text=True,
                timeout=DEADLINE)
            assert refused.returncode == 1 and why in refused.stderr, refused.stderr

    # What the notes tell people to type into the server's container.
    _, variables = node.command(server, "server")
    shown = subprocess.run(
        [str(binaries() / "holdfast"), "pool", "list", "--server", f"127.0.0.1:{node.ports['7440']}"], env=variables,
        capture_output=True, text=True, timeout=DEADLINE)
    assert shown.returncode == 0 and "vm-net" in shown.stdout, shown.stderr
    assert node.stop() == {"server": 0}


def test_the_agent_is_alive_at_once_and_ready_once_the_server_has_answered_it(node):
    agent = pod(node.objects, "DaemonSet")["containers"][0]
    process = node.start("agent", pod(node.objects, "DaemonSet"))
    for probe in ("startupProbe", "livenessProbe"):
        wait_until(f"its {probe} is content", lambda: node.probe(agent, probe) or process.poll() is not None)
        assert process.poll() is None, node.log("agent")
    assert not node.probe(agent, "readinessProbe")
    node.start("server", pod(node.objects, "StatefulSet"))
    wait_until("the agent is ready", lambda: node.probe(agent, "readinessProbe"))
    assert (node.folder / "run/holdfast/agent.sock").is_socket()
    role, server = node.processes.pop()
    server.send_signal(signal.SIGTERM)
    assert server.wait(DEADLINE) == 0
    # A rollout would replace all agents at once. What it has heard of the server is a second old at most.
    for _ in range(3):
        time.sleep(0.6)
        assert node.probe(agent, "readinessProbe") and node.probe(agent, "livenessProbe")
    assert node.stop() == {"agent": 0}


def test_the_init_container_puts_the_plugin_on_the_node_and_again_changes_nothing(tmp_path):
    node = Node(tmp_path, render(POOLS))
    (install,) = pod(node.objects, "DaemonSet")["initContainers"]
    mounted = {mount["name"]: mount["mountPath"] for mount in install["volumeMounts"]}
    assert mounted == {"cni-bin": "/host/cni/bin"}
    command, variables = node.command(install, "agent")
    plugin = tmp_path / "host/cni/bin/holdfast-cni"
    for expected in ("written", "unchanged"):
        result = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=DEADLINE)
        assert result.returncode == 0, result.stderr
        assert result.stdout == f"{plugin}: {expected}\n"
    assert plugin.read_bytes() == (binaries() / "holdfast-cni").read_bytes() and plugin.stat().st_mode & 0o777 == 0o755


def test_without_its_certificate_nobody_is_served(tmp_path):
    node = Node(tmp_path, render(merged(POOLS, NO_AUTH)))
    try:
        server = pod(node.objects, "StatefulSet")["containers"][0]
        node.start("server", pod(node.objects, "StatefulSet"))
        wait_until("the server is ready", lambda: node.probe(server, "readinessProbe"))
        _, variables = node.command(server, "server")
        target = ["--server", f"127.0.0.1:{node.ports['7440']}", "--timeout", "5s"]
        for missing in (["HOLDFAST_TLS_CERT", "HOLDFAST_TLS_KEY"], ["HOLDFAST_TLS_CERT", "HOLDFAST_TLS_KEY", "HOLDFAST_TLS_CA"]):
            fewer = {name: value for name, value in variables.items() if name not in missing}
            refused = subprocess.run([str(binaries() / "holdfast"), "pool", "list", *target], env=fewer,
                                     capture_output=True, text=True, timeout=DEADLINE)
            assert refused.returncode == 1 and "vm-net" not in refused.stdout
    finally:
        node.stop()


def test_a_changed_config_map_reaches_the_server_that_runs(tmp_path):
    node = Node(tmp_path, render(merged(POOLS, MODES["no TLS"])))
    try:
        server = pod(node.objects, "StatefulSet")["containers"][0]
        node.start("server", pod(node.objects, "StatefulSet"))
        wait_until("the server is ready", lambda: node.probe(server, "readinessProbe"))
        more = POOLS["pools"] + [{"name": "second", "prefixes": [{"prefix": "10.17.0.0/24"}]}]
        changed = one(render({**MODES["no TLS"], "pools": more}), "ConfigMap", "holdfast-pools")["data"]
        # As the kubelet does it: another folder, and a link that changes.
        node.write("etc/holdfast/new", changed)
        place = tmp_path / "etc/holdfast/pools/pools.yaml"
        (tmp_path / "link").symlink_to(tmp_path / "etc/holdfast/new/pools.yaml")
        os.replace(tmp_path / "link", place)

        def pools():
            connection = http.client.HTTPConnection("127.0.0.1", int(node.ports["9440"]), timeout=DEADLINE)
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            connection.close()
            return text
        wait_until("the second pool is there", lambda: 'pool="second"' in pools())
    finally:
        node.stop()
