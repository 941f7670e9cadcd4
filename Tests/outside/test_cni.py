"""The plugin as a container runtime calls it: server, agent and plugin as processes, Debian's main plugins, real interfaces.

The order of calls is cnitool's; names cite the sections of CNI 1.1's SPEC.md.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import runtime
from client import Client
from processes import REPOSITORY, Agent, Server, wait_until
from runtime import Attachment, Namespace, PluginError, Runtime, ip

pytestmark = pytest.mark.skipif(runtime.unusable() is not None, reason=str(runtime.unusable()))

POOLS = [
    {"name": "vm-net", "is_default": True, "prefixes": [{"prefix": "10.16.0.0/24", "gateway": "10.16.0.1"}],
     "routes": [{"destination": "192.168.0.0/16"}, {"destination": "172.16.0.0/12", "gateway": "10.16.0.9"}],
     "dns": {"nameservers": ["10.16.0.2"], "search": ["vm.example"]}},
    {"name": "dual", "prefixes": [
        {"prefix": "10.17.0.0/24", "gateway": "10.17.0.1"}, {"prefix": "fd17::/64", "gateway": "fd17::1"}]},
    {"name": "layer2", "prefixes": [{"prefix": "10.18.0.0/24"}]},
    {"name": "tiny", "prefixes": [{"prefix": "10.19.0.0/30", "gateway": "10.19.0.1"}]},
]


class Node:
    """A node: server, agent, manifests; what a test made is gone with it."""

    def __init__(self, folder):
        self.folder = folder
        self.server = Server(folder, listen=(f"unix:{folder}/server.sock",)).start()
        self.client = Client(self.server.target)
        for pool in POOLS:
            self.client.call("Pools.CreatePool", {"pool": pool})
        self.agent = Agent(folder, f"unix:{folder}/server.sock").start()
        self.links, self.namespaces = [], []

    def close(self):
        for namespace in self.namespaces:
            namespace.remove()
        for link in self.links:
            ip("link", "del", link, check=False)
        self.client.close()
        self.agent.stop(signal.SIGKILL)
        self.server.stop(signal.SIGKILL)

    def namespace(self):
        self.namespaces.append(Namespace())
        return self.namespaces[-1]

    def pod(self, name="web", vm=None, **metadata):
        """Makes the manifest of a pod, which is a launcher of `vm` where that is given."""
        if vm:
            instance = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {
                "namespace": "default", "name": vm, "uid": f"vmi-{vm}", "ownerReferences": [{
                    "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": vm, "uid": f"vm-{vm}",
                    "controller": True}]}}
            self.manifest(f"vmi-{vm}", instance)
            metadata["ownerReferences"] = [{
                "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": vm, "uid": f"vmi-{vm}",
                "controller": True}]
        self.manifest(f"pod-{name}", {
            "apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": "node-a"},
            "metadata": {"namespace": "default", "name": name, "uid": f"uid-{name}", **metadata}})

    def manifest(self, name, content):
        path = self.agent.manifests / f"{name}.json"
        path.with_suffix(".new").write_text(json.dumps(content))
        path.with_suffix(".new").rename(path)

    def attachment(self, pod="web", **more):
        return Attachment(pod, self.namespace(), **more)

    def main_plugin(self, kind):
        """The configuration of a main plugin without its IPAM, on devices of this test's own."""
        name = f"hf{uuid.uuid4().hex[:9]}"
        if kind == "bridge":
            self.links.append(name)
            return {"type": "bridge", "bridge": name}
        if not runtime.has_devices(kind):
            pytest.skip(f"the kernel makes no {kind} devices")
        ip("link", "add", name, "type", "veth", "peer", "name", f"{name}p")
        ip("link", "set", name, "up")
        ip("link", "set", f"{name}p", "up")
        self.links.append(name)
        return {"type": kind, "master": name} | ({"vlanId": 5} if kind == "vlan" else {"mode": "bridge"})

    def network(self, way="main", version="1.0.0", pool="vm-net", delegate=None, **more):
        delegate = delegate or self.main_plugin("bridge")
        own = {"type": "holdfast-cni", "pool": pool, "socket": str(self.agent.socket)}
        # Debian's plugins do not speak 1.1.0: as delegate they are spoken to in their own version.
        older = {"cniVersion": "1.0.0"} if version == "1.1.0" else {}
        plugin = own | {"delegate": delegate | older} if way == "main" else delegate | {"ipam": own}
        return {"cniVersion": version, "name": "vm-net", "plugins": [plugin | more]}

    def runtime(self, *arguments, path=None, **more):
        return Runtime(self.network(*arguments, **more), path)

    @property
    def bindings(self):
        return self.client.call("IPAM.ListBindings").get("bindings", [])


