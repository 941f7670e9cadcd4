"""holdfast, the operator's command."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from client import launcher, vm
from processes import DEADLINE, Server, binaries, environment, run, wait_until


@pytest.fixture
def holdfast(server, client):
    def call(*arguments):
        return run("holdfast", *arguments, "--server", server.target)

    return call


@pytest.fixture
def one(client):
    client.allocate(vm("testvm"), launcher(1), addresses=["10.16.0.15"])
    return client


def test_lists_are_tables_that_a_person_can_read(holdfast, one):
    bindings = holdfast("binding", "list")
    assert bindings.returncode == 0
    head, row = bindings.stdout.strip().splitlines()
    assert head.isupper() and all(word in row for word in ("testvm", "10.16.0.15", "node-a"))
    pools = holdfast("pool", "list")
    assert pools.returncode == 0 and "vm-net" in pools.stdout and "10.16.0.0/24" in pools.stdout


@pytest.mark.parametrize("read", [json.loads, yaml.safe_load])
def test_json_and_yaml_are_the_apis_own_fields(holdfast, one, read):
    form = "json" if read is json.loads else "yaml"
    done = holdfast("binding", "show", "10.16.0.15", "-o", form)
    assert done.returncode == 0, done.stderr
    binding = read(done.stdout)
    assert binding["owner"]["name"] == "testvm" and binding["assignments"][0]["address"] == "10.16.0.15"
    assert binding["active"]["node"] == "node-a" and binding["mac"] == one.binding(vm())["mac"]


def test_what_is_not_there_is_status_1_and_says_so(holdfast):
    done = holdfast("binding", "show", "10.16.0.99")
    assert done.returncode == 1 and "10.16.0.99" in done.stderr and done.stdout == ""


def test_a_server_that_is_not_there_is_status_1_with_a_hint():
    done = run("holdfast", "pool", "list", "--server", "127.0.0.1:1")
    assert done.returncode == 1 and "127.0.0.1:1" in done.stderr and "hint" in done.stderr


@pytest.mark.parametrize("arguments", [["no-such-command"], ["binding", "list", "--no-such-flag"], ["-o", "xml"]])
def test_wrong_usage_is_status_2(arguments):
    done = run("holdfast", *arguments)
    assert done.returncode == 2 and done.stderr.strip()


def test_version():
    done = run("holdfast", "version")
    assert done.returncode == 0 and done.stdout.strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a process namespace")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_watch_that_is_a_containers_first_process_ends_when_it_is_told_to(server, one, number):
    # With its own /proc, as a container has it: where a thread's number there is another's, libdispatch traps.
    command = [
        "unshare", "--pid", "--fork", "--mount-proc", "--kill-child", str(binaries() / "holdfast"), "watch", "--server",
        server.target]
    watch = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert watch.stdout.readline()
        child = int(Path(f"/proc/{watch.pid}/task/{watch.pid}/children").read_text())
        os.kill(child, number)
        watch.wait(timeout=DEADLINE)
    finally:
        watch.kill()
        watch.wait()


def test_a_watch_outlives_a_restart_of_the_server_and_shows_nothing_twice(tmp_path):
    server = Server(tmp_path, listen=(f"unix:{tmp_path}/server.sock",)).start()

    def call(*arguments):
        done = run("holdfast", *arguments, "--server", server.target)
        assert done.returncode == 0, done.stderr

    pools, output = tmp_path / "pools.yaml", tmp_path / "watch.out"
    pools.write_text("{name: vm-net, is_default: true, prefixes: [{prefix: 10.16.0.0/24}]}")
    call("pool", "create", "-f", str(pools))
    call("reserve", "default/before", "--network", "vm-net/eth0")
    with open(output, "wb") as file:
        watch = subprocess.Popen(
            [str(binaries() / "holdfast"), "watch", "--server", server.target], env=environment(), stdout=file,
            stderr=subprocess.DEVNULL)
    try:
        wait_until("the watch is up to date", lambda: "SYNCED" in output.read_text())
        server.restart()
        call("reserve", "default/after", "--network", "vm-net/eth0")
        wait_until("the watch goes on", lambda: "after" in output.read_text())
    finally:
        watch.kill()
        watch.wait()
        server.stop()
    events = [line.split()[:3:2] for line in output.read_text().splitlines()]
    assert events == [["EVENT", "NAME"], ["CREATED", "before"], ["SYNCED", "follows"], ["CREATED", "after"]]


def test_a_directory_as_the_pools_file_is_named(tmp_path):
    store = ["--store", f"sqlite:{tmp_path}/ledger.sqlite", "--listen", f"unix:{tmp_path}/server.sock", "--http", "off"]
    done = run("holdfast-server", *store, "--pools", str(tmp_path))
    assert done.returncode == 1
    assert f"error: {tmp_path} cannot be read: Is a directory: --pools needs a file" in done.stderr


def test_a_value_that_is_wrong_is_named_by_its_variable():
    variables = {**environment(), "HOLDFAST_LOG_LEVEL": "loud"}
    done = subprocess.run(
        [str(binaries() / "holdfast-server")], env=variables, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 2 and "'loud'" in done.stderr and "HOLDFAST_LOG_LEVEL" in done.stderr
