"""The demo, whole, in both forms."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from processes import REPOSITORY, binaries, wait_until

sys.path.insert(0, str(REPOSITORY / "scripts"))
from story import wire  # noqa: E402

pytestmark = pytest.mark.demo
NETNS = pytest.mark.skipif(
    (reason := wire.why_not()) is not None, reason=f"network namespaces cannot be made here: {reason}")


@pytest.fixture
def folder():
    """The demo's TMPDIR, which is looked at afterwards. A unix socket's path is short, so it is not below pytest's."""
    folder = tempfile.mkdtemp(prefix="hf-", dir="/tmp")
    yield folder
    shutil.rmtree(folder)


def start(tmp_path, folder, *arguments):
    return subprocess.Popen(
        [REPOSITORY / "scripts/demo", "--binaries", binaries(), *arguments], env=os.environ | {"TMPDIR": folder},
        stdout=open(tmp_path / "out", "w"), stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def tell(tmp_path, folder, *arguments):
    process = start(tmp_path, folder, *arguments)
    status = process.wait(240)
    output = (tmp_path / "out").read_text()
    print(output)
    return status, output, list(Path(folder).iterdir())


@NETNS
def test_with_network_interfaces_the_addresses_are_held(tmp_path, folder):
    status, output, left = tell(tmp_path, folder)
    assert status == 0 and "Addresses held" in output
    assert "10.16.0.15" in output and "SILENT" not in output
    assert re.search(r"\d+\s+of\s+\d+\s+answered", output)
    assert left == [], "nothing is left behind"


def test_without_network_interfaces_the_same_story_is_told(tmp_path, folder):
    status, output, left = tell(tmp_path, folder, "--no-netns")
    assert status == 0 and "Addresses held" in output and "without network interfaces" in output
    assert left == []


@NETNS
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_story_that_is_broken_off_leaves_nothing_running(tmp_path, folder, how):
    process = start(tmp_path, folder)
    wait_until("the story has begun", lambda: "1. " in (tmp_path / "out").read_text())
    process.send_signal(how)
    assert process.wait(60) != 0

    def running():
        listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        return [line for line in listing.splitlines() if folder in line]

    wait_until("its programs have ended", lambda: not running())