@pytest.fixture(autouse=True, params=["built", "released"])
def plugin(request, monkeypatch):
    """Every test with the plugin of the build under test, and with the released one, which is Embedded Swift upon musl."""
    if request.param == "released":
        released = REPOSITORY / ".build-static/release/holdfast-cni"
        if not released.exists() and not os.environ.get("HOLDFAST_CI"):
            pytest.skip(f"needs {released}: make plugin")
        monkeypatch.setattr(runtime, "OURS", str(released.parent))


@pytest.fixture
def node(tmp_path):
    # A unix socket's path has at most 107 bytes: pytest's folders come near.
    folder = tmp_path if len(str(tmp_path)) < 80 else tmp_path.parent
    node = Node(folder)
    yield node
    node.close()


def refused(call, *arguments):
    with pytest.raises(PluginError) as error:
        call(*arguments)
    return error.value


# Section 3: the runtime's order of calls.

# vlan takes no MAC.
WAYS = [(way, kind, version) for way in ("main", "ipam") for kind in ("bridge", "macvlan", "vlan")
        for version in runtime.VERSIONS if (version != "1.1.0" or way == "main") and (kind != "vlan" or way == "ipam")]


@pytest.mark.parametrize("way, kind, version", WAYS)
def test_section_3_status_add_check_gc_del_in_cnitools_order(node, way, kind, version):
    node.pod("launcher", vm="testvm")
    network = node.runtime(way, version, delegate=node.main_plugin(kind))
    network.status()
    attachment = node.attachment("launcher")
    result = network.add(attachment)
    assert result["cniVersion"] == version
    [binding] = node.bindings
    [address] = [f"{each['address']}/24" for each in binding["assignments"]]
    index = next(number for number, each in enumerate(result["interfaces"]) if each.get("sandbox"))
    assert result["interfaces"][index]["name"] == "eth0"
    assert result["interfaces"][index]["sandbox"] == attachment.namespace.path
    family = {"version": "4"} if version < "1.0.0" else {}
    assert result["ips"] == [{"address": address, "gateway": "10.16.0.1", "interface": index} | family]
    assert result["routes"][0] == {"dst": "0.0.0.0/0", "gw": "10.16.0.1"}
    assert attachment.namespace.addresses() == [address]
    assert attachment.namespace.routes()[0]["gateway"] == "10.16.0.1"
    if way == "main":
        assert attachment.namespace.link()["address"] == binding["mac"] == result["interfaces"][index]["mac"]
        assert result["dns"]["nameservers"] == ["10.16.0.2"]
    if version >= "0.4.0":
        network.check(attachment)
    network.collect([attachment.valid])
    assert node.bindings[0]["state"] == "BINDING_STATE_BOUND"
    if version >= "0.4.0":
        network.check(attachment)
    network.delete(attachment)
    network.delete(attachment)
    assert attachment.namespace.link() is None
    # A DEL whose server is slow succeeds, and is told a moment later.
    wait_until("the server knows", lambda: node.bindings[0]["state"] == "BINDING_STATE_RESERVED")
    network.collect([])
    # The VM's next pod has them again.
    again = node.attachment("launcher")
    assert network.add(again)["ips"][0]["address"] == address


@pytest.mark.parametrize("way", ["main", "ipam"])
def test_section_2_add_an_interface_that_is_there_is_an_error_and_stays(node, way):
    node.pod()
    network = node.runtime(way)
    attachment = node.attachment()
    network.add(attachment)
    address = attachment.namespace.addresses()
    error = refused(network.add, attachment)
    assert "eth0" in str(error) and (way == "ipam" or error.code == 110)
    assert attachment.namespace.addresses() == address and len(address) == 1
    assert node.bindings[0]["state"] == "BINDING_STATE_BOUND"
    network.check(attachment)


@pytest.mark.parametrize("way", ["main", "ipam"])
def test_section_2_del_succeeds_when_namespace_pod_and_binding_are_gone(node, way):
    node.pod()
    network = node.runtime(way)
    never = node.attachment()
    never.namespace.remove()
    network.delete(never)
    attachment = node.attachment()
    network.add(attachment)
    (node.agent.manifests / "pod-web.json").unlink()
    attachment.namespace.remove()
    network.delete(attachment)
    network.delete(attachment)
    wait_until("the server knows", lambda: node.bindings == [])


