"""holdfast-server as a process: where it listens, how it ends, what it refuses; of the agent, a port that is taken."""

import signal
import stat
import subprocess
import time
from pathlib import Path

import grpc
import pytest
from client import Client, addresses, launcher, until_arrived, vm
from conftest import POOL
from processes import DEADLINE, Agent, Server, binaries, commits_held, environment, free_port, run, sample, wait_until


def serves(target):
    client = Client(target)
    try:
        return client.call("Pools.ListPools")["pools"] == []
    finally:
        client.close()


def test_the_first_line_says_where_it_listens(server):
    lines = server.output.read_text().splitlines()
    assert lines[0].startswith("listening on 127.0.0.1:") and not lines[0].endswith(":0")
    assert serves(server.target)


def test_it_listens_on_a_unix_socket_and_a_port_at_once(tmp_path):
    server = Server(tmp_path, listen=(f"unix:{tmp_path}/holdfast.sock", "127.0.0.1:0")).start()
    try:
        assert server.addresses[0] == f"unix:{tmp_path}/holdfast.sock"
        assert stat.S_ISSOCK((tmp_path / "holdfast.sock").stat().st_mode)
        assert all(serves(address) for address in server.addresses) and len(server.addresses) == 2
    finally:
        assert server.stop() == 0


def test_a_socket_that_a_killed_server_left_behind_is_in_nobodys_way(tmp_path):
    server = Server(tmp_path, listen=(f"unix:{tmp_path}/holdfast.sock",)).start()
    server.stop(signal.SIGKILL)
    server.start()
    assert serves(server.target)
    assert server.stop() == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_good_order(server, client, how):
    watch = client.watch()
    watch.until_synced()
    assert server.stop(how) == 0
    with pytest.raises(Exception) as error:
        watch.next()
    assert error.value.code in ("UNAVAILABLE", "CANCELLED")


def test_calls_that_it_has_at_sigterm_are_answered(server, client):
    """Each call that it has is answered with its effect; what comes later likewise, or refused without. Afterwards the
    store has what was acknowledged."""
    client.close()
    client = Client(server.restart().target)
    method = client.channel.unary_unary("/holdfast.ipam.v1.IPAM/Allocate")
    requests = [
        client.request("IPAM.Allocate", {"owner": vm(f"vm-{number}"), "attachment": launcher(1)}).SerializeToString()
        for number in range(100)]

    def call(numbers):
        return {f"vm-{number}": method.future(requests[number], timeout=20) for number in numbers}

    with commits_held(server):
        had = call(range(50))
        until_arrived(client)
        server.process.send_signal(signal.SIGTERM)
        late = call(range(50, 100))
        wait_until("it shuts down", lambda: "shutting down" in server.log.read_text())
        # A server that does not wait for its calls has cancelled them by now.
        time.sleep(0.5)
        assert not any(future.done() for future in had.values())
    codes = {name: future.code() for name, future in (had | late).items()}
    client.close()
    assert {codes[name] for name in had} == {grpc.StatusCode.OK}
    assert set(codes.values()) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert server.stop() == 0
    server.start()
    after = Client(server.target)
    kept = {binding["owner"]["name"] for binding in after.bindings(page_size=1000)}
    after.close()
    assert {name for name, code in codes.items() if code == grpc.StatusCode.OK} <= kept


def test_a_second_server_on_the_same_store_is_refused(server, tmp_path):
    second = run("holdfast-server", "--store", f"sqlite:{tmp_path}/ledger.sqlite", "--listen", "127.0.0.1:0")
    assert second.returncode == 1
    assert "ledger.sqlite" in second.stderr and "another" in second.stderr.lower()
    assert serves(server.target)


def test_a_port_that_is_taken_is_refused(server, tmp_path):
    (tmp_path / "other").mkdir()
    second = run("holdfast-server", "--store", f"sqlite:{tmp_path}/other/ledger.sqlite", "--listen", server.target,
                 "--http", "off", "--log-level", "error")
    assert second.returncode == 1
    # One line: nothing of the core's own.
    assert second.stderr.splitlines() == [f"error: cannot listen on {server.target}: Address already in use"]


def test_a_port_for_probes_that_is_taken_is_refused_by_the_agent(server, tmp_path):
    agent = Agent(tmp_path, server.target, "--http", server.target)
    ended = subprocess.run(agent.command, env=environment(), capture_output=True, text=True, timeout=DEADLINE)
    assert ended.returncode == 1
    assert f"cannot listen on {server.target} (--http): Address already in use" in ended.stderr
    assert "name another address with --http" in ended.stderr


