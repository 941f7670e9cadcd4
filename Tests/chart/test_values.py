"""values.yaml, its schema and the README say the same, and a typo is refused, wherever it is."""

import copy
import json
import shutil

import pytest
import values_table
import yaml
from chart import CHART, IMAGE, SCHEMA, VALUES, VARIANTS, helm, helms, merged, template


def nodes(schema, path=()):
    """Each schema of an object, with the values' path to it. `[]`: an item of a list."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    if schema.get("type") == "object":
        yield path, schema
        for name, child in schema.get("properties", {}).items():
            if isinstance(child, dict):
                yield from nodes(child, (*path, name))
    elif schema.get("type") == "array":
        yield from nodes(schema["items"], (*path, "[]"))


# What is Kubernetes' or another program's, and handed on.
OPEN = {("global",), ("networks", "[]", "delegate")}
OPEN_NAMES = {"nodeAffinity", "podAffinity", "podAntiAffinity", "namespaceSelector", "podSelector"}
# What only a chart that this one is part of sets.
OF_A_PARENT = {"global", "enabled"}


def test_the_schema_leaves_no_object_open():
    closed = 0
    for path, schema in nodes(SCHEMA):
        if path in OPEN or path[-1:] and path[-1] in OPEN_NAMES:
            continue
        assert schema.get("additionalProperties") in (False, *({"type": kind} for kind in ("string", "boolean", ["string", "number"]))), path
        closed += schema["additionalProperties"] is False
    assert closed > 30


def test_values_and_schema_have_the_same_names():
    def walk(values, schema, path=""):
        if "$ref" in schema:
            return
        known = schema.get("properties")
        if known is None or not values:
            return
        assert set(known) - (set() if path else OF_A_PARENT) == set(values), path
        for name, value in values.items():
            if isinstance(value, dict):
                walk(value, known[name], f"{path}.{name}")
    walk(VALUES, SCHEMA)


def at(values, path):
    for name in path:
        values = values[0] if name == "[]" else values[name]
    return values


FULL = merged(VALUES, IMAGE, VARIANTS["everything"], {
    "pools": [{"name": "a", "prefixes": [{"prefix": "10.0.0.0/24"}], "routes": [{"destination": "10.1.0.0/16"}], "dns": {}}],
    "networkPolicy": {"monitoring": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
})
CLOSED = [path for path, schema in nodes(SCHEMA)
          if schema.get("additionalProperties") is False and path not in OPEN and path[-1:] != ("global",)]


@pytest.mark.parametrize("path", CLOSED, ids=lambda path: ".".join(path) or "top")
def test_a_misspelt_value_is_refused(path):
    values = copy.deepcopy(FULL)
    try:
        place = at(values, path)
    except (KeyError, IndexError):
        pytest.fail(f"{'.'.join(path)} is in no values of this test: add it to FULL")
    place["tpyo"] = True
    result = template(values, check=False)
    assert result.returncode != 0
    assert "tpyo" in result.stderr and "values.yaml" not in result.stderr


def test_the_same_values_without_the_typo_are_taken():
    template(FULL)


@pytest.mark.parametrize("program", helms(), ids=lambda path: path.rsplit("/", 1)[-1])
def test_a_chart_that_this_one_is_part_of_may_turn_it_off(program, tmp_path):
    shutil.copytree(CHART, tmp_path / "charts/holdfast")
    (tmp_path / "Chart.yaml").write_text(json.dumps({
        "apiVersion": "v2", "name": "platform", "version": "1.0.0",
        "dependencies": [{"name": "holdfast", "version": "*", "condition": "holdfast.enabled"}]}))
    for enabled in (True, False):
        values = {"global": {"a": "b"}, "holdfast": merged(IMAGE, {"enabled": enabled})}
        result = helm("template", "platform", str(tmp_path), "--values", "-", program=program, values=values)
        assert ("kind: DaemonSet" in result.stdout) == enabled


@pytest.mark.parametrize("values", [
    {"tls": {"mode": "Generated"}}, {"log": {"level": "loud"}}, {"image": {"digest": "sha256:1"}},
    {"agent": {"maxUnavailable": 0}}, {"agent": {"maxUnavailable": "0%"}}, {"agent": {"install": {"capabilities": ["ALL"]}}},
    {"agent": {"install": {"cniBinDir": "opt/cni/bin"}}}, {"server": {"persistence": {"whenDeleted": "delete"}}},
    {"server": {"persistence": {"accessModes": ["ReadWriteMany"]}}}, {"pools": [{"name": "a"}]},
    {"pools": [{"name": "a", "prefixes": []}]}, {"networks": [{"name": "a", "delegate": {}}]},
    {"networks": [{"name": "a", "delegate": {"type": "bridge", "ipam": {}}}]}, {"commonLabels": {"a": 1}},
    *({place: {"podLabels": {name: "a"}}} for place in ("server", "agent")
      for name in ("app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component")),
    {"commonLabels": {"app.kubernetes.io/component": "a"}}, {"commonLabels": {"holdfast.dev/metrics": "server"}},
    {"monitoring": {"prometheusRule": {"poolFreeRatio": 10}}}, {"server": {"maxConnections": 0}},
    {"server": {"kubernetes": {"grace": "1.5m"}}}, {"pools": [{"name": "a", "prefixes": [{"prefix": "10.0.0.0/24"}], "reuse_delay": "1.5h"}]},
    {"pools": [{"name": "a", "prefixes": [{"prefix": "10.0.0.0/24"}], "history_retention": "1.2.3h"}]},
    {"networks": [{"name": "a", "delegate": {"type": "bridge"}, "dhcp": "true"}]},
    {"networks": [{"name": "a", "delegate": {"type": "bridge"}, "dhcp": {"leasetime": 3600}}]},
    {"networks": [{"name": "a", "delegate": {"type": "bridge"}, "dhcp": {"mtu": 500}}]},
    {"networks": [{"name": "a", "delegate": {"type": "bridge"}, "capabilities": {"mac": "true"}}]},
], ids=json.dumps)
def test_a_value_that_cannot_be_meant_is_refused(values):
    result = template(merged(IMAGE, values), check=False)
    assert result.returncode != 0 and "meet the specifications" in result.stderr


def test_a_pool_in_the_schema_has_the_fields_of_the_api():
    proto = (CHART.parents[1] / "Sources/IPAMAPI/PoolManifest.swift").read_text()
    def keys(entry):
        body = proto.split(f"private struct {entry}")[1].split("init(from")[0].split("enum CodingKeys")[1]
        names = set()
        for line in body.split("{", 1)[1].split("}")[0].split("case ")[1:]:
            for part in line.split(","):
                names.add(part.split("=")[-1].strip().strip('"'))
        return names
    pool = SCHEMA["properties"]["pools"]["items"]
    # `revision` is what an update by hand is based on.
    assert set(pool["properties"]) == keys("Entry") - {"revision"}
    assert set(pool["properties"]["prefixes"]["items"]["properties"]) == keys("PrefixEntry")
    assert set(pool["properties"]["routes"]["items"]["properties"]) == keys("RouteEntry")
    assert set(pool["properties"]["dns"]["properties"]) == keys("DNSEntry")


def test_every_value_is_explained():
    for name, default, said in values_table.rows((CHART / "values.yaml").read_text()):
        assert said.endswith("."), f"{name} has no comment that is a sentence: {said!r}"


def test_the_readme_has_every_value():
    found, wanted = values_table.readme()
    assert found == wanted, "run `make generate`"


def test_chart_and_programs_have_one_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    source = (CHART.parents[1] / "Sources/Program/ProgramVersion.swift").read_text()
    assert f'current = "{chart["appVersion"]}"' in source
