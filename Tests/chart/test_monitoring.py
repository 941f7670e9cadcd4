"""Alerts and dashboard ask for metrics that there are, with labels that they have."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from chart import MONITORING, REPOSITORY, one, render

def documented():
    """Series of docs/metrics.md with the labels of each, and what Prometheus adds."""
    found = {}
    for row in re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", (REPOSITORY / "docs/metrics.md").read_text(), re.M):
        name, kind, labels = row
        labels = {label.strip() for label in labels.split(",") if label.strip()} | {"namespace"}
        if kind == "histogram":
            found |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            found[name] = labels
    return found


SERIES = documented()


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


def test_the_documented_metrics_are_the_server_s():
    sources = "".join(path.read_text() for path in (REPOSITORY / "Sources/IPAMService").glob("*.swift"))
    made = set(re.findall(r'"((?:holdfast|grpc_server)_\w+)"', sources))
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in SERIES} == made
    assert {"pool", "prefix", "state"} <= SERIES["holdfast_pool_addresses"]


@pytest.mark.parametrize("query", list(queries()))
def test_every_query_names_metrics_and_labels_that_there_are(query):
    named = re.findall(r"\b((?:holdfast|grpc_server)_\w+)(?:\{([^}]*)\})?", query)
    assert named
    labels = set()
    for name, selector in named:
        assert name in SERIES
        labels |= SERIES[name]
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", selector)) <= SERIES[name]
        for state in re.findall(r'state="(\w+)"', selector):
            assert state in ("bound", "reserved", "quarantined", "free")
    for grouping in re.findall(r"\bby \(([^)]*)\)", query):
        assert {label.strip() for label in grouping.split(",")} <= labels


def test_every_query_stays_in_its_namespace():
    for query in queries():
        assert query.count("namespace=") == len(re.findall(r"\b(?:holdfast|grpc_server)_\w+\{", query))


def test_every_alert_says_what_it_means_and_what_to_do():
    for group in rules()["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert rule["annotations"]["summary"].endswith(".") and len(rule["annotations"]["description"]) > 80


def test_the_monitor_finds_one_service_and_its_port():
    objects = render(MONITORING)
    monitor = one(objects, "ServiceMonitor")["spec"]
    found = [it for it in objects if it["kind"] == "Service"
             and monitor["selector"]["matchLabels"].items() <= it["metadata"]["labels"].items()]
    assert len(found) == 1
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in found[0]["spec"]["ports"]}


def test_nothing_is_there_unasked():
    assert not {"ServiceMonitor", "PrometheusRule"} & {it["kind"] for it in render()}


PROMTOOL_TESTS = {
    "rule_files": ["rules.yaml"], "evaluation_interval": "1m",
    "tests": [{
        "interval": "1m",
        "input_series": [
            {"series": f'holdfast_pool_addresses{{namespace="holdfast-system",pool="{pool}",prefix="{prefix}",state="{state}"}}',
             "values": f"{count}x20"}
            for pool, prefix, state, count in [
                # Its first prefix is full, its second is not: no alert.
                ("wide", "10.0.0.0/24", "bound", 254), ("wide", "10.0.0.0/24", "free", 0),
                ("wide", "10.0.1.0/24", "bound", 0), ("wide", "10.0.1.0/24", "free", 254),
                # IPv6 does not hide that IPv4 runs out.
                ("tight", "10.1.0.0/24", "bound", 250), ("tight", "10.1.0.0/24", "free", 4),
                ("tight", "fd00::/64", "bound", 250), ("tight", "fd00::/64", "free", 1 << 60),
                ("full", "10.2.0.0/24", "bound", 254), ("full", "10.2.0.0/24", "free", 0),
            ]],
        "alert_rule_test": [
            {"eval_time": "15m", "alertname": "HoldfastPoolNearlyFull", "exp_alerts": [
                {"exp_labels": {"severity": "warning", "namespace": "holdfast-system", "pool": pool}}
                for pool in ("tight", "full")]},
            {"eval_time": "15m", "alertname": "HoldfastPoolFull", "exp_alerts": [
                {"exp_labels": {"severity": "critical", "namespace": "holdfast-system", "pool": "full"}}]},
            {"eval_time": "15m", "alertname": "HoldfastServerDown", "exp_alerts": [
                {"exp_labels": {"severity": "critical", "namespace": "holdfast-system"}}]},
        ],
    }, {
        "interval": "1m",
        "input_series": [{"series": 'holdfast_build_info{namespace="holdfast-system",version="0.1.0"}', "values": "1x20"}],
        "alert_rule_test": [{"eval_time": "15m", "alertname": "HoldfastServerDown", "exp_alerts": []}],
    }],
}


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool, which Debian has only with a Prometheus that starts")
def test_the_alerts_are_raised_when_they_should_be(tmp_path):
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()))
    tests = json.loads(json.dumps(PROMTOOL_TESTS))
    for test in tests["tests"]:
        for case in test["alert_rule_test"]:
            rule = next(rule for rule in rules()["groups"][0]["rules"] if rule["alert"] == case["alertname"])
            for alert in case["exp_alerts"]:
                pool = alert["exp_labels"].get("pool", "")
                value = {"tight": "1.575%", "full": "0%"}.get(pool, "")
                alert["exp_annotations"] = {
                    name: re.sub(r"{{ \$labels.pool }}", pool, re.sub(r"{{ \$value[^}]*}}", value, text))
                    for name, text in rule["annotations"].items()}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "tests.yaml"]):
        result = subprocess.run(["promtool", *command], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stdout + result.stderr