def test_section_2_check_finds_another_address_and_another_mac(node):
    node.pod()
    network = node.runtime("main")
    attachment = node.attachment()
    result = network.add(attachment)
    network.check(attachment)
    good = json.loads(json.dumps(result))
    result["ips"][0]["address"] = "10.16.0.77/24"
    assert refused(network.check, attachment).code == 105
    network.results[(attachment.container, "eth0")] = good
    good["interfaces"][-1]["mac"] = "02:00:00:00:00:77"
    assert refused(network.check, attachment).code == 105


def test_section_2_gc_detaches_what_is_not_listed_and_keeps_a_vms_binding(node):
    node.pod("web")
    node.pod("launcher", vm="testvm")
    network = node.runtime("main", "1.1.0")
    web, launcher = node.attachment("web"), node.attachment("launcher")
    network.add(web)
    network.add(launcher)
    network.collect([web.valid, launcher.valid])
    assert {binding["state"] for binding in node.bindings} == {"BINDING_STATE_BOUND"}
    network.collect([web.valid])
    assert {binding["owner"]["name"]: binding["state"] for binding in node.bindings} == {
        "web": "BINDING_STATE_BOUND", "testvm": "BINDING_STATE_RESERVED"}
    network.collect([])
    assert [binding["owner"]["name"] for binding in node.bindings] == ["testvm"]
    # No list at all says nothing about what is valid.
    error = refused(network.finish, network.start("GC", network.network["plugins"][0]))
    assert error.code == 7 and "cni.dev/valid-attachments" in error.message


def test_section_2_status_50_for_no_pool_and_for_a_server_and_an_agent_that_are_away(node):
    node.pod()
    network = node.runtime("main", "1.1.0", pool="tiny")
    network.status()
    network.add(node.attachment())
    # The pool is full: a VM that has an address of it could start all the same.
    network.status()
    missing = refused(node.runtime("main", "1.1.0", pool="nowhere").status)
    assert missing.code == 50 and missing.message == "there is no pool 'nowhere'" and missing.version == "1.1.0"
    node.server.stop()
    assert refused(network.status).code == 50
    node.agent.stop(signal.SIGKILL)
    assert refused(network.status).code == 50


def test_section_2_status_is_silent_while_the_server_is_away_and_a_vm_could_start(node):
    node.pod(vm="testvm")
    network = node.runtime("main", "1.1.0")
    network.add(node.attachment())
    node.server.stop()
    network.status()


def test_section_2_version_says_what_it_speaks(node):
    plugin = {"type": "holdfast-cni"}
    spoken = Runtime.finish(Runtime(node.network()).start("VERSION", plugin))
    assert spoken == {"cniVersion": "1.0.0", "supportedVersions": runtime.VERSIONS}


def test_section_4_an_add_that_a_delegate_fails_leaves_nothing(node):
    node.pod()
    network = node.runtime("main", delegate=node.main_plugin("bridge") | {"vlan": 5000})
    error = refused(network.add, attachment := node.attachment())
    assert error.code not in (None, 0)
    assert attachment.namespace.link() is None and node.bindings == []


def test_section_4_a_delegate_that_cannot_hold_the_mac_is_refused_with_what_to_take_instead(node):
    node.pod()
    error = refused(node.runtime("main", delegate={"type": "ptp"}).add, attachment := node.attachment())
    assert error.code == 109 and "the MAC" in error.message and "macvlan" in error.details
    assert attachment.namespace.link() is None and node.bindings == []


@pytest.mark.parametrize("way", ["main", "ipam"])
def test_section_4_a_bridge_that_would_be_the_gateway_of_a_pool_without_one_is_refused(node, way):
    node.pod()
    network = node.runtime(way, pool="layer2", delegate=node.main_plugin("bridge") | {"isGateway": True})
    error = refused(network.add, attachment := node.attachment())
    assert error.code == 7 and error.message == "bridge is to be the gateway, and the pool has none"
    network.delete(attachment)
    assert attachment.namespace.link() is None and node.bindings == []


# Section 5: what the result must hold so that KubeVirt works.

