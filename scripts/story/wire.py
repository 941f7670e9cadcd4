"""Two nodes and a router on one bridged wire, each in a network namespace.

The story runs in a mount and network namespace of its own (`enter`), so all of this is gone when it ends, however it
ends, and nothing of it is seen by the rest of the machine.
"""

import json
import os
import re
import signal
import subprocess
import sys

BRIDGE = "br-vm"
ROUTER = "10.16.0.1"
# The pod's end of its cable once virt-handler has taken it over for the guest.
NIC = "eth0-nic"
NAMESPACES = "/run/netns"

_PROBE = f"""set -e
mkdir -p {NAMESPACES}
mount -t tmpfs none {NAMESPACES}
ip netns add probe
ip -n probe link add br0 type bridge
ip -n probe link add p0 type veth peer name p1
bridge -n probe link >/dev/null
nsenter --net={NAMESPACES}/probe true
"""


def _unshare():
    # Who is not root becomes root in a user namespace, where the kernel allows that.
    return ["unshare", "--net", "--mount"] if os.geteuid() == 0 else [
        "unshare", "--user", "--map-root-user", "--net", "--mount"]


def why_not():
    """Why network namespaces cannot be made here, or None."""
    try:
        done = subprocess.run([*_unshare(), "sh", "-c", _PROBE], capture_output=True, text=True, timeout=20)
    except FileNotFoundError as error:
        return f"there is no {error.filename}"
    except subprocess.TimeoutExpired:
        return "making one takes longer than 20 s"
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[-1]


def enter(arguments, module="story"):
    """Starts the story anew, inside namespaces of its own."""
    script = f"mkdir -p {NAMESPACES} && mount -t tmpfs none {NAMESPACES} && ip link set lo up && exec \"$@\""
    command = [*_unshare(), "sh", "-c", script, "sh", sys.executable, "-m", module, "--inside", *arguments]
    os.execvp(command[0], command)


def ip(*arguments):
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class Wire:
    def __init__(self):
        for name in ("wire", "node-a", "node-b", "router"):
            ip("netns", "add", name)
        ip("-n", "wire", "link", "add", "wire0", "type", "bridge")
        ip("-n", "wire", "link", "set", "wire0", "up")
        for name, port in (("node-a", "uplink"), ("node-b", "uplink"), ("router", "eth0")):
            ip("-n", "wire", "link", "add", f"to-{name}", "type", "veth", "peer", "name", port, "netns", name)
            ip("-n", "wire", "link", "set", f"to-{name}", "master", "wire0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", port, "up")
        for node in ("node-a", "node-b"):
            ip("-n", node, "link", "add", BRIDGE, "type", "bridge")
            ip("-n", node, "link", "set", BRIDGE, "up")
            ip("-n", node, "link", "set", "uplink", "master", BRIDGE)
        ip("-n", "router", "address", "add", f"{ROUTER}/16", "dev", "eth0")

    def inside(self, namespace, command):
        return ["nsenter", f"--net={NAMESPACES}/{namespace}", *command]

    def add_namespace(self, name):
        ip("netns", "add", name)

    def delete_namespace(self, name):
        ip("netns", "delete", name)

    def interface(self, namespace):
        """(IPv4 address, MAC) of a pod's interface, as the kernel has them; None where it is missing or down."""
        for link in json.loads(ip("-j", "-n", namespace, "address", "show") or "[]"):
            if link.get("ifname") in ("eth0", NIC) and "UP" in link["flags"]:
                addresses = [info["local"] for info in link["addr_info"] if info["family"] == "inet"]
                return (addresses[0] if addresses else None, link["address"])
        return None

    def start_guest(self, namespace):
        """virt-handler takes the interface over, and the guest speaks (KubeVirt pkg/network/setup/netpod). Nobody else is in
        this pod, so that the interface itself stands for the guest's."""
        ip("-n", namespace, "link", "set", "eth0", "down")
        ip("-n", namespace, "link", "set", "eth0", "name", NIC)
        ip("-n", namespace, "link", "set", NIC, "up")

    def stop_guest(self, namespace):
        ip("-n", namespace, "link", "set", NIC, "down")

    def point(self, mac, node, port):
        """Makes `port` on `node` the place of `mac` in the whole network, whoever else sends with that MAC.

        This is the network's share of a live migration: OVN does it by binding the logical port to a node, an EVPN
        fabric by moving the route. Until the switch the target's frames must not draw the VM's traffic to it.
        """
        self._pin("wire", f"to-{node}", mac)
        for other in ("node-a", "node-b"):
            self._pin(other, port if other == node else "uplink", mac)

    def _pin(self, namespace, port, mac):
        subprocess.run(
            ["bridge", "-n", namespace, "fdb", "replace", mac, "dev", port, "master", "static", "sticky"],
            check=True, capture_output=True)

    def ping(self, address):
        """Whether the address answers on the wire, and the MAC that answers for it."""
        ip("-n", "router", "neigh", "flush", "all")
        done = subprocess.run(
            self.inside("router", ["ping", "-n", "-c", "1", "-W", "2", address]), capture_output=True, text=True)
        neighbours = json.loads(ip("-j", "-n", "router", "neigh", "show", address) or "[]")
        return done.returncode == 0, next((n["lladdr"] for n in neighbours if "lladdr" in n), None)

    def start_pinging(self, address):
        return subprocess.Popen(
            self.inside("router", ["ping", "-n", "-i", "0.02", "-W", "1", address]), stdout=subprocess.PIPE, text=True)

    def stop_pinging(self, process):
        """(sent, answered)"""
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=10)
        match = re.search(r"(\d+) packets transmitted, (\d+) received", output)
        return (int(match[1]), int(match[2])) if match else (0, 0)
