"""What `make test` does with a suite that hangs."""

import os
import subprocess

import pytest
from processes import DEADLINE, REPOSITORY

SCRIPT = (REPOSITORY / "scripts/test").read_text()

# What hangs has started something that holds its output, in a session of its own.
MAKE = """#!/bin/sh
case "$*" in
*test-outside) setsid sleep 100 & sleep 100 ;;
*) echo "Test run with 1 test passed." && echo "=== 1 passed in 0.01s ===" ;;
esac
"""


@pytest.mark.skipif(
    subprocess.run("unshare --pid --fork --kill-child --mount-proc true".split(), capture_output=True).returncode != 0,
    reason="PID namespaces cannot be made here")
def test_a_suite_that_hangs_is_ended_with_all_it_started_and_the_next_one_runs(tmp_path):
    (tmp_path / "scripts").mkdir()
    for name, text in {"scripts/test": SCRIPT.replace("[test-outside]=20m", "[test-outside]=1s"), "make": MAKE}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    run = subprocess.run(
        [tmp_path / "scripts/test"], env=os.environ | {"MAKE": str(tmp_path / "make")}, capture_output=True, text=True, timeout=DEADLINE)
    assert run.returncode == 1
    assert run.stdout.splitlines()[-3:] == [
        "test-swift    Test run with 1 test passed.", "test-outside  ended at its limit of 1s",
        "test-chart    === 1 passed in 0.01s ==="]