def test_section_5_both_families_have_their_address_gateway_and_default_route(node):
    node.pod()
    attachment = node.attachment()
    result = node.runtime("main", pool="dual").add(attachment)
    assert [each["gateway"] for each in result["ips"]] == ["10.17.0.1", "fd17::1"]
    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.17.0.1"}, {"dst": "::/0", "gw": "fd17::1"}]
    assert len(attachment.namespace.addresses()) == 2
    assert attachment.namespace.routes("-6")[-1].get("gateway") == "fd17::1" or any(
        route.get("gateway") == "fd17::1" for route in attachment.namespace.routes("-6"))


def test_section_5_a_pool_without_gateway_gives_no_default_route(node):
    node.pod()
    attachment = node.attachment()
    result = node.runtime("main", pool="layer2").add(attachment)
    assert "gateway" not in result["ips"][0] and not result.get("routes")
    assert [route["dst"] for route in attachment.namespace.routes()] == ["10.18.0.0/24"]


def test_section_5_the_pools_other_routes_come_after_the_default_route(node):
    node.pod()
    result = node.runtime("main").add(node.attachment())
    assert result["routes"] == [
        {"dst": "0.0.0.0/0", "gw": "10.16.0.1"}, {"dst": "192.168.0.0/16", "gw": "10.16.0.1"},
        {"dst": "172.16.0.0/12", "gw": "10.16.0.9"}]
    assert result["dns"] == {"nameservers": ["10.16.0.2"], "search": ["vm.example"]}


# Outages: whatever is killed, kubelet's retry ends in one binding.

@pytest.mark.parametrize("way", ["main", "ipam"])
def test_two_adds_of_one_container_at_once_end_in_one_interface_and_one_binding(node, way):
    node.pod()
    network = node.runtime(way)
    for _ in range(5):
        attachment = node.attachment()
        with ThreadPoolExecutor() as pool:
            calls = [pool.submit(network.add, attachment) for _ in range(4)]
        results = [call.result() for call in calls if call.exception() is None]
        assert len(results) == 1, [str(call.exception()) for call in calls]
        assert all(isinstance(call.exception(), PluginError | None) for call in calls)
        [binding] = node.bindings
        assert binding["active"]["container_id"] == attachment.container
        assert [each["address"] for each in results[0]["ips"]] == attachment.namespace.addresses()
        network.delete(attachment)
        wait_until("the server knows", lambda: node.bindings == [])


def retry(node, network, dead):
    """What kubelet does after a sandbox that did not come about: takes it away, and sets up another."""
    try:
        network.delete(dead)
    except PluginError as error:
        assert error.code == 11
        network.delete(dead)
    attachment = node.attachment(dead.pod)
    result = network.add(attachment)
    [binding] = wait_until("the server knows", lambda: carried_by(node, attachment))
    assert "target" not in binding
    assert [each["address"] for each in result["ips"]] == attachment.namespace.addresses()
    network.check(attachment)
    dead.namespace.remove()
    network.delete(dead)
    assert carried_by(node, attachment)
    return binding


def carried_by(node, attachment):
    """The bindings, where the first is the attachment's."""
    bindings = node.bindings
    return bindings if bindings[0].get("active", {}).get("container_id") == attachment.container else None


def hooked_plugins(node, hook):
    """A folder with a `hooked` main plugin: `bridge`, with shell code that runs before it and after it at ADD."""
    folder = node.folder / "plugins"
    folder.mkdir(exist_ok=True)
    script = folder / "hooked"
    script.write_text(f"""#!/bin/sh
wait_for() {{ until [ -e "$1" ]; do sleep 0.02; done; }}
at() {{ if [ "$CNI_COMMAND" = ADD ] && [ ! -e {node.folder}/passed ]; then {hook}; fi; }}
at before
{runtime.PLUGINS}/bridge
status=$?
at after
touch {node.folder}/$CNI_COMMAND-$CNI_CONTAINERID
exit $status
""")
    script.chmod(0o755)
    return [str(folder), runtime.PLUGINS, runtime.OURS]


def start_add(network, attachment):
    return network.start("ADD", network.network["plugins"][0], attachment)


def stop(process):
    process.send_signal(signal.SIGSTOP)


