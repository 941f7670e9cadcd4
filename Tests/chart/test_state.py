"""What must outlive a pod: the ledger, and what an agent has on its node."""

import pytest
from chart import VARIANTS, one, render


def mount(pod, option, is_folder=False):
    """(where the folder is that the option names, or whose file; its volume's name)"""
    (value,) = [it.partition("=")[2].removeprefix("sqlite:") for it in pod["containers"][0]["args"] if it.startswith(f"{option}=")]
    folder = value if is_folder else value.rpartition("/")[0]
    (name,) = [it["name"] for it in pod["containers"][0]["volumeMounts"] if it["mountPath"] == folder]
    return folder, name


@pytest.mark.parametrize("variant", [it for it in VARIANTS if not it.startswith("etcd")])
def test_one_server_has_the_ledger_on_a_volume_that_is_claimed(variant):
    spec = one(render(VARIANTS[variant]), "StatefulSet")["spec"]
    assert spec["replicas"] == 1
    _, name = mount(spec["template"]["spec"], "--store")
    assert name in [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]]


def test_uninstalling_keeps_the_ledger_unless_asked():
    def policy(values):
        return one(render(values), "StatefulSet")["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert policy({}) == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert policy({"server": {"persistence": {"whenDeleted": "Delete"}}})["whenDeleted"] == "Delete"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_agent_s_socket_and_state_are_the_node_s(variant):
    pod = one(render(VARIANTS[variant]), "DaemonSet")["spec"]["template"]["spec"]
    for folder, name in (mount(pod, "--socket"), mount(pod, "--state-dir", is_folder=True)):
        (volume,) = [it for it in pod["volumes"] if it["name"] == name]
        assert volume.get("hostPath", {}).get("path") == folder


def test_pods_that_come_later_have_their_network_namespaces_in_the_agent_too():
    agent = one(render(VARIANTS["everything"]), "DaemonSet")["spec"]["template"]["spec"]["containers"][0]
    (netns,) = [it for it in agent["volumeMounts"] if it["mountPath"] == "/run/netns"]
    assert netns["mountPropagation"] == "HostToContainer"
