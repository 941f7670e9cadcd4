"""What the chart renders, against the schemas of Kubernetes itself."""

import copy
import functools
import json
import re

import jsonschema
import kubernetes_validate
import pytest
import yaml
from api_server import APIServer
from chart import CHART, IMAGE, NETWORKS, POOLS, REPOSITORY, VARIANTS, OneKeyLoader, helm, helms, merged, one, pods, render, template
from referencing import Registry, Resource

# Of the versions that the chart admits: the oldest, some between, the newest that there is.
VERSIONS = ["1.27", "1.29", "1.31", "1.34", kubernetes_validate.utils.major_minor(kubernetes_validate.latest_version())]

# No part of Kubernetes: defined by cert-manager, Prometheus' operator and Multus.
FOREIGN = {"cert-manager.io/v1", "monitoring.coreos.com/v1", "k8s.cni.cncf.io/v1"}


programs = pytest.mark.parametrize("program", helms(), ids=lambda path: path.rsplit("/", 1)[-1])


@functools.cache
def schemas(version):
    """Kubernetes' own, with which unknown fields are errors; as kubernetes_validate.validate would read them each time."""
    folder = f"kubernetes-json-schema/v{version}.0-local-strict"
    definitions = kubernetes_validate.utils.schema_contents(f"{folder}/_definitions.json", version)
    return folder, Resource.from_contents(definitions) @ Registry()


@functools.cache
def schema(kind, api_version, version):
    folder, registry = schemas(version)
    group, _, number = api_version.rpartition("/")
    name = "-".join(filter(None, [kind.lower(), group.split(".")[0], number]))
    content = kubernetes_validate.utils.schema_contents(f"{folder}/{name}.json", version)
    return jsonschema.Draft202012Validator(content, registry=Resource.from_contents(content) @ registry)


def validate(it, version):
    schema(it["kind"], it["apiVersion"], version).validate(it)


@programs
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_is_what_kubernetes_knows(variant, program):
    objects = render(VARIANTS[variant], program)
    assert len(objects) > 8
    for it in objects:
        if it["apiVersion"] in FOREIGN:
            continue
        for version in VERSIONS:
            validate(it, version)


def test_an_object_that_kubernetes_does_not_know_is_found_out():
    daemon_set = one(render(), "DaemonSet")
    daemon_set["spec"]["template"]["spec"]["hostNetwrk"] = True
    with pytest.raises(jsonschema.ValidationError):
        validate(daemon_set, VERSIONS[0])


@programs
def test_helm_lint_finds_nothing(program):
    values = merged(IMAGE, VARIANTS["everything"])
    lint = helm("lint", str(CHART), "--strict", "--values", "-", program=program, values=values)
    assert "0 chart(s) failed" in lint.stdout and "[WARNING]" not in lint.stdout


def test_both_helms_make_the_same_of_it():
    values = merged(VARIANTS["everything"], {"tls": {"mode": "certManager"}})
    first, *others = [render(values, program) for program in helms()]
    def key(it):
        return it["kind"], it["metadata"]["name"]
    for other in others:
        assert sorted(first, key=key) == sorted(other, key=key)


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_are_not_given_twice_and_all_is_in_the_release_s_namespace(variant):
    objects = render(VARIANTS[variant])
    names = [(it["kind"], it["metadata"].get("namespace"), it["metadata"]["name"]) for it in objects]
    assert len(names) == len(set(names))
    for kind, namespace, name in names:
        expected = {"ClusterRole": None, "ClusterRoleBinding": None, "NetworkAttachmentDefinition": "default"}
        assert namespace == expected.get(kind, "holdfast-system"), (kind, name)


