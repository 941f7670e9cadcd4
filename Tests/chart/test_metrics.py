"""What server and agent show at /metrics is what docs/metrics.md says, and Prometheus' own tool has no objection."""

import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from api_server import APIServer
from chart import REPOSITORY
from client import Client
from processes import Agent, Server, wait_until

EMPTY = {
    "/api/v1/pods": "PodList", "/apis/kubevirt.io/v1/virtualmachines": "VirtualMachineList",
    "/apis/kubevirt.io/v1/virtualmachineinstances": "VirtualMachineInstanceList",
    "/apis/kubevirt.io/v1/virtualmachineinstancemigrations": "VirtualMachineInstanceMigrationList",
}


def documented():
    """Name to (type, labels), of the tables."""
    text = (REPOSITORY / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (gauge|counter|histogram) \|([^|]*)\|", text, re.M)
    return {name: (kind, {label.strip() for label in labels.split(",") if label.strip()}) for name, kind, labels in rows}


def read(text):
    """Name to (type, labels); labels are None where no sample shows any."""
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M))
    assert set(types) == set(re.findall(r"^# HELP (\w+) \S", text, re.M))
    labels = dict.fromkeys(types)
    for name, _, inside in re.findall(r"^(\w+)(\{(.*)\})? \S+$", text, re.M):
        family = name if name in types else re.sub("_(bucket|sum|count)$", "", name)
        labels[family] = (labels[family] or set()) | set(re.findall(r'(\w+)="', inside)) - {"le"}
    return {name: (kind, labels[name]) for name, kind in types.items()}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(port):
    """Nothing while it is not served yet."""
    try:
        return get_now(port)
    except urllib.error.URLError:
        return ""


def get_now(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return answer.read().decode()


@pytest.fixture(scope="module")
def exposed(tmp_path_factory):
    """The texts of a server and an agent that have something to tell of everything."""
    folder = tmp_path_factory.mktemp("metrics")
    ports = {"server": free_port(), "agent": free_port()}
    with APIServer() as cluster:
        for path, kind in EMPTY.items():
            version = "v1" if path.startswith("/api/") else "kubevirt.io/v1"
            cluster.objects[path] = {
                "kind": kind, "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": []}
        (folder / "kubeconfig").write_text(f"""
current-context: x
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{cluster.server.server_port}"}}}}]
users: [{{name: u, user: {{token: secret}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
""")
        kubernetes = ["--kubeconfig", str(folder / "kubeconfig")]
        server = Server(
            folder, "--http", f"127.0.0.1:{ports['server']}", "--kubernetes", *kubernetes,
            listen=(f"unix:{folder}/server.sock",)).start()
        agent = Agent(folder, f"unix:{folder}/server.sock", "--http", f"127.0.0.1:{ports['agent']}", *kubernetes)
        agent.command[agent.command.index("--pods") + 1] = "kubernetes"
        client = Client(server.target)
        try:
            agent.start()
            client.call("Pools.CreatePool", {"pool": {"name": "vm-net", "prefixes": [{"prefix": "10.16.0.0/24"}]}})
            wait_until("the lifecycle has compared", lambda: re.search(
                r'^holdfast_lifecycle_passes_total\{pass="compare",result="complete"\} [1-9]', get(ports["server"]), re.M))
            wait_until("the agent follows", lambda: len(re.findall(
                r"^holdfast_agent_watch_synced\{.*\} 1$", get(ports["agent"]), re.M)) == 3)
            yield {name: get(port) for name, port in ports.items()}
        finally:
            client.close()
            agent.stop()
            server.stop()


def test_the_documented_metrics_are_those_that_the_programs_show(exposed):
    shown = read(exposed["server"]) | read(exposed["agent"])
    told = documented()
    assert set(shown) == set(told)
    for name, (kind, labels) in shown.items():
        assert kind == told[name][0], name
        if labels is not None:
            assert labels == told[name][1], name
    # Only this one has no sample where one server leads alone.
    assert [name for name, (_, labels) in shown.items() if labels is None] == ["holdfast_leader_info"]


def test_the_server_s_names_and_the_agent_s_are_told_apart(exposed):
    assert not set(read(exposed["server"])) & set(read(exposed["agent"]))
    assert all(name.startswith("holdfast_agent_") for name in read(exposed["agent"]))


@pytest.mark.parametrize("program", ["server", "agent"])
def test_prometheus_has_no_objection_to_names_and_texts(exposed, program):
    promtool = Path(sys.executable).parent / "promtool"
    assert promtool.exists(), "there is no promtool: run scripts/setup"
    result = subprocess.run(
        [promtool, "check", "metrics"], input=exposed[program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
