"""A mount and network namespace of the tests' own, so that the demo's wire can be laid in it."""

import ctypes
import os
import subprocess

import pytest
from processes import REPOSITORY  # noqa: F401  (also puts scripts/ on the path, below)

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _call(function, *arguments):
    if getattr(_libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def why_not():
    """Why this process cannot go into namespaces of its own, or None."""
    if os.geteuid() != 0:
        return "only root may"
    from story import wire
    return wire.why_not()


@pytest.fixture(scope="module")
def own_namespaces():
    """The test's process (its main thread, and what that starts) in namespaces of its own, and back afterwards."""
    folder = os.getcwd()
    before = [os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY) for kind in ("net", "mnt")]
    _call("unshare", CLONE_NEWNS | CLONE_NEWNET)
    try:
        for command in ("mount --make-rprivate /", "mkdir -p /run/netns", "mount -t tmpfs none /run/netns",
                        "ip link set lo up"):
            subprocess.run(command.split(), check=True)
        yield
    finally:
        for descriptor in before:
            _call("setns", descriptor, 0)
            os.close(descriptor)
        os.chdir(folder)
