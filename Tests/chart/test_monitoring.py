"""Alerts and dashboard ask for metrics that there are, with labels that they have."""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from chart import MONITORING, REPOSITORY, VARIANTS, merged, one, pods, render

def documented():
    """Series of docs/metrics.md with the labels of each, and what Prometheus adds."""
    found = {}
    for row in re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", (REPOSITORY / "docs/metrics.md").read_text(), re.M):
        name, kind, labels = row
        labels = {label.strip() for label in labels.split(",") if label.strip()} | {"namespace", "pod", "node"}
        if kind == "histogram":
            found |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            found[name] = labels
    # Prometheus' own.
    return found | {"up": {"namespace", "pod", "node", "job"}}


VALUES = {
    "pass": {"compare", "migrations"}, "verb": {"ADD", "DEL", "CHECK", "GC", "STATUS"}, "result": {"ok", "refused", "try_again"}}
SERIES = documented()
NAMED = r"\b((?:holdfast|grpc_server)_\w+|up)\b(?:\{([^}]*)\})?"


def rules():
    return one(render(MONITORING), "PrometheusRule")["spec"]


def dashboard():
    return json.loads(one(render(MONITORING), "ConfigMap", "holdfast-dashboard")["data"]["holdfast.json"])


def queries():
    for group in rules()["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]


@pytest.mark.parametrize("query", list(queries()))
def test_every_query_names_metrics_and_labels_that_there_are(query):
    named = re.findall(NAMED, query)
    assert named
    labels = set()
    for name, selector in named:
        assert name in SERIES
        labels |= SERIES[name]
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", selector)) <= SERIES[name]
        for state in re.findall(r'state="(\w+)"', selector):
            assert state in ("bound", "reserved", "quarantined", "free")
        # The values that are named are those that the program has from its start.
        for label, value in re.findall(r'(pass|verb|result)!?="(\w+)"', selector):
            assert value in VALUES[label]
    for grouping in re.findall(r"\bby \(([^)]*)\)", query):
        assert {label.strip() for label in grouping.split(",")} <= labels


def test_the_dashboard_shows_of_both_families_how_much_is_in_use(tmp_path):
    """An owner gets an address of each: so a pool is as full as the fuller family."""
    (panel,) = [panel for panel in dashboard()["panels"] if panel["title"] == "Addresses in use"]
    given = pool("10.1.0.0/24", "both", 64, 192) + pool("fd00::/124", "both", 12, 4) + pool("fd01::/124", "both", 0, 16)
    expected = {"{{pool}} IPv4": 0.25, "{{pool}} IPv6": 0.375}
    assert [target["legendFormat"] for target in panel["targets"]] == list(expected)
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "1m", "tests": [{
        "interval": "1m", "input_series": [series(*it) for it in given],
        "promql_expr_test": [
            {"expr": target["expr"].replace("$namespace", NAMESPACE["namespace"]), "eval_time": "5m",
             "exp_samples": [{"labels": '{pool="both"}', "value": expected[target["legendFormat"]]}]}
            for target in panel["targets"]]}]}))
    result = subprocess.run([promtool(), "test", "rules", "tests.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_query_stays_in_its_namespace():
    for query in queries():
        assert query.count("namespace=") == len([it for it in re.findall(NAMED, query) if it[1]])


def test_every_alert_says_what_it_means_and_what_to_do():
    for group in rules()["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert rule["annotations"]["summary"].endswith(".") and len(rule["annotations"]["description"]) > 80


def alerts():
    """Their names, each once."""
    return list(dict.fromkeys(rule["alert"] for group in rules()["groups"] for rule in group["rules"]))


def test_every_alert_has_its_chapter():
    chapters = re.findall(r"^## (\w+)$", (REPOSITORY / "docs/alerts.md").read_text(), re.M)
    assert chapters == alerts()


def test_alerts_on_what_is_not_read_are_not_there():
    objects = render({"monitoring": {"prometheusRule": {"enabled": True}}, "server": {"kubernetes": {"enabled": False}}})
    text = yaml.safe_dump(one(objects, "PrometheusRule"))
    assert "HoldfastNoLeader" in text and "holdfast_agent_" not in text and "holdfast_lifecycle_" not in text
    # Of a server that nobody reads it would be raised for ever.
    assert "HoldfastServerDown" not in text and "absent(" not in text


@pytest.mark.parametrize("grace, stale, seconds", [
    ("60s", 3600, 3600), ("60s", 300, 600), ("30m", 3600, 18000), ("2h", 3600, 72000), ("08m", 3600, 4800), ("1d", 3600, 864000),
    ("500ms", 60, 60), ("3600000ms", 3600, 36000)])
def test_a_comparison_is_late_only_once_two_could_have_been(grace, stale, seconds):
    values = {"server": {"kubernetes": {"grace": grace}}, "monitoring": {"prometheusRule": {"lifecycleStaleSeconds": stale}}}
    (group,) = one(render(merged(MONITORING, values)), "PrometheusRule")["spec"]["groups"]
    (rule,) = [rule for rule in group["rules"] if rule["alert"] == "HoldfastLifecycleStale"]
    assert rule["expr"].endswith(f" > {seconds}")


def test_alerts_of_a_family_say_which():
    for group in rules()["groups"]:
        for rule in group["rules"]:
            if "family" in rule["labels"]:
                assert rule["labels"]["family"] in rule["annotations"]["summary"]


def test_a_migration_may_take_as_long_as_the_values_say():
    values = {"monitoring": {"prometheusRule": {"migrationOpenSeconds": 51200}}}
    (group,) = one(render(merged(MONITORING, values)), "PrometheusRule")["spec"]["groups"]
    (rule,) = [rule for rule in group["rules"] if rule["alert"] == "HoldfastMigrationOpen"]
    assert rule["expr"].endswith(" > 51200")


def test_with_etcd_the_alerts_speak_of_etcd():
    text = yaml.safe_dump(one(render({**MONITORING, **VARIANTS["etcd"]}), "PrometheusRule"))
    assert "etcdctl" in text
    for word in ("SQLite", "holdfast-server-0", "persistence", "volume"):
        assert word not in text


def test_the_pods_monitor_finds_the_agents_and_their_port():
    objects = render(MONITORING)
    monitor = one(objects, "PodMonitor")["spec"]
    found = [(owner, pod) for owner, pod, labels in pods(objects) if monitor["selector"]["matchLabels"].items() <= labels.items()]
    assert [owner["kind"] for owner, _ in found] == ["DaemonSet"]
    (container,) = found[0][1]["containers"]
    assert monitor["podMetricsEndpoints"][0]["port"] in {port["name"] for port in container["ports"]}
    # Its metrics are to be had where its probes are: at the address that the pod has, its node's.
    assert "--http=[$(HOST_IP)]:9441" in container["args"]
    assert {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}} in container["env"]
    assert not any("host" in container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe"))
    # Unasked, nobody but the node reaches it.
    (container,) = one(render(), "DaemonSet")["spec"]["template"]["spec"]["containers"]
    assert "--http=127.0.0.1:9441" in container["args"] and "ports" not in container


def test_the_monitor_finds_one_service_and_its_port():
    objects = render(MONITORING)
    monitor = one(objects, "ServiceMonitor")["spec"]
    found = [it for it in objects if it["kind"] == "Service"
             and monitor["selector"]["matchLabels"].items() <= it["metadata"]["labels"].items()]
    assert len(found) == 1
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in found[0]["spec"]["ports"]}


def test_nothing_is_there_unasked():
    assert not {"ServiceMonitor", "PodMonitor", "PrometheusRule"} & {it["kind"] for it in render()}


NAMESPACE = {"namespace": "holdfast-system"}
NODE = {**NAMESPACE, "node": "node-a"}
AGENT = {**NODE, "pod": "holdfast-agent-x", "job": "holdfast-system/holdfast-agent"}


def pool(prefix, name, bound, free):
    """Two series."""
    return [("holdfast_pool_addresses", {"pool": name, "prefix": prefix, "state": state}, f"{count}x60")
            for state, count in (("bound", bound), ("free", free))]


def slow(share):
    """A commit each second, of which so many take longer than 250 ms."""
    buckets = {"0.01": 60 * (1 - share), "0.25": 60 * (1 - share), "+Inf": 60}
    return [("holdfast_store_commit_seconds_bucket", {"le": bound}, f"0+{round(rate)}x60") for bound, rate in buckets.items()]


def agents(name, *values, **labels):
    return [(name, {"node": f"node-{letter}", **labels}, value) for letter, value in zip("abc", values)]


# Alert to (series, alerts that are raised: labels beside severity and namespace) pairs, looked at after 50 minutes.
CASES = {
    "HoldfastServerDown": [
        ([], [{}]),
        ([("holdfast_build_info", {"version": "0.1.0"}, "1x60")], []),
    ],
    "HoldfastNoLeader": [
        ([("holdfast_leading", {"pod": f"holdfast-server-{it}"}, "0x60") for it in range(3)], [{}]),
        ([("holdfast_leading", {"pod": f"holdfast-server-{it}"}, f"{int(it == 1)}x60") for it in range(3)], []),
    ],
    "HoldfastPoolNearlyFull": [
        # Its first prefix is full, its second is not: no alert.
        (pool("10.0.0.0/24", "wide", 254, 0) + pool("10.0.1.0/24", "wide", 0, 254), []),
        # IPv6 does not hide that IPv4 runs out.
        (pool("10.1.0.0/24", "tight", 250, 4) + pool("fd00::/64", "tight", 250, 1 << 60), [{"pool": "tight", "family": "IPv4"}]),
        (pool("10.2.0.0/24", "full", 254, 0), [{"pool": "full", "family": "IPv4"}]),
        # Nor IPv4 that a range of IPv6 does.
        (pool("10.1.0.0/24", "both", 4, 250) + pool("fd00::/124", "both", 14, 1), [{"pool": "both", "family": "IPv6"}]),
    ],
    "HoldfastPoolFull": [
        (pool("10.2.0.0/24", "full", 254, 0), [{"pool": "full", "family": "IPv4"}]),
        (pool("10.1.0.0/24", "both", 4, 250) + pool("fd00::/124", "both", 15, 0), [{"pool": "both", "family": "IPv6"}]),
        (pool("10.1.0.0/24", "tight", 250, 4), []),
    ],
    "HoldfastPoolsRefused": [
        ([("holdfast_pools_file_refused", {}, "0x20 1x40")], [{}]),
        # It was mended at once.
        ([("holdfast_pools_file_refused", {}, "0x40 1 1 0x20")], []),
    ],
    "HoldfastAwaitsRestore": [
        ([("holdfast_awaits_restore", {}, "1x60")], [{}]),
        # It was restored at once.
        ([("holdfast_awaits_restore", {}, "1x2 0x58")], []),
    ],
    "HoldfastTokenKeysMissing": [
        # Of one server of two.
        ([("holdfast_token_keys_missing", {"pod": "a"}, "0x60"), ("holdfast_token_keys_missing", {"pod": "b"}, "1x60")], [{}]),
        # It started before the API server.
        ([("holdfast_token_keys_missing", {}, "0x44 1x3 0x13")], []),
    ],
    "HoldfastMigrationOpen": [
        ([("holdfast_migration_oldest_seconds", {}, "10000+60x60")], [{}]),
        # One after the other, each of ten minutes; a large VM's.
        ([("holdfast_migration_oldest_seconds", {}, " ".join(["0+60x9"] * 6))], []),
        ([("holdfast_migration_oldest_seconds", {}, "6600+60x60")], []),
    ],
    "HoldfastStoreFails": [
        ([("holdfast_store_commit_failures_total", {}, "0x48 1x11")], [{}]),
        # Long ago.
        ([("holdfast_store_commit_failures_total", {}, "0x10 7x50")], []),
    ],
    "HoldfastStoreSlow": [(slow(0.05), [{}]), (slow(0), [])],
    "HoldfastLifecycleStale": [
        # The clock of these tests begins at 0: one that was never complete, and one that was an hour before.
        ([("holdfast_lifecycle_last_complete_timestamp_seconds", {"pass": "compare"}, "-7200x60")], [{}]),
        # Of two servers one leads.
        ([("holdfast_lifecycle_last_complete_timestamp_seconds", {"pass": "compare", "pod": "a"}, "-7200x60"),
          ("holdfast_lifecycle_last_complete_timestamp_seconds", {"pass": "compare", "pod": "b"}, "0+60x60")], []),
        # The look at migrations goes on, which is not enough.
        ([("holdfast_lifecycle_last_complete_timestamp_seconds", {"pass": "compare"}, "-7200x60"),
          ("holdfast_lifecycle_last_complete_timestamp_seconds", {"pass": "migrations"}, "0+60x60")], [{}]),
    ],
    "HoldfastLifecycleInDoubt": [
        ([("holdfast_lifecycle_in_doubt", {"pass": "compare"}, "1x60")], [{"pass": "compare"}]),
        ([("holdfast_lifecycle_in_doubt", {"pass": "compare"}, "0 0 0 0 0 1 1 0 0 0 0x50")], []),
    ],
    "HoldfastAgentDown": [
        ([("up", AGENT, "1x20 0x40")], [{"node": "node-a", "pod": "holdfast-agent-x", "job": AGENT["job"]}]),
        # Another's pods are none of ours; a rollout takes a minute.
        ([("up", {**AGENT, "job": "other/other"}, "0x60"), ("up", AGENT, "1x40 0 0 1x20")], []),
    ],
    "HoldfastServerUnreachable": [
        (agents("holdfast_agent_server_reachable", "1x60", "0x60", "0x60"), [{}]),
        (agents("holdfast_agent_server_reachable", "1x60", "1x60", "1x60"), []),
        # In a rollout over the nodes there is always one that has just begun, each another.
        (agents("holdfast_agent_server_reachable", *(" ".join([turn] * 15) for turn in ("0 0 1 1", "1 1 0 0"))), []),
        (agents("holdfast_agent_server_reachable", "1x60", "_x47 0x12"), []),
    ],
    "HoldfastSpoolGrowing": [
        (agents("holdfast_agent_spool_oldest_seconds", "0x60", "0+60x60"), [{"node": "node-b"}]),
        (agents("holdfast_agent_spool_oldest_seconds", "0x60", "0x45 60 120 0x30"), []),
    ],
    "HoldfastNodeServesNoPod": [
        (agents("holdfast_agent_cni_requests_total", "0x60", "0+2x60", "0+2x60", verb="ADD", result="refused")
         + agents("holdfast_agent_cni_requests_total", "0+3x60", "0x60", "0+1x60", verb="ADD", result="ok"), [{"node": "node-b"}]),
        (agents("holdfast_agent_cni_requests_total", "0+2x60", verb="DEL", result="refused"), []),
    ],
    "HoldfastAgentWatchSilent": [
        (agents("holdfast_agent_watch_silence_seconds", "30x60", "0+60x60", watch="pods")
         + agents("holdfast_agent_watch_silence_seconds", "30x60", "30x60", watch="instances"), [{"node": "node-b"}]),
    ],
}


@functools.cache
def promtool():
    tool = Path(sys.executable).parent / "promtool"
    assert tool.exists(), "there is no promtool: run scripts/setup"
    return tool


def series(name, labels, values):
    inside = ",".join(f'{label}="{value}"' for label, value in {**NAMESPACE, **labels}.items())
    return {"series": f"{name}{{{inside}}}", "values": values}


def test_every_alert_is_tried():
    assert list(CASES) == alerts()


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_is_raised_when_it_should_be_and_only_then(tmp_path, alert):
    found = [rule for group in rules()["groups"] for rule in group["rules"] if rule["alert"] == alert]
    # Texts are made of the labels that the expression leaves, the rule's own are not among them (Prometheus' rules/alerting.go).
    for rule in found:
        left = {label for _, raised in CASES[alert] for labels in raised for label in {**NAMESPACE, **labels}}
        assert set(re.findall(r"\$labels\.(\w+)", "".join(rule["annotations"].values()))) <= left - set(rule["labels"])
    # What is written into them has tests of Prometheus' own; here it is which alerts there are.
    bare = [{name: rule[name] for name in rule if name != "annotations"} for rule in found]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump(rules()))
    (tmp_path / "rule.yaml").write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": bare}]}))
    tests = [{
        "interval": "1m", "input_series": [series(*it) for it in given],
        "alert_rule_test": [{"eval_time": "50m", "alertname": alert, "exp_alerts": [
            {"exp_labels": {**bare[0]["labels"], **NAMESPACE, **labels}} for labels in raised]}],
    } for given, raised in CASES[alert]]
    # A quantile of all servers' commits together names none.
    if alert == "HoldfastStoreSlow":
        for test in tests:
            for it in test["alert_rule_test"][0]["exp_alerts"]:
                del it["exp_labels"]["namespace"]
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(
        {"rule_files": ["rule.yaml"], "evaluation_interval": "1m", "tests": tests}))
    for command in (["check", "rules", "all.yaml"], ["test", "rules", "tests.yaml"]):
        result = subprocess.run([promtool(), *command], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stdout + result.stderr
