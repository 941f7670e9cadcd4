"""Guests behind KubeVirt's binding managedTap: real DHCP clients, answered by the agent, and what is on the cable."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import REPOSITORY, binaries, wait_until

sys.path.insert(0, str(REPOSITORY / "scripts"))
from netns import own_namespaces, why_not  # noqa: E402, F401
from story.cluster import Cluster  # noqa: E402
from story.kubelet import Kubelet  # noqa: E402
from story.stage import Stage  # noqa: E402
from story.wire import NAMESPACES, Wire, ip  # noqa: E402
from vm.tap import managed_tap, open_in  # noqa: E402

TOOLS = ("udhcpc", "dhclient", "tshark")
missing = [tool for tool in TOOLS if shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None]
reason = f"{', '.join(missing)} missing: scripts/setup" if missing else why_not()
pytestmark = [
    pytest.mark.skipif(reason is not None, reason=f"no guests can be played here: {reason}"),
    pytest.mark.usefixtures("own_namespaces"),
]

POOLS = """
- name: vm-net
  is_default: true
  prefixes:
    - {prefix: 10.16.0.0/16, gateway: 10.16.0.1, excluded: [10.16.0.2..10.16.0.9]}
    - {prefix: "fd00:16::/64", gateway: "fd00:16::1"}
  routes:
    - {destination: 192.168.0.0/16, gateway: 10.16.0.3}
  dns: {nameservers: [10.16.0.2, "fd00:16::2"], domain: vm.example, search: [vm.example, lab.example]}
"""
SERVER = "169.254.0.254"


class Guest:
    """A namespace that stands for the guest: its eth0 is plugged into the pod's bridge as a tap would be."""

    def __init__(self, scene, name, pod, mac=None):
        self.scene, self.name, self.pod = scene, f"guest-{name}", pod
        ip("netns", "add", self.name)
        # Another test's guest may have had this MAC a moment ago: its last words must not make the link-local address of
        # this one a duplicate, which the kernel would never try again.
        subprocess.run(self.inside(
            "sh", "-c", "for name in all default; do echo 0 > /proc/sys/net/ipv6/conf/$name/accept_dad; done"),
            check=True)
        self.mac = managed_tap(pod.name, self._plug)
        self.use(mac or self.mac)

    def _plug(self, pod, name):
        ip("-n", pod, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", self.name)

    def use(self, mac):
        ip("-n", self.name, "link", "set", "lo", "up")
        ip("-n", self.name, "link", "set", "eth0", "down")
        ip("-n", self.name, "link", "set", "eth0", "address", mac, "up")

    def inside(self, *command):
        return ["nsenter", f"--net={NAMESPACES}/{self.name}", *command]

    def udhcpc(self, *options, stays=False, in_vain=False):
        """Runs the client to its first lease; gives back its status and what its script was told. It asks once more only
        long after an answer should have come, unless it is to ask `in_vain`."""
        told = self.scene.folder / f"{self.name}.udhcpc"
        told.unlink(missing_ok=True)
        script = self._script("udhcpc.sh", "#!/bin/sh\ncase $1 in bound|renew) "
                              f"env > {told}.new; mv {told}.new {told};; esac\n")
        command = self.inside(
            "udhcpc", "-f", "-i", "eth0", "-s", script, "-t", "3" if in_vain else "8", "-T", "1" if in_vain else "5", *([] if stays else ["-n", "-q"]),
            *[option for name in ("staticroutes", "mtu", "ntpsrv", "search", "domain", "hostname", "dns", "router",
                                  "broadcast") for option in ("-O", name)], *options)
        if stays:
            client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until("udhcpc has a lease", told.exists)
            return client, told
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, environment(told) if told.exists() else {}

    def dhclient(self, family, *, lease=None):
        if family == 6:
            wait_until("the link-local address is usable", lambda: "fe80:" in (
                shown := ip("-6", "-n", self.name, "address", "show", "eth0")) and "tentative" not in shown)
        told = self.scene.folder / f"{self.name}.dhclient{family}"
        told.unlink(missing_ok=True)
        leases = Path(f"{told}.leases")
        if lease is not None:
            leases.write_text(lease)
        script = self._script("dhclient.sh", f"#!/bin/sh\n{{ echo; env; echo done=$reason; }} >> {told}\n")
        configuration = Path(f"{told}.conf")
        configuration.write_text(
            "request subnet-mask, broadcast-address, routers, domain-name, domain-name-servers, domain-search, "
            "host-name, interface-mtu, ntp-servers, dhcp6.name-servers, dhcp6.domain-search;\ntimeout 40;\n")
        said = Path(f"{told}.log")
        # In the foreground: who goes to the background has another process ID, which it tells a moment later.
        with open(said, "wb") as log:
            client = subprocess.Popen(self.inside(
                "dhclient", f"-{family}", "-d", "-v", "-sf", script, "-lf", leases, "-pf", f"{told}.pid", "-cf",
                configuration, "-1", "eth0"), stdout=subprocess.DEVNULL, stderr=log)
        try:
            wait_until(
                "dhclient has a lease, or ends without one",
                lambda: client.poll() is not None or told.exists() and "done=BOUND" in told.read_text(), deadline=60)
        finally:
            client.kill()
            client.wait()
        return said.read_text(), environment(told) if told.exists() else {}

    def _script(self, name, text):
        path = self.scene.folder / f"{self.name}.{name}"
        path.write_text(text)
        path.chmod(0o755)
        return str(path)


def read_link(path):
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


def environment(file):
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)