def test_defaults_that_gitops_tools_would_see_as_a_difference_are_written_out():
    objects = render(VARIANTS["everything"])
    (claim,) = one(objects, "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
    (endpoint,) = one(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert [it["action"] for it in endpoint["relabelings"]] == ["replace"]


def test_of_labels_that_are_given_twice_the_narrower_wins():
    part, version = "app.kubernetes.io/part-of", "app.kubernetes.io/version"
    objects = render(VARIANTS["labels that are there already"])
    pod_labels = {owner["kind"]: labels for owner, _, labels in pods(objects)}
    assert (pod_labels["StatefulSet"]["team"], pod_labels["StatefulSet"][part]) == ("b", "platform")
    assert (pod_labels["DaemonSet"]["team"], pod_labels["DaemonSet"][part]) == ("a", "agents")
    annotations = {it["kind"]: it["spec"]["template"]["metadata"]["annotations"] for it in objects if "template" in it.get("spec", {})}
    key = "kubectl.kubernetes.io/default-container"
    assert (annotations["StatefulSet"][key], annotations["DaemonSet"][key]) == ("mesh", "agent")
    for it in objects:
        labels = it["metadata"]["labels"]
        asked = it["kind"] in ("ServiceMonitor", "PodMonitor", "PrometheusRule") or it["metadata"]["name"] == "holdfast-dashboard"
        assert (labels["team"], labels[part], labels[version]) == ("c" if asked else "a", "platform", "1")
        assert labels["app.kubernetes.io/name"] == "holdfast" == labels["app.kubernetes.io/instance"]


def test_a_key_that_is_given_twice_is_found_out():
    with pytest.raises(yaml.YAMLError):
        yaml.load("{a: 1, b: {c: 1, c: 2}}", OneKeyLoader)


def selects(selector, labels):
    return selector.items() <= labels.items()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_selector_selects_the_pods_it_is_meant_for_and_no_others(variant):
    objects = render(VARIANTS[variant])
    labels = {owner["kind"]: labels for owner, _, labels in pods(objects)}
    for it in objects:
        spec = it.get("spec", {})
        selector = {
            "Service": lambda: spec["selector"], "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
            "StatefulSet": lambda: spec["selector"]["matchLabels"],
            "Deployment": lambda: spec["selector"]["matchLabels"], "DaemonSet": lambda: spec["selector"]["matchLabels"],
        }.get(it["kind"])
        if selector:
            server = "Deployment" if variant.startswith("etcd") else "StatefulSet"
            meant = "DaemonSet" if it["kind"] == "DaemonSet" else server
            assert {kind for kind, its in labels.items() if selects(selector(), its)} == {meant}, it["kind"]


def test_every_object_that_a_pod_names_is_there():
    for variant, values in VARIANTS.items():
        objects = render(values)
        there = {(it["kind"], it["metadata"]["name"]) for it in objects}
        there |= {("Secret", it["spec"]["secretName"]) for it in objects if it["kind"] == "Certificate"}
        there |= {("Secret", name) for name in values.get("tls", {}).get("secrets", {}).values()}
        etcd = values.get("server", {}).get("etcd", {})
        there |= {("Secret", etcd.get(name)) for name in ("tlsSecret", "credentialsSecret")}
        for owner, pod, _ in pods(objects):
            wanted = {("ServiceAccount", pod["serviceAccountName"])} if "serviceAccountName" in pod else set()
            for volume in pod.get("volumes", []):
                if "secret" in volume:
                    wanted.add(("Secret", volume["secret"]["secretName"]))
                if "configMap" in volume:
                    wanted.add(("ConfigMap", volume["configMap"]["name"]))
            assert wanted <= there, (variant, owner["kind"])
            volumes = [volume["name"] for volume in pod.get("volumes", [])]
            volumes += [claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])]
            for container in pod.get("initContainers", []) + pod["containers"]:
                mounts = [mount["name"] for mount in container.get("volumeMounts", [])]
                assert set(mounts) <= set(volumes), (variant, container["name"])
        if "StatefulSet" in {it["kind"] for it in objects}:
            assert ("Service", one(objects, "StatefulSet")["spec"]["serviceName"]) in there


def test_a_network_is_the_plugin_with_its_delegate():
    network = one(render(VARIANTS["everything"]), "NetworkAttachmentDefinition")
    assert json.loads(network["spec"]["config"]) == {
        "cniVersion": "1.0.0", "name": "vm-net",
        "plugins": [{"type": "holdfast-cni", "pool": "vm-net", "delegate": {"type": "bridge", "bridge": "br-vm"}}]}


@pytest.mark.parametrize("dhcp", [True, False, {"leaseTime": 3600, "mtu": 1400, "ntpServers": ["10.16.0.5"], "ipv6Router": "fe80::1"}])
def test_a_network_says_whether_its_guests_are_served_by_dhcp(dhcp):
    network = one(render({
        "networks": [{"name": "a", "delegate": {"type": "bridge"}, "dhcp": dhcp}], "agent": {"dhcp": {"enabled": dhcp is not False}}}),
        "NetworkAttachmentDefinition")
    (plugin,) = json.loads(network["spec"]["config"])["plugins"]
    assert plugin == {"type": "holdfast-cni", "dhcp": dhcp, "delegate": {"type": "bridge"}}


