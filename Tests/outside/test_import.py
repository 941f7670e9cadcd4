"""`holdfast import`, then what the node's plugin gets: the address that another IPAM had given."""

import json
import subprocess
from pathlib import Path

import yaml
from client import Client
from processes import REPOSITORY, Agent, Server, binaries, environment, run

SAMPLES = REPOSITORY / "Tests/HoldfastCLITests/Import"
CLUSTER = [it for it in yaml.safe_load((SAMPLES / "cluster.yaml").read_text())["items"]]


def definition(name):
    """The network definition's configuration, with its address plugin changed: the whole of the switch."""
    config = next(it["spec"]["config"] for it in CLUSTER if (it["kind"], it["metadata"]["name"]) ==
                  ("NetworkAttachmentDefinition", name))
    network = json.loads(config)
    network["ipam"]["type"] = "holdfast-cni"
    return network


def node_s(path):
    """A node's configuration list: its main plugin's, likewise."""
    listed = json.loads(Path(path).read_text())
    network = {"cniVersion": listed["cniVersion"], "name": listed["name"], **listed["plugins"][0]}
    network["ipam"]["type"] = "holdfast-cni"
    return network


def add(agent, network, pod, interface):
    network["ipam"]["socket"] = str(agent.socket)
    result = subprocess.run(
        [binaries() / "holdfast-cni"], input=json.dumps(network), capture_output=True, text=True, timeout=30,
        env={**environment(), "CNI_COMMAND": "ADD", "CNI_CONTAINERID": f"c-{pod}", "CNI_NETNS": "/run/netns/x",
             "CNI_IFNAME": interface, "CNI_PATH": "/opt/cni/bin",
             "CNI_ARGS": f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}"})
    assert result.returncode == 0, result.stdout
    return sorted(it["address"] for it in json.loads(result.stdout)["ips"])


def actions(printed):
    """Owner and network to what is done, and the conflicts."""
    rows = json.loads(printed)["addresses"]
    return ({f"{it['owner']['name']} {it['owner']['network']}": it["action"] for it in rows if "owner" in it},
            [it["action"] for it in rows if "CONFLICT" in it["action"]])


def test_a_subnet_of_kube_ovn_s_becomes_a_pool_and_its_vms_move_on(tmp_path):
    server = Server(tmp_path, listen=(f"unix:{tmp_path}/server.sock",)).start()
    client = Client(server.target)
    try:
        done = run("holdfast", "import", str(SAMPLES / "cluster.yaml"), str(SAMPLES / "kube-ovn.yaml"), "--network",
                   "ovn-default=vm-net", "--server", server.target)
        assert done.returncode == 0, done.stdout + done.stderr
        (pool,) = [it for it in client.call("Pools.ListPools")["pools"] if it["name"] == "lan"]
        assert [it["gateway"] for it in pool["prefixes"]] == ["10.16.0.1", "fd00:10:16::1"]
        assert pool["namespaces"] == ["default", "prod"]
        # It has not had a pod of Holdfast's yet, and migrates.
        owner = {"kind": "OWNER_KIND_VIRTUAL_MACHINE", "namespace": "default", "name": "testvm", "uid": "vm-testvm",
                 "network": "lan/pod094a367b026"}
        moved = {"migration_uid": "m1", "owner": owner}
        client.call("IPAM.Transfer", {**moved, "phase": "TRANSFER_PHASE_PREPARE", "target": {
            "node": "node-b", "pod": "virt-launcher-testvm-fghij", "pod_uid": "p2", "container_id": "c2"}})
        binding = client.call("IPAM.Transfer", {**moved, "phase": "TRANSFER_PHASE_COMMIT"})["binding"]
        assert [it["address"] for it in binding["assignments"]] == ["10.16.0.5", "fd00:10:16::5"]
        assert (binding["mac"], binding["active"]["node"]) == ("02:00:00:00:16:05", "node-b")
    finally:
        client.close()
        server.stop()


def test_ippools_of_kube_ovn_s_become_parts_of_their_subnet(tmp_path):
    server = Server(tmp_path, listen=(f"unix:{tmp_path}/server.sock",)).start()
    client = Client(server.target)
    arguments = ["import", str(SAMPLES / "cluster.yaml"), str(SAMPLES / "kube-ovn-ippools.yaml"), "-o", "json",
                 "--server", server.target]

    def allocate(name, pool):
        owner = {"kind": "OWNER_KIND_VIRTUAL_MACHINE", "namespace": "default", "name": name, "network": "lan/net1"}
        binding = client.call("IPAM.Allocate", {"owner": owner, "pool": pool})["binding"]
        return [(it["address"], it["prefix_length"], it["gateway"]) for it in binding["assignments"]]

    try:
        # A pool that has all of the Subnet stands in the way, and stays as it is.
        client.call("Pools.CreatePool", {"pool": {"name": "all", "prefixes": [{"prefix": "10.16.0.0/16"}]}})
        refused = run("holdfast", *arguments)
        assert refused.returncode == 1
        assert [it["name"] for it in json.loads(refused.stdout)["refusedPools"]] == ["lan", "spare", "web"]
        assert "overlaps 10.16.0.0/16 of pool all" in refused.stdout
        client.call("Pools.DeletePool", {"name": "all"})

        done = run("holdfast", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert [it["name"] for it in client.call("Pools.ListPools")["pools"]] == ["lan", "spare", "web"]
        names, _ = actions(done.stdout)
        assert set(names.values()) == {"reserved"} and len(names) == 2
        assert set(actions(run("holdfast", *arguments).stdout)[0].values()) == {"is there"}
        gateways = ("10.16.0.1", "fd00:10:16::1")
        assert allocate("new", "web") == [("10.16.1.0", 16, gateways[0]), ("fd00:10:16::100", 112, gateways[1])]
        # The VM that had IPv4 only has got ::2.
        assert allocate("other", "lan") == [("10.16.0.2", 16, gateways[0]), ("fd00:10:16::3", 112, gateways[1])]
        assert allocate("third", "spare") == [("10.16.9.8", 16, gateways[0])]
    finally:
        client.close()
        server.stop()


def test_what_was_imported_is_what_the_next_pod_gets(tmp_path):
    server = Server(tmp_path, listen=(f"unix:{tmp_path}/server.sock",)).start()
    agent = Agent(tmp_path, f"unix:{tmp_path}/server.sock")
    for number, it in enumerate(CLUSTER):
        if it["kind"] == "Pod":
            it.setdefault("spec", {})["nodeName"] = "node-a"
        (agent.manifests / f"{number}.json").write_text(json.dumps(it))
    arguments = ["import", *map(str, (SAMPLES / "cluster.yaml", SAMPLES / "whereabouts.yaml", SAMPLES / "10-cbr0.conflist")),
                 "--host-local", str(SAMPLES / "host-local"), "-o", "json", "--server", server.target]

    def pools():
        return json.loads(run("holdfast", "pool", "list", "-o", "json", "--server", server.target).stdout)["pools"]

    try:
        agent.start()
        # The VM that migrates conflicts: nothing is done, and everything is said.
        refused = run("holdfast", *arguments)
        assert refused.returncode == 1 and "nothing was imported: 1 conflict" in refused.stderr
        assert pools() == []
        planned = run("holdfast", *arguments, "--dry-run")
        assert planned.returncode == 1 and pools() == []
        assert actions(planned.stdout)[1] == actions(refused.stdout)[1] and len(actions(planned.stdout)[1]) == 1

        done, conflicts = actions(run("holdfast", *arguments, "--partial").stdout)
        assert len(conflicts) == 1 and "10.20.0.8, 10.20.0.9" in conflicts[0]
        nic = "pod49a25f9feef"
        names = {f"testvm storage-net/{nic}", "testvm cbr0/eth0", "web cbr0/eth0"}
        assert {name for name, action in done.items() if action == "reserved"} == names
        before = run("holdfast", "binding", "list", "-o", "json", "--server", server.target).stdout
        again, _ = actions(run("holdfast", *arguments, "--partial").stdout)
        assert {name for name, action in again.items() if action == "is there"} == names
        assert run("holdfast", "binding", "list", "-o", "json", "--server", server.target).stdout == before

        launcher = "virt-launcher-testvm-abcde"
        assert add(agent, definition("storage"), launcher, nic) == ["10.20.0.5/24", "fd20::5/64"]
        assert add(agent, node_s(SAMPLES / "10-cbr0.conflist"), launcher, "eth0") == ["10.244.1.7/24"]
        assert add(agent, node_s(SAMPLES / "10-cbr0.conflist"), "web", "eth0") == ["10.244.1.8/24"]
        # The agent has found the pools as its networks describe them.
        assert len(pools()) == 2 and "have changed" not in agent.log.read_text()
    finally:
        agent.stop()
        server.stop()