@pytest.mark.parametrize("step", ["the agent is asked", "the server is asked", "before the delegate", "after the delegate"])
@pytest.mark.parametrize("vm", ["testvm", None])
def test_the_plugin_killed_at_each_step_of_an_add(node, step, vm):
    node.pod("web", vm=vm)
    reached, passed = node.folder / "reached", node.folder / "passed"
    hook = f'[ $1 = {step.split()[0]} ] && {{ touch {reached}; wait_for {passed}; }}'
    path = hooked_plugins(node, hook)
    network = node.runtime("main", delegate=node.main_plugin("bridge") | {"type": "hooked"}, path=path)
    dead = node.attachment()
    if step == "the agent is asked":
        stop(node.agent.process)
    if step == "the server is asked":
        stop(node.server.process)
    add = start_add(network, dead)
    if "delegate" in step:
        wait_until("the delegate is reached", reached.exists)
    else:
        wait_until("the plugin waits for the agent", lambda: "poll" in wait_channel(add.pid))
    add.kill()
    add.wait()
    passed.touch()
    node.agent.process.send_signal(signal.SIGCONT)
    node.server.process.send_signal(signal.SIGCONT)
    if "delegate" in step:
        # The delegate outlives the plugin that ran it, and ends on its own.
        wait_until("the delegate has ended", lambda: dead.namespace.addresses())
    retry(node, network, dead)


@pytest.mark.parametrize("is_deleted", [True, False])
@pytest.mark.parametrize("vm", ["testvm", None])
def test_a_delegate_that_outlives_its_plugin_takes_nothing_from_the_pods_next_sandbox(node, vm, is_deleted):
    node.pod("web", vm=vm)
    reached, passed = node.folder / "reached", node.folder / "passed"
    path = hooked_plugins(node, f"[ $1 = before ] && [ ! -e {reached} ] && {{ touch {reached}; wait_for {passed}; }}")
    network = node.runtime("main", delegate=node.main_plugin("bridge") | {"type": "hooked"}, path=path)
    dead = node.attachment()
    add = start_add(network, dead)
    wait_until("the delegate is reached", reached.exists)
    add.kill()
    add.wait()
    if is_deleted:
        network.delete(dead)
    attachment = node.attachment()
    result = network.add(attachment)
    passed.touch()
    wait_until("the delegate has ended", (node.folder / f"ADD-{dead.container}").exists)
    assert dead.namespace.addresses() == []
    network.delete(dead)
    [binding] = carried_by(node, attachment)
    assert [each["address"] for each in result["ips"]] == [f"{each['address']}/24" for each in binding["assignments"]]


def test_a_del_waits_for_the_delegate_of_an_add_that_runs(node):
    node.pod()
    reached, passed = node.folder / "reached", node.folder / "passed"
    path = hooked_plugins(node, f"[ $1 = before ] && {{ touch {reached}; wait_for {passed}; }}")
    network = node.runtime("main", delegate=node.main_plugin("bridge") | {"type": "hooked"}, path=path)
    attachment = node.attachment()
    add = start_add(network, attachment)
    wait_until("the delegate is reached", reached.exists)
    delete = network.start("DEL", network.network["plugins"][0], attachment)
    wait_until("the DEL waits", lambda: delete.poll() is not None or "nanosleep" in wait_channel(delete.pid))
    passed.touch()
    network.finish(add)
    network.finish(delete)
    assert attachment.namespace.link() is None
    wait_until("the server knows", lambda: node.bindings == [])


def wait_channel(pid):
    try:
        with open(f"/proc/{pid}/wchan") as file:
            return file.read()
    except OSError:
        return ""


@pytest.mark.parametrize("step", ["before", "the server is asked", "before the delegate", "after the delegate"])
@pytest.mark.parametrize("vm", ["testvm", None])
def test_the_agent_killed_at_each_step_of_an_add(node, step, vm):
    node.pod("web", vm=vm)
    reached, passed = node.folder / "reached", node.folder / "passed"
    hook = f'[ $1 = {step.split()[0]} ] && {{ touch {reached}; wait_for {passed}; }}'
    path = hooked_plugins(node, hook) if "delegate" in step else None
    delegate = node.main_plugin("bridge") | ({"type": "hooked"} if path else {})
    network = node.runtime("main", delegate=delegate, path=path)
    dead = node.attachment()
    if step == "before":
        node.agent.stop(signal.SIGKILL)
    if step == "the server is asked":
        stop(node.server.process)
    add = start_add(network, dead)
    if "delegate" in step:
        wait_until("the delegate is reached", reached.exists)
    elif step != "before":
        wait_until("the plugin waits for the agent", lambda: "poll" in wait_channel(add.pid))
    node.agent.stop(signal.SIGKILL)
    passed.touch()
    if step == "after the delegate":
        # All is done: nothing needs the agent any more.
        network.results[(dead.container, "eth0")] = network.finish(add)
    else:
        assert refused(network.finish, add).code == 11
    node.server.process.send_signal(signal.SIGCONT)
    node.agent.start()
    retry(node, network, dead)