def test_a_damaged_store_is_a_clear_error_and_never_an_empty_ledger(server, client, tmp_path):
    client.allocate(vm())
    server.stop()
    store = tmp_path / "ledger.sqlite"
    data = bytearray(store.read_bytes())
    assert len(data) > 8192
    data[4096:] = b"\xa5" * (len(data) - 4096)
    store.write_bytes(data)
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"ledger.sqlite{suffix}").unlink(missing_ok=True)
    done = run("holdfast-server", "--store", f"sqlite:{store}", "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert "ledger.sqlite" in done.stderr and "listening" not in done.stdout


@pytest.mark.parametrize("arguments", [
    ["--no-such-flag"], ["--store", "postgres:somewhere"], ["--log-level", "loud"], ["--listen", "0.0.0.0:7440"]])
def test_wrong_usage_is_status_2(arguments):
    done = run("holdfast-server", *arguments)
    assert done.returncode == 2 and done.stderr.strip()


@pytest.mark.parametrize("address", ["foo", "127.0.0.1", "127.0.0.1:99999", "::1:7440"])
def test_what_is_no_address_to_listen_on_is_told_so(address):
    done = run("holdfast-server", "--listen", address)
    assert done.returncode == 2 and f"--listen {address}: give HOST:PORT" in done.stderr


def test_a_flags_variable_that_says_neither_yes_nor_no_is_wrong_usage():
    done = subprocess.run(
        [binaries() / "holdfast-server"], env={**environment(), "HOLDFAST_AWAIT_RESTORE": "maybe"},
        capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 2 and "HOLDFAST_AWAIT_RESTORE=maybe: give 1, true, yes or on" in done.stderr


def test_any_number_of_connections_may_be_asked_for(tmp_path):
    server = Server(tmp_path, "--max-connections", str((1 << 63) - 1)).start()
    try:
        assert serves(server.target)
    finally:
        server.stop()


def test_the_agent_takes_all_descriptors_that_it_may_have(server, tmp_path):
    agent = Agent(tmp_path, server.target)
    agent.command = ["prlimit", "--nofile=256:3000", *agent.command]
    agent.start()
    try:
        limits = Path(f"/proc/{agent.process.pid}/limits").read_text().splitlines()
        assert [line.split()[3:5] for line in limits if line.startswith("Max open files")] == [["3000", "3000"]]
    finally:
        agent.stop()


@pytest.mark.parametrize("program", ["holdfast-server", "holdfast-agent", "holdfast"])
def test_help_explains(program):
    done = run(program, "--help")
    assert done.returncode == 0 and "USAGE" in done.stdout


def test_a_wrong_pools_file_is_refused_with_the_fields_name(tmp_path):
    pools = tmp_path / "pools.yaml"
    pools.write_text("- name: vm-net\n  prefixes:\n    - prefix: 10.16.0.1/16\n")
    done = run("holdfast-server", "--store", f"sqlite:{tmp_path}/l.sqlite", "--listen", "127.0.0.1:0",
               "--pools", str(pools))
    assert done.returncode == 1 and "prefix" in done.stderr and "10.16.0.0/16" in done.stderr


def test_a_changed_pools_file_is_applied(tmp_path):
    pools = tmp_path / "pools.yaml"
    pools.write_text("- name: vm-net\n  prefixes: [{prefix: 10.16.0.0/24}]\n")
    server = Server(tmp_path, "--pools", str(pools)).start()
    client = Client(server.target)
    try:
        draft = tmp_path / "draft.yaml"
        draft.write_text("- name: vm-net\n  namespace_quota: 5\n  prefixes: [{prefix: 10.16.0.0/24}]\n")
        draft.replace(pools)
        wait_until("the pool has its quota",
                   lambda: client.call("Pools.GetPool", {"name": "vm-net"})["namespace_quota"] == 5)
    finally:
        client.close()
        assert server.stop() == 0


def test_acknowledged_changes_outlive_sigkill(server, client):
    acknowledged = {}
    for number in range(30):
        binding = client.allocate(vm(f"vm-{number}"), launcher(1))["binding"]
        acknowledged[binding["owner"]["name"]] = binding
    server.stop(signal.SIGKILL)
    server.start()
    after = Client(server.target)
    assert {b["owner"]["name"]: b for b in after.bindings(page_size=1000)} == acknowledged
    assert after.call("Pools.GetPool", {"name": POOL["name"]})["usage"][0]["bound"] == 30
    after.close()


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_log_that_cannot_be_written_ends_no_server(tmp_path, form):
    server = Server(tmp_path, "--log-format", form, "--log-level", "debug")
    server.log = Path("/dev/full")
    server.start()
    client = Client(server.target)
    try:
        client.call("Pools.CreatePool", {"pool": POOL})
        for number in range(3):
            client.allocate(vm(f"vm-{number}"))
    finally:
        client.close()
        assert server.stop() == 0


def test_an_empty_ledger_that_awaits_a_backup_gives_nothing_before(server, client, refused, tmp_path):
    """A new volume would give running VMs' addresses away before anybody can restore."""
    held = addresses(client.allocate(vm("held"))["binding"])
    saved = str(tmp_path / "saved.backup")
    assert run("holdfast", "backup", saved, "--server", server.target).returncode == 0

    probes = f"127.0.0.1:{free_port()}"
    other = Server(tmp_path, "--await-restore", "--http", probes, store="new.sqlite")
    other.log = tmp_path / "other.log"
    other.start()
    late = Client(other.target)
    try:
        late.call("Pools.CreatePool", {"pool": POOL})
        for change in (lambda: late.allocate(vm("quick")), lambda: late.free(vm("held"))):
            with refused("UNAVAILABLE", "AWAITS_RESTORE") as error:
                change()
            assert "try again" not in error.value.message
        assert "nobody is given an address until `holdfast restore`" in other.log.read_text()
        assert sample(probes, "holdfast_awaits_restore") == 1
        done = run("holdfast", "restore", saved, "--server", other.target)
        assert done.returncode == 0, done.stderr
        assert sample(probes, "holdfast_awaits_restore") == 0
        assert addresses(late.allocate(vm("held"))["binding"]) == held
        late.close()
        # It has bindings now: the flag is nothing to it.
        other.restart()
        late = Client(other.target)
        assert addresses(late.allocate(vm("held"))["binding"]) == held
    finally:
        late.close()
        other.stop()
