"""What virt-handler makes of a pod's interface for KubeVirt's network binding managedTap.

KubeVirt pkg/network/setup/netpod/netpod.go, managedTapSpec: the interface is renamed and becomes a port of a bridge, which
gives it another MAC; the guest's tap is the other port; a dummy takes the interface's name, MAC and addresses, so that
CNI CHECK finds them.
"""

import json
import subprocess
from contextlib import contextmanager

from story.wire import NAMESPACES, ip

BRIDGE, NIC, TAP = "k6t-eth0", "eth0-nic", "tap0"


@contextmanager
def open_in(namespace, path):
    """A file of /proc/sys/net to write, as the namespace has it."""
    writing = subprocess.Popen(
        ["nsenter", f"--net={NAMESPACES}/{namespace}", "tee", path], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    with writing.stdin:
        yield writing.stdin
    if writing.wait(10) != 0:
        raise OSError(f"{path} of {namespace} cannot be written")


def managed_tap(pod, make_tap):
    """`make_tap(pod, name)` makes the port on the guest's side. Gives back the MAC that the guest must have."""
    [link] = json.loads(ip("-j", "-n", pod, "address", "show", "eth0"))
    ip("-n", pod, "link", "add", BRIDGE, "type", "bridge")
    [bridge] = json.loads(ip("-j", "-n", pod, "link", "show", BRIDGE))
    ip("-n", pod, "link", "set", "eth0", "down")
    ip("-n", pod, "address", "flush", "dev", "eth0")
    ip("-n", pod, "link", "set", "eth0", "name", NIC, "address", bridge["address"])
    ip("-n", pod, "link", "set", NIC, "master", BRIDGE)
    ip("-n", pod, "link", "set", NIC, "type", "bridge_slave", "learning", "off")
    make_tap(pod, TAP)
    ip("-n", pod, "link", "set", TAP, "mtu", str(link["mtu"]), "master", BRIDGE, "up")
    ip("-n", pod, "link", "set", BRIDGE, "up")
    ip("-n", pod, "link", "set", NIC, "up")
    try:
        ip("-n", pod, "link", "add", "eth0", "type", "dummy")
    except OSError:
        # A kernel without dummies: a bridge without ports holds a MAC and addresses just as well.
        ip("-n", pod, "link", "add", "eth0", "type", "bridge")
    ip("-n", pod, "link", "set", "eth0", "address", link["address"], "mtu", str(link["mtu"]))
    for address in link["addr_info"]:
        if address["scope"] == "global":
            ip("-n", pod, "address", "add", f"{address['local']}/{address['prefixlen']}", "dev", "eth0")
    # Or the pod answered for the guest's address.
    with open_in(pod, "/proc/sys/net/ipv4/conf/all/arp_ignore") as setting:
        setting.write(b"1")
    return link["address"]