def test_an_agent_that_is_away_or_hangs_is_told_within_the_plugins_time_out(node):
    node.pod()
    network = node.runtime("main", "1.1.0")
    attachment = node.attachment()
    network.add(attachment)
    other = node.attachment()
    stop(node.agent.process)
    try:
        [plugin] = network.network["plugins"]
        started = time.monotonic()
        calls = {verb: network.start(verb, plugin, where, **more) for verb, where, more in [
            ("ADD", other, {}), ("DEL", attachment, {}),
            ("CHECK", attachment, {"prevResult": network.results[(attachment.container, "eth0")]}),
            ("GC", None, {"cni.dev/valid-attachments": []}), ("STATUS", None, {})]}
        for verb, process in calls.items():
            error = refused(network.finish, process, 60)
            assert (verb, error.code) == (verb, 50 if verb == "STATUS" else 11)
            assert str(node.agent.socket) in error.message
        # 15 s, one more for DEL, whose delegate has used them up, and what a loaded machine adds.
        assert time.monotonic() - started < 50
    finally:
        node.agent.process.send_signal(signal.SIGCONT)
    node.agent.stop(signal.SIGKILL)
    for call in (network.add, network.delete):
        assert refused(call, attachment if call == network.delete else node.attachment()).code == 11
    node.agent.start()
    network.delete(attachment)


def test_socket_state_and_logs_are_roots_alone(node):
    node.pod()
    node.runtime().add(node.attachment())
    for path in (node.agent.socket, node.folder / "state", *(node.folder / "state").rglob("*"),
                 *node.agent.socket.parent.iterdir(), node.agent.socket.parent):
        assert path.stat().st_mode & 0o077 == 0, path
    if os.geteuid() == 0:
        code = f"import os, socket; os.setuid(65534); socket.socket(socket.AF_UNIX).connect({str(node.agent.socket)!r})"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert other.returncode != 0 and "Permission denied" in other.stderr


# A live migration's target has the VM's address while the guest still runs elsewhere.

ECHO = """
import socket
listener = socket.create_server(("0.0.0.0", 9000))
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    while data := connection.recv(100):
        connection.sendall(data)
"""
# Echoes over one connection for longer than the kernel takes to say what it says of a new interface (RFC 4861's and 3810's
# first repetitions).
SESSION = """
import socket, sys, time
session = socket.create_connection((sys.argv[1], 9000), timeout=10)
print("connected", flush=True)
sys.stdin.readline()
for number in range(50):
    session.sendall(b"x")
    assert session.recv(1) == b"x", "the session has ended"
    time.sleep(0.1)
print("held", flush=True)
"""


