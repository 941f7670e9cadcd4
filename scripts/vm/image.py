"""The guest: Debian's cloud kernel, and an initramfs of busybox with the modules that a virtio network card needs."""

import gzip
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

from story.stage import REPOSITORY, StageError

CACHE = REPOSITORY / ".build/vm-demo"
BUSYBOX = "/bin/busybox"
# In the order in which they need one another.
MODULES = [
    "virtio/virtio_ring", "virtio/virtio", "virtio/virtio_pci_modern_dev", "virtio/virtio_pci_legacy_dev",
    "virtio/virtio_pci", "net/core/failover", "net/net_failover", "net/virtio_net",
]

INIT = """#!/bin/sh
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mkdir -p /dev/shm
echo 3 > /proc/sys/kernel/printk
for module in {modules}; do insmod /modules/$module; done
ip link set lo up
ip link set eth0 up
echo "guest: up after $(cut -d' ' -f1 /proc/uptime) s with $(cat /sys/class/net/eth0/address)"
udhcpc -i eth0 -s /dhcp -f -t 20 -T 5 -O staticroutes -O hostname -O mtu &
# The state that a migration must carry: a number that goes up ten times a second, in a process since boot.
(n=0; while true; do n=$((n+1)); echo $n > /dev/shm/next; mv /dev/shm/next /dev/shm/count; usleep 100000; done) &
nc -ll -p 7000 -e /count
"""

# Called by udhcpc. With what the server says the guest has all of its network.
DHCP = """#!/bin/sh
case $1 in
    deconfig) echo "guest: no lease yet" ;;
    bound|renew)
        ip addr replace $ip/$mask dev eth0
        [ "$mtu" ] && ip link set eth0 mtu $mtu
        for r in $router; do ip route replace default via $r; done
        [ "$hostname" ] && hostname $hostname
        echo "guest: $1 $ip/$mask router $router host $hostname lease $lease"
        ;;
    nak) echo "guest: refused" ;;
esac
"""

# Whoever connects is told the number, line by line, for as long as the session lives.
COUNT = """#!/bin/sh
last=
while true; do
    read now < /dev/shm/count
    [ "$now" != "$last" ] && echo $now
    last=$now
    usleep 20000
done
"""


def _archive(entries):
    """A cpio archive (newc: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst)."""
    blocks = []
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        blocks.append(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))
    return b"".join(blocks)


def _run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise StageError(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _unpack_kernel():
    """Debian's kernel package, downloaded once and unpacked, never installed."""
    kernel = CACHE / "kernel"
    if not (kernel / "complete").exists():
        shutil.rmtree(kernel, ignore_errors=True)
        kernel.mkdir(parents=True)

        def download():
            # The name without a version depends on the newest one.
            depends = _run("apt-cache", "depends", "linux-image-cloud-amd64")
            package = re.search(r"Depends: (linux-image-\S+)", depends)[1]
            _run("apt-get", "download", "-q", package, cwd=kernel)

        try:
            download()
        except (StageError, TypeError):
            # No package lists here, or old ones.
            _run("apt-get", "update", "-qq")
            download()
        [package] = kernel.glob("*.deb")
        _run("dpkg-deb", "-x", package, kernel)
        package.unlink()
        (kernel / "complete").touch()
    return kernel


def make():
    """(kernel, initramfs), as QEMU takes them."""
    kernel = _unpack_kernel()
    [image] = (kernel / "boot").glob("vmlinuz-*")
    [modules] = (kernel / "lib/modules").glob("*/kernel")
    directory, program, file = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755, stat.S_IFREG | 0o644
    entries = [(name, directory, b"") for name in ("bin", "proc", "sys", "dev", "modules")]
    entries.append(("bin/busybox", program, Path(BUSYBOX).read_bytes()))
    for applet in _run(BUSYBOX, "--list").split():
        if applet != "busybox":
            entries.append((f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox"))
    names = []
    for module in MODULES:
        path = modules / (f"{module}.ko" if module.startswith("net/core") else f"drivers/{module}.ko")
        names.append(path.name)
        entries.append((f"modules/{path.name}", file, path.read_bytes()))
    for name, text in (("init", INIT.format(modules=" ".join(names))), ("dhcp", DHCP), ("count", COUNT)):
        entries.append((name, program, text.encode()))
    initramfs = CACHE / "initramfs.gz"
    draft = initramfs.with_suffix(f".{os.getpid()}")
    draft.write_bytes(gzip.compress(_archive(entries), 1))
    os.replace(draft, initramfs)
    return image, initramfs