class Capture:
    """What goes over one interface, decoded by tshark."""

    def __init__(self, namespace, interface, file):
        self.file = file
        self.process = subprocess.Popen(
            ["nsenter", f"--net={NAMESPACES}/{namespace}", "tshark", "-q", "-i", interface, "-w", file, "-f",
             "udp port 67 or udp port 68 or udp port 546 or udp port 547 or icmp6 or arp"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "Capturing on" in line:
                break
        # It says so a moment before it is so: the file's head is written once the socket is open.
        wait_until("tshark captures", lambda: os.path.exists(file) and os.path.getsize(file) > 0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.communicate(timeout=30)

    def frames(self, display_filter, at_least):
        """The frames as tshark's fields, each with what it thinks of the checksums. They come to the file a while after
        they were on the cable."""
        def decode():
            done = subprocess.run(
                ["tshark", "-r", self.file, "-Y", display_filter, "-T", "json", "-o", "udp.check_checksum:TRUE", "-o",
                 "ip.check_checksum:TRUE", "--no-duplicate-keys"], capture_output=True, text=True, timeout=60)
            # A file that is still written may end in the middle of a frame.
            frames = json.loads(done.stdout or "[]") if done.stdout.strip().endswith("]") else []
            return [flat(frame["_source"]["layers"]) for frame in frames]

        return wait_until(f"{at_least} frames {display_filter}", lambda: len(f := decode()) >= at_least and f)


def flat(value, into=None):
    """All fields of a frame by name, each with the list of its values."""
    into = {} if into is None else into
    for key, inner in value.items() if isinstance(value, dict) else []:
        for item in inner if isinstance(inner, list) else [inner]:
            if isinstance(item, dict):
                flat(item, into)
            else:
                into.setdefault(key, []).append(item)
    return into


class AnyMainPlugin(Kubelet):
    """The demo's kubelet, with another plugin behind holdfast-cni than `bridge` where a test says so."""

    delegate = None

    def _network(self, node, as_ipam):
        return super()._network(node, as_ipam) | ({"delegate": self.delegate} if self.delegate else {})


class Scene:
    def __init__(self, folder):
        self.folder = folder
        pools = folder / "pools.yaml"
        pools.write_text(POOLS)
        self.wire = Wire()
        ip("-n", "router", "address", "add", "fd00:16::1/64", "dev", "eth0", "nodad")
        self.stage = Stage(
            binaries(), binaries() / "holdfast-cni", self.wire, pools=pools, agent_options=("--dhcp", "--announce"))
        self.cluster = Cluster(self.stage.objects)
        self.kubelet = AnyMainPlugin(self.stage)
        self.guests = []

    def machine(self, name, node="node-a", mac=None, annotations=None):
        vm = self.cluster.create_vm(REPOSITORY / "examples/testvm.yaml", name=name, annotations=annotations or {})
        instance = self.cluster.start_instance(vm)
        pod = self.cluster.create_pod(instance, node)
        self.kubelet.start(pod)
        self.cluster.pod_runs(pod, self.kubelet.address(pod))
        self.cluster.instance_runs(instance, pod)
        guest = Guest(self, f"{name}-{node}", pod, mac)
        guest.vm, guest.instance = vm, instance
        self.guests.append(guest)
        return guest

    def log(self, node="node-a"):
        return (self.stage.logs / f"agent-{node}.log").read_text(errors="replace")


@pytest.fixture(scope="module")
def scene(own_namespaces, tmp_path_factory):  # noqa: F811
    scene = Scene(tmp_path_factory.mktemp("dhcp"))
    try:
        scene.stage.start()
        yield scene
    finally:
        complaints = scene.stage.stop(keep_logs=False)
        assert complaints == []


@pytest.fixture(scope="module")
def guest(scene):
    return scene.machine("testvm")


def test_udhcpc_gets_the_bindings_address_and_all_that_the_pool_says(scene, guest):
    with Capture(guest.name, "eth0", scene.folder / "udhcpc.pcapng") as capture:
        status, told = guest.udhcpc()
        assert status == 0, scene.log()
        binding = scene.stage.bindings()["testvm"]
        assert told["ip"] == binding["assignments"][0]["address"] == "10.16.0.10"
        assert guest.mac == binding["mac"]
        assert told["subnet"] == "255.255.0.0" and told["router"] == "10.16.0.1" and told["serverid"] == SERVER
        assert told["dns"] == "10.16.0.2" and told["domain"] == "vm.example"
        assert told["search"] == "vm.example lab.example"
        assert told["hostname"] == "testvm" and told["mtu"] == "1500" and told["lease"] == "86400"
        assert told["broadcast"] == "10.16.255.255"
        assert told["staticroutes"] == "192.168.0.0/16 10.16.0.3 0.0.0.0/0 10.16.0.1"
        frames = capture.frames("dhcp", 4)
    kinds = [frame["dhcp.option.dhcp"][0] for frame in frames]
    assert kinds == ["1", "2", "3", "5"]
    for frame in frames[1::2]:
        assert frame["udp.checksum.status"] == ["1"] and frame["ip.checksum.status"] == ["1"]
        assert frame["dhcp.ip.your"] == ["10.16.0.10"] and frame["eth.dst"][0] == guest.mac
        assert "_ws.malformed" not in frame and "_ws.expert" not in frame


def test_udhcpc_renews_by_unicast_and_keeps_its_address(scene, guest):
    client, told = guest.udhcpc(stays=True)
    try:
        ip("-n", guest.name, "address", "replace", "10.16.0.10/16", "dev", "eth0")
        ip("-n", guest.name, "route", "replace", "default", "via", "10.16.0.1")
        with Capture(guest.name, "eth0", scene.folder / "renew.pcapng") as capture:
            told.unlink()
            client.send_signal(signal.SIGUSR1)
            wait_until("udhcpc has renewed", told.exists)
            assert environment(told)["ip"] == "10.16.0.10"
            frames = capture.frames("dhcp", 2)
        request, reply = frames[0], frames[1]
        assert request["dhcp.option.dhcp"] == ["3"] and request["ip.dst"] == [SERVER]
        assert request["dhcp.ip.client"] == ["10.16.0.10"]
        assert reply["dhcp.option.dhcp"] == ["5"] and reply["ip.dst"] == ["10.16.0.10"]
    finally:
        client.terminate()
        client.wait(10)
        ip("-n", guest.name, "address", "flush", "dev", "eth0", "scope", "global")


def test_dhclient_is_refused_another_address_and_gets_its_own(scene, guest):
    _, told = guest.dhclient(4)
    assert told["new_ip_address"] == "10.16.0.10" and told["new_routers"] == "10.16.0.1"
    assert told["new_domain_name_servers"] == "10.16.0.2" and told["new_interface_mtu"] == "1500"
    stale = """
        lease {
          interface "eth0"; fixed-address 10.16.0.77; option subnet-mask 255.255.0.0;
          option dhcp-lease-time 86400; option dhcp-server-identifier 169.254.0.254;
          renew 0 2037/01/01 00:00:00; rebind 0 2037/01/02 00:00:00; expire 0 2037/01/03 00:00:00;
        }
        """
    said, told = guest.dhclient(4, lease=stale)
    assert "DHCPNAK" in said, said
    assert told["new_ip_address"] == "10.16.0.10"


def test_the_guests_kernel_learns_the_prefix_and_dhclient_6_its_address(scene, guest):
    def routes():
        return json.loads(ip("-j", "-6", "-n", guest.name, "route", "show"))

    with Capture(guest.name, "eth0", scene.folder / "v6.pcapng") as capture:
        # The link comes up, so the kernel solicits.
        guest.use(guest.mac)
        [route] = wait_until(
            "the prefix is on the link", lambda: [r for r in routes() if r["dst"] == "fd00:16::/64"])
        assert route["protocol"] in ("kernel", "ra")
        addresses = json.loads(ip("-j", "-6", "-n", guest.name, "address", "show", "eth0"))[0]["addr_info"]
        assert [a["local"] for a in addresses if a["scope"] == "global"] == [], "no address made up from the prefix"
        said, told = guest.dhclient(6)
        binding = scene.stage.bindings()["testvm"]
        assert told["new_ip6_address"] == binding["assignments"][1]["address"], said
        assert told["new_dhcp6_name_servers"] == "fd00:16::2"
        assert told["new_dhcp6_domain_search"] == "vm.example. lab.example."
        # The last word; what came before is in the file by then. A client whose answer is late asks once more.
        capture.frames("dhcpv6.msgtype == 7", 1)
        frames = capture.frames("dhcpv6 or icmpv6.type == 134", 5)
    [advertisement, *_] = [frame for frame in frames if "icmpv6.nd.ra.flag" in frame]
    assert advertisement["icmpv6.nd.ra.flag.m"] == ["1"] and advertisement["icmpv6.nd.ra.flag.o"] == ["1"]
    assert advertisement["icmpv6.opt.prefix.flag.a"] == ["0"] and advertisement["icmpv6.opt.prefix.flag.l"] == ["1"]
    assert advertisement["icmpv6.checksum.status"] == ["1"] and advertisement["icmpv6.opt.rdnss"] == ["fd00:16::2"]
    kinds = [frame["dhcpv6.msgtype"][0] for frame in frames if "dhcpv6.msgtype" in frame]
    assert list(dict.fromkeys(kinds)) == ["1", "2", "3", "7"]
    for frame in frames:
        assert "_ws.malformed" not in frame
        if frame.get("dhcpv6.msgtype", ["0"])[0] in ("2", "7"):
            assert frame["udp.checksum.status"] == ["1"]


def test_a_guest_with_another_mac_gets_silence(scene, guest):
    guest.use("02:00:00:00:00:66")
    try:
        with Capture(guest.name, "eth0", scene.folder / "foreign.pcapng") as capture:
            status, told = guest.udhcpc(in_vain=True)
            assert status != 0 and told == {}
            assert {frame["dhcp.option.dhcp"][0] for frame in capture.frames("dhcp", 3)} == {"1"}
    finally:
        guest.use(guest.mac)
    assert "nor its binding's" in scene.log()


def test_a_neighbours_lease_cannot_be_had_with_the_neighbours_mac(scene, guest):
    thief = scene.machine("thief", mac=guest.mac)
    status, told = thief.udhcpc(in_vain=True)
    assert status != 0 and told == {}
    thief.use(thief.mac)
    status, told = thief.udhcpc("-r", "10.16.0.10")
    assert status == 0 and told["ip"] == "10.16.0.11", "and who asks for it gets its own"


def test_what_virt_launcher_answers_itself_is_left_to_it(scene, guest):
    # The binding `bridge`: the bridge has an address, and virt-launcher answers DHCPv4 from it, and nothing else.
    ip("-n", guest.pod.name, "address", "add", "169.254.75.10/32", "dev", "k6t-eth0")
    try:
        assert guest.udhcpc(in_vain=True)[0] != 0
        assert "new_ip6_address" in guest.dhclient(6)[1]
    finally:
        ip("-n", guest.pod.name, "address", "del", "169.254.75.10/32", "dev", "k6t-eth0")
    assert guest.udhcpc()[0] == 0
    # The binding `masquerade`: the pod's interface is no port of the bridge.
    ip("-n", guest.pod.name, "link", "set", "eth0-nic", "nomaster")
    try:
        assert guest.udhcpc(in_vain=True)[0] != 0
    finally:
        ip("-n", guest.pod.name, "link", "set", "eth0-nic", "master", "k6t-eth0")
    assert guest.udhcpc()[0] == 0


def test_no_answer_gets_out_to_the_wire(scene, guest):
    with Capture("wire", "to-node-a", scene.folder / "wire.pcapng") as capture:
        assert guest.udhcpc()[0] == 0
        capture.frames("dhcp.option.dhcp == 3", 1)
        frames = capture.frames("dhcp", 2)
    assert {frame["dhcp.option.dhcp"][0] for frame in frames} == {"1", "3"}, "the guest's own questions, as ever"


def test_a_vms_annotations_set_options_and_switch_dhcp_off(scene):
    guest = scene.machine("options", annotations={
        "ovn.kubernetes.io/dhcp-v4-options":
            "lease_time=3600,router=10.16.0.4,dns_server={1.1.1.1,8.8.8.8},hostname=\"other\",mtu=1400,ntp_server=10.16.0.5,"
            "classless_static_route={172.16.0.0/12,10.16.0.6}"})
    status, told = guest.udhcpc()
    assert status == 0
    assert (told["lease"], told["router"], told["dns"], told["hostname"], told["mtu"], told["ntpsrv"]) == (
        "3600", "10.16.0.4", "1.1.1.1 8.8.8.8", "other", "1400", "10.16.0.5")
    assert told["staticroutes"] == "172.16.0.0/12 10.16.0.6 0.0.0.0/0 10.16.0.4"
    silent = scene.machine("silent", annotations={"holdfast.dev/dhcp": "false"})
    assert silent.udhcpc(in_vain=True)[0] != 0


def test_it_is_the_same_with_macvlan_which_has_no_end_on_the_host(scene):
    if subprocess.run(["ip", "-n", "router", "link", "add", "probe0", "link", "eth0", "type", "macvlan"],
                      capture_output=True).returncode != 0:
        pytest.skip("this kernel has no macvlan")
    scene.kubelet.delegate = {"type": "macvlan", "master": "br-vm"}
    try:
        guest = scene.machine("macvlan")
    finally:
        scene.kubelet.delegate = None
    status, told = guest.udhcpc()
    assert status == 0 and told["ip"] == scene.stage.bindings()["macvlan"]["assignments"][0]["address"]


def test_after_del_nothing_of_the_port_is_left(scene):
    guest = scene.machine("leaving")
    assert guest.udhcpc()[0] == 0
    ports = scene.stage.folder / "state-node-a/ports"
    record = f"{guest.pod.container_id}-eth0.json"
    assert record in os.listdir(ports)
    namespace = os.stat(f"{NAMESPACES}/{guest.pod.name}").st_ino
    scene.cluster.terminate(guest.pod.manifest)
    scene.kubelet.stop(guest.pod)
    assert record not in os.listdir(ports)

    def holders():
        pid = next(process.pid for name, process in scene.stage.processes if name == "agent-node-a")
        # What is closed while it is looked at has no link any more.
        links = [link for fd in Path(f"/proc/{pid}/fd").iterdir() for link in [read_link(fd)]]
        return [link for link in links if str(namespace) in link]

    assert holders() == []
    # With the pod's namespace the guest's cable is gone, which only the namespace's end can do.
    wait_until("the namespace has ended", lambda: "eth0" not in ip("-n", guest.name, "link", "show"))


def test_a_committed_migration_is_announced_by_the_target_and_renewals_go_on(scene):
    source = scene.machine("moving", node="node-a")
    assert source.udhcpc()[0] == 0
    # As the guest would: the target's pod must come up although the source's guest defends its addresses.
    four, six = (a["address"] for a in scene.stage.bindings()["moving"]["assignments"])
    ip("-n", source.name, "address", "add", f"{four}/16", "dev", "eth0")
    ip("-n", source.name, "address", "add", f"{six}/128", "dev", "eth0", "nodad")
    migration = scene.cluster.create_migration(source.instance)
    pod = scene.cluster.create_pod(source.instance, "node-b", migration)
    scene.cluster.set_phase(migration, "Scheduling")
    scene.kubelet.start(pod)
    target = Guest(scene, "moving-node-b", pod, source.mac)
    scene.cluster.hand_off(migration, source.instance, source.pod, pod)
    address = scene.stage.bindings()["moving"]["assignments"][0]["address"]
    with Capture("router", "eth0", scene.folder / "announce.pcapng") as capture:
        scene.cluster.target_ready(source.instance, pod)
        wait_until("the ledger has committed", lambda: scene.stage.bindings()["moving"]["active"]["podUid"] == pod.uid)
        status, told = target.udhcpc("-r", address)
        assert status == 0 and told["ip"] == address, "the guest renews where it runs now"
        # Each address three times.
        announced = capture.frames(f"arp.isgratuitous == 1 && arp.src.proto_ipv4 == {address}", 3)
        advertised = capture.frames("icmpv6.type == 136 && icmpv6.nd.na.flag.o == 1", 3)
    assert {frame["eth.src"][0] for frame in announced + advertised} == {source.mac}
    six = scene.stage.bindings()["moving"]["assignments"][1]["address"]
    assert {frame["icmpv6.nd.na.target_address"][0] for frame in advertised} == {six}


def test_answers_go_on_without_server_and_after_an_agents_restart(scene, guest):
    scene.stage.end("server")
    scene.stage.end("agent-node-a")
    status, _ = guest.udhcpc(in_vain=True)
    assert status != 0, "nobody but the agent answers"
    scene.stage.launch_agent("node-a")
    # The last of these tests: how soon the agent finds a server again is another matter.
    status, told = wait_until("the agent answers again", lambda: (a := guest.udhcpc(in_vain=True))[0] == 0 and a)
    assert told["ip"] == "10.16.0.10"