class Migration:
    """A VM with a `bridge` interface on node-a, and a migration of it to node-b; both nodes are on one bridge."""

    def __init__(self, node, way, method="bridge"):
        self.node, self.method = node, method
        folder = node.folder / "b"
        folder.mkdir()
        self.agent = Agent(folder, f"unix:{node.folder}/server.sock", node="node-b").start()
        self.processes = []
        delegate = node.main_plugin("bridge")
        self.bridge = delegate["bridge"]
        self.source = Runtime(node.network(way, delegate=delegate))
        self.target = Runtime(node.network(way, delegate=delegate))
        [plugin] = self.target.network["plugins"]
        (plugin if way == "main" else plugin["ipam"])["socket"] = str(self.agent.socket)
        owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "m", "uid": "vm-m", "controller": True}
        self.put("vmi", {
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"namespace": "default", "name": "m", "uid": "vmi-m", "ownerReferences": [owner]},
            "spec": {"networks": [{"name": "default", "pod": {}}],
                     "domain": {"devices": {"interfaces": [{"name": "default", method: {}}]}}},
            "status": {"nodeName": "node-a"}})
        self.put_pod("source", "node-a")
        self.put("migration", {
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
            "metadata": {"namespace": "default", "name": "to-b", "uid": "to-b"},
            "spec": {"vmiName": "m"}, "status": {"phase": "Scheduling"}})
        self.put_pod("target", "node-b", labels={"kubevirt.io/migrationJobUID": "to-b"})

    def put(self, name, content):
        for folder in (self.node.agent.manifests, self.agent.manifests):
            path = folder / f"{name}.json"
            path.with_suffix(".new").write_text(json.dumps(content))
            path.with_suffix(".new").rename(path)

    def put_pod(self, name, node, **metadata):
        owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": "m", "uid": "vmi-m",
                 "controller": True}
        self.put(name, {
            "apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": node},
            "metadata": {"namespace": "default", "name": name, "uid": f"uid-{name}", "ownerReferences": [owner]} | metadata})

    def start(self, namespace, program, *arguments):
        self.processes.append(subprocess.Popen(
            ["ip", "netns", "exec", namespace.name, sys.executable, "-c", program, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return self.processes[-1]

    def neighbour(self):
        """Somebody else on the same bridge."""
        namespace, port = self.node.namespace(), f"hf{uuid.uuid4().hex[:9]}"
        ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace.name)
        ip("link", "set", port, "master", self.bridge, "up")
        ip("-n", namespace.name, "addr", "add", "10.16.0.250/24", "dev", "eth0")
        ip("-n", namespace.name, "link", "set", "eth0", "up")
        return namespace

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
        self.agent.stop(signal.SIGKILL)


@pytest.fixture
def migration(node, request):
    migration = Migration(node, *request.param)
    yield migration
    migration.close()


def frames_sent(namespace):
    shown = ip("-n", namespace.name, "-j", "-s", "link", "show", "eth0").stdout
    return json.loads(shown)[0]["stats64"]["tx"]["packets"]


@pytest.mark.parametrize("migration", [["main"], ["ipam"]], indirect=True, ids=["main", "ipam"])
def test_a_migration_target_is_silent_until_the_guest_comes(migration):
    source, target = migration.node.attachment("source"), migration.node.attachment("target")
    address = migration.source.add(source)["ips"][0]["address"].split("/")[0]
    peer = migration.neighbour()
    assert migration.start(source.namespace, ECHO).stdout.readline() == "listening\n"
    session = migration.start(peer, SESSION, address)
    assert session.stdout.readline() == "connected\n"
    assert migration.target.add(target)["ips"][0]["address"].split("/")[0] == address
    session.stdin.write("\n")
    session.stdin.flush()
    assert session.stdout.readline() == "held\n"
    assert frames_sent(target.namespace) == 0
    # The guest comes, and virt-handler takes the interface over.
    ip("-n", source.namespace.name, "link", "set", "eth0", "down")
    for change in (["down"], ["name", "eth0-nic"], ["up"]):
        ip("-n", target.namespace.name, "link", "set", "eth0" if change != ["up"] else "eth0-nic", *change)
    assert migration.start(target.namespace, ECHO).stdout.readline() == "listening\n"
    # Which has the MAC of the guest, and not of a pod as here in the IPAM way.
    ip("-n", peer.name, "neigh", "flush", "all")
    assert migration.start(peer, SESSION, address).stdout.readline() == "connected\n"


@pytest.mark.parametrize("migration", [["main", "masquerade"]], indirect=True, ids=["masquerade"])
def test_a_target_whose_address_stays_the_pods_own_is_not_silent(migration):
    source, target = migration.node.attachment("source"), migration.node.attachment("target")
    migration.source.add(source)
    migration.target.add(target)
    wait_until("the target speaks", lambda: frames_sent(target.namespace) > 0)


def test_a_delegate_that_fails_is_not_hidden_by_how_the_runtime_treats_signals(node, tmp_path):
    """A parent that ignores SIGCHLD has its children do so, whose children's ends are then forgotten."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    script = folder / "bridge"
    script.write_text(f"""#!/bin/sh
grep SigIgn /proc/self/status > {tmp_path}/ignored
echo '{{"cniVersion": "1.0.0", "code": 7, "msg": "no"}}'
exit 1
""")
    script.chmod(0o755)
    network = node.runtime("main", path=[str(folder), runtime.OURS])
    node.pod()
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        process = start_add(network, node.attachment())
    finally:
        signal.signal(signal.SIGCHLD, before)
    with pytest.raises(PluginError) as refusal:
        network.finish(process)
    assert refusal.value.code == 7
    # Neither SIGCHLD nor SIGPIPE.
    assert int((tmp_path / "ignored").read_text().split()[1], 16) & (1 << signal.SIGPIPE - 1) == 0
