"""Several servers on etcd: a Deployment of three that follow one another."""

import pytest
from api_server import APIServer
from chart import IMAGE, VARIANTS, helms, merged, one, render, template

ETCD = VARIANTS["etcd"]
# The Service's port, and that of OpenShift's pods behind it; each by UDP and TCP.
DNS = [53, 53, 5353, 5353]


def container(objects):
    return one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]


def arguments(objects):
    return dict(it.split("=", 1) for it in container(objects)["args"] if "=" in it)


def test_it_is_a_deployment_without_a_volume_of_its_own():
    objects = render(ETCD)
    assert not [it for it in objects if it["kind"] == "StatefulSet"]
    spec = one(objects, "Deployment")["spec"]
    assert spec["replicas"] == 3
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert "volumeClaimTemplates" not in spec
    assert one(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    affinity = spec["template"]["spec"]["affinity"]["podAntiAffinity"]
    [term] = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["podAffinityTerm"]["labelSelector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert term["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    assert "podAntiAffinity" not in one(render(VARIANTS["etcd without anything"]), "Deployment")["spec"]["template"]["spec"]["affinity"]


def test_the_server_is_told_all_of_etcd():
    told = arguments(render(ETCD))
    assert told["--store"] == "etcd:https://etcd-0.etcd.svc:2379,https://192.0.2.7:2379"
    assert told["--etcd-prefix"] == "/holdfast/prod/" and told["--etcd-lease"] == "3"
    assert told["--advertise"] == "$(POD_IP):7440"
    assert {"--etcd-ca", "--etcd-cert", "--etcd-key", "--etcd-user", "--etcd-password-file"} <= told.keys()
    plain = arguments(render(VARIANTS["etcd without anything"]))
    assert plain["--store"] == "etcd:http://[2001:db8::1]:2379"
    assert plain["--advertise"] == "[$(POD_IP)]:7440"
    assert not [name for name in plain if name in ("--etcd-ca", "--etcd-cert", "--etcd-key", "--etcd-user")]


def test_what_the_arguments_name_is_there():
    objects = render(ETCD)
    server = container(objects)
    variables = {it["name"] for it in server["env"]}
    assert {"POD_IP", "ETCD_USER"} <= variables
    mounts = {it["mountPath"]: it["name"] for it in server["volumeMounts"]}
    volumes = {it["name"]: it for it in one(objects, "Deployment")["spec"]["template"]["spec"]["volumes"]}
    for name in ("--etcd-ca", "--etcd-cert", "--etcd-key", "--etcd-password-file"):
        folder, file = arguments(objects)[name].rsplit("/", 1)
        assert file in {it["path"] for it in volumes[mounts[folder]]["secret"]["items"]}


def test_followers_are_ready_so_that_rollouts_and_budgets_go_on():
    for name in ("etcd", "etcd without anything"):
        assert container(render(VARIANTS[name]))["readinessProbe"]["httpGet"] == {"port": "http", "path": "/readyz"}


def test_a_server_that_follows_may_call_the_one_that_leads():
    policy = one(render({**ETCD, "networkPolicy": {"clients": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}}), "NetworkPolicy")["spec"]
    assert {"podSelector": policy["podSelector"]} in policy["ingress"][0]["from"]
    assert policy["egress"][-1] == {"ports": [{"port": 7440}], "to": [{"podSelector": policy["podSelector"]}]}


def test_the_network_policy_lets_the_server_out_to_etcd():
    def ports(values):
        return [[port["port"] for port in rule["ports"]] for rule in one(render(values), "NetworkPolicy")["spec"]["egress"]]
    assert ports(ETCD) == [[443, 6443], [2379, *DNS], [7440]]
    assert ports(VARIANTS["etcd without anything"]) == [[2379, *DNS], [7440]]
    dns = [port for port in one(render(ETCD), "NetworkPolicy")["spec"]["egress"][1]["ports"] if port["port"] in DNS]
    assert [port["protocol"] for port in dns] == ["UDP", "TCP"] * 2


@pytest.mark.parametrize("server, said", [
    ({"etcd": {"endpoints": []}}, "server.etcd.endpoints"),
    ({"etcd": {"endpoints": ["etcd-0:2379"]}}, "endpoints"),
    ({"etcd": {"lease": 1}}, "lease"),
    ({"etcd": {"tlsSecret": ""}}, "server.etcd.tlsSecret"),
    ({"store": "mysql"}, "store"),
    ({"replicas": 1}, "replicas"),
])
def test_what_cannot_work_is_refused(server, said):
    result = template(merged(IMAGE, ETCD, {"server": server}), check=False)
    assert result.returncode != 0 and said in result.stderr


@pytest.mark.parametrize("program", helms(), ids=lambda path: path.rsplit("/", 1)[-1])
@pytest.mark.parametrize("before, after, kind", [("least", "etcd", "statefulset"), ("etcd", "least", "deployment")])
def test_the_store_is_changed_only_once_the_servers_of_the_other_are_stopped(program, before, after, kind):
    def upgrade(server):
        return template(merged(IMAGE, VARIANTS[after]), "--dry-run=server", "--disable-openapi-validation", *server.arguments, program=program, check=False)

    with APIServer() as server:
        runs = render(VARIANTS[before])
        server.put(runs)
        result = upgrade(server)
        assert result.returncode != 0
        assert f"kubectl -n holdfast-system scale {kind}/holdfast-server --replicas=0" in result.stderr
        assert "copy the ledger" in result.stderr
        workload = next(it for it in runs if it["kind"].lower() == kind)
        workload["spec"]["replicas"] = 0
        server.put([workload])
        result = upgrade(server)
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("program", helms(), ids=lambda path: path.rsplit("/", 1)[-1])
def test_the_way_to_etcd_takes_no_volume_away_to_which_a_rollback_could_come_back(program):
    def upgrade(server):
        return template(merged(IMAGE, ETCD), "--dry-run=server", "--disable-openapi-validation", *server.arguments, program=program, check=False)

    with APIServer() as server:
        for when_deleted in ("Delete", "Retain"):
            runs = render({"server": {"persistence": {"whenDeleted": when_deleted}}})
            one(runs, "StatefulSet")["spec"]["replicas"] = 0
            server.put(runs)
            result = upgrade(server)
            if when_deleted == "Delete":
                assert result.returncode != 0 and "set server.persistence.whenDeleted to Retain first" in result.stderr
            else:
                assert result.returncode == 0, result.stderr