def test_a_network_s_annotations_and_capabilities_are_where_multus_looks_for_them():
    (example,) = re.findall(r"^```yaml\n(networks:.*?)^```$", (REPOSITORY / "docs/cni.md").read_text(), re.M | re.S)
    network = one(render(yaml.safe_load(example)), "NetworkAttachmentDefinition")
    assert network["metadata"]["annotations"] == {"k8s.v1.cni.cncf.io/resourceName": "intel.com/sriov"}
    (plugin,) = json.loads(network["spec"]["config"])["plugins"]
    assert plugin["capabilities"] == {"mac": True}
    assert "annotations" not in one(render(NETWORKS), "NetworkAttachmentDefinition")["metadata"]


@pytest.mark.parametrize("values, said", [
    *[({"networks": [{"name": "a", "delegate": {"type": kind}}]}, f"delegate {kind}") for kind in ("ptp", "vlan", "ipvlan")],
    *[({"networks": [{"name": "a", "delegate": {"type": "bridge"}, "dhcp": dhcp}]}, "set agent.dhcp.enabled")
      for dhcp in (True, {}, {"mtu": 1400})],
    ({"agent": {"dhcp": {"byDefault": True}}}, "need agent.dhcp.enabled"),
    ({"agent": {"dhcp": {"announce": True}}}, "need agent.dhcp.enabled"),
], ids=json.dumps)
@programs
def test_networks_that_can_serve_nobody_are_refused(values, said, program):
    result = template(merged(IMAGE, values), program=program, check=False)
    assert result.returncode != 0 and said in result.stderr


def install(release, namespace, server, program):
    return helm(
        "template", release, str(CHART), "--namespace", namespace, "--dry-run=server", "--disable-openapi-validation", "--values", "-",
        *server.arguments, values=IMAGE, program=program, check=False)


@programs
def test_a_second_installation_in_the_cluster_is_refused_whatever_it_is_named(program):
    for variant in ("least", "other names", "labels that are there already"):
        daemon_set = one(render(VARIANTS[variant]), "DaemonSet")
        with APIServer() as server:
            server.put([daemon_set])
            for place in (("second", "holdfast-system"), ("holdfast", "elsewhere")):
                result = install(*place, server, program)
                assert result.returncode != 0, (variant, place)
                assert f"{daemon_set['metadata']['name']} in holdfast-system" in result.stderr and "docs/install.md" in result.stderr
            # Its own upgrade.
            result = install("holdfast", "holdfast-system", server, program)
            assert result.returncode == 0, result.stderr


@programs
def test_other_people_s_daemon_sets_refuse_no_installation(program):
    daemon_set = one(render(), "DaemonSet")
    del daemon_set["metadata"]["labels"], daemon_set["spec"]["template"]["spec"]["volumes"]
    other = copy.deepcopy(daemon_set)
    other["metadata"]["name"] = "other"
    other["spec"]["template"]["spec"]["volumes"] = [{"name": "run", "hostPath": {"path": "/run/other"}}, {"name": "tmp", "emptyDir": {}}]
    with APIServer() as server:
        server.put([daemon_set, other])
        result = install("second", "elsewhere", server, program)
        assert result.returncode == 0, result.stderr


@programs
def test_a_delegate_comes_through_whatever_its_values_hold(program):
    delegate = {"type": "bridge", "note": "it's \\ a \"b\"\n<é\u2028>: #{{ }}"}
    network = one(render({"networks": [{"name": "a", "delegate": delegate}]}, program), "NetworkAttachmentDefinition")
    assert json.loads(network["spec"]["config"])["plugins"][0]["delegate"] == delegate


def test_the_pools_of_the_example_are_what_the_server_reads():
    pools = VARIANTS["everything"]["pools"]
    assert yaml.safe_load(one(render({"pools": pools}), "ConfigMap", "holdfast-pools")["data"]["pools.yaml"]) == pools


def test_without_an_image_the_chart_says_what_to_do():
    result = template({}, check=False)
    assert result.returncode != 0 and "docs/install.md" in result.stderr


def test_the_notes_warn_of_a_server_that_is_open_to_everyone():
    def notes(values):
        with APIServer() as server:
            return helm(
                "install", "holdfast", str(CHART), "--dry-run=client", "--disable-openapi-validation", "--namespace", "n", "--values", "-",
                *server.arguments, values=merged(IMAGE, values)).stdout.split("NOTES:")[1]
    assert "ANYONE" not in notes({}) and "keeps the volume" in notes({})
    assert "ANYONE" in notes({"tls": {"mode": "none"}, "auth": {"enabled": False}})
    assert "ANYONE" in notes({"tls": {"clientCertificates": False}, "auth": {"enabled": False}})
    assert "ANYONE" not in notes({"tls": {"clientCertificates": False}})
    assert "DELETES" in notes({"server": {"persistence": {"whenDeleted": "Delete"}}})
    assert "There is no pool" in notes({}) and "There is no pool" not in notes(POOLS)
