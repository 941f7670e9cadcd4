"""What the log tells of one request: the facts have the same keys everywhere, and one trace ties its lines together."""

import fcntl
import json
import os
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from client import Client, vm
from conftest import POOL
from processes import Agent, Server, binaries, environment, wait_until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def add(agent, container, **variables):
    """As `bridge` calls its address plugin."""
    network = {"cniVersion": "1.0.0", "name": "vm-net", "type": "bridge",
               "ipam": {"type": "holdfast-cni", "pool": "vm-net", "socket": str(agent.socket)}}
    result = subprocess.run(
        [binaries() / "holdfast-cni"], input=json.dumps(network), capture_output=True, text=True, timeout=30,
        env={**environment(), "CNI_COMMAND": "ADD", "CNI_CONTAINERID": container, "CNI_NETNS": "/run/netns/x",
             "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin",
             "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web", **variables})
    assert result.returncode == 0, result.stdout
    return json.loads(result.stdout)


def lines(log, message):
    return [line for line in map(json.loads, log.read_text().splitlines()) if line["message"] == message]


def test_no_annotation_begins_a_line_of_the_log(tmp_path):
    agent = Agent(tmp_path, f"unix:{tmp_path}/nobody.sock")
    forged = "2026-01-01T00:00:00Z critical: forged"
    (agent.manifests / "web.yaml").write_text(json.dumps({
        "apiVersion": "v1", "kind": "Pod", "metadata": {
            "namespace": "default", "name": "web", "uid": "u1",
            "annotations": {"holdfast.dev/mac": f"x\n{forged}\r\x1b[2J\x7f\x9b"}}, "spec": {"nodeName": "node-a"}}))
    try:
        agent.start()
        with pytest.raises(AssertionError):
            add(agent, "c1")
        [line] = [line for line in agent.log.read_text().split("\n") if forged in line]
        assert "ADD refused" in line and f"x\\u000a{forged}\\u000d\\u001b[2J\\u007f\\u009b" in line
    finally:
        agent.stop()


def test_one_request_is_followed_by_owner_and_trace(tmp_path):
    pools = tmp_path / "pools.yaml"
    pools.write_text("[{name: vm-net, prefixes: [{prefix: 10.16.0.0/24}]}]")
    server = Server(
        tmp_path, "--pools", str(pools), "--log-format", "json", "--log-level", "debug",
        listen=(f"unix:{tmp_path}/server.sock",)).start()
    agent = Agent(tmp_path, f"unix:{tmp_path}/server.sock", "--log-format", "json")
    (agent.manifests / "web.yaml").write_text(
        "{apiVersion: v1, kind: Pod, metadata: {namespace: default, name: web, uid: u1}, spec: {nodeName: node-a}}")
    try:
        agent.start()
        # A runtime that traces, and one that does not.
        address = add(agent, "c1", TRACEPARENT=f"00-{TRACE}-00f067aa0ba902b7-01")["ips"][0]["address"].split("/")[0]
        add(agent, "c2")
        first, second = lines(agent.log, "attached")
        told = {"owner": "pod default/web (vm-net/eth0)", "addresses": address, "pod": "web", "container": "c1",
                "node": "node-a", "trace_id": TRACE}
        assert told.items() <= first.items() and first["mac"]
        assert re.fullmatch("[0-9a-f]{32}", second["trace_id"]) and second["trace_id"] != TRACE
        # The same request at the server.
        served = lines(server.log, "allocate")
        assert [it["trace_id"] for it in served] == [TRACE, second["trace_id"]]
        # Written by a task of its own, after the answer.
        [allocated, *_] = wait_until("the audit line is written", lambda: lines(server.log, "allocated"))
        assert allocated["trace_id"] == TRACE
        assert {key: told[key] for key in ("owner", "addresses", "pod", "node", "container")}.items() <= served[0].items()
        for log in (server.log, agent.log):
            for line in map(json.loads, log.read_text().splitlines()):
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", line["time"]), line
    finally:
        agent.stop()
        server.stop()


def test_no_line_gets_into_another(tmp_path):
    """The log of requests and the audit log are written by several threads, and by more than a pipe takes at once."""
    server = Server(tmp_path, "--log-format", "json", "--log-level", "debug")
    server.log = tmp_path / "log"
    os.mkfifo(server.log)
    text = bytearray()

    def read():
        with open(server.log, "rb", buffering=0) as log:
            fcntl.fcntl(log, fcntl.F_SETPIPE_SZ, 4096)
            while piece := log.read(512):
                text.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    server.start()
    client = Client(server.target)
    try:
        client.call("Pools.CreatePool", {"pool": {**POOL, "prefixes": [{"prefix": "10.16.0.0/16"}]}})
        with ThreadPoolExecutor(64) as threads:
            list(threads.map(lambda number: client.allocate(vm(f"vm-{number}")), range(1000)))
    finally:
        client.close()
        assert server.stop() == 0
        reader.join()
    messages = [json.loads(line)["message"] for line in text.splitlines()]
    assert messages.count("allocate") == messages.count("allocated") == 1000
