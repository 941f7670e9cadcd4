"""Least privilege: what the chart's pods may do, on the node and at the API server."""

import pytest
import yaml
from chart import IMAGE, NAMESPACE, VARIANTS, containers, merged, one, pods, render, template

variants = pytest.mark.parametrize("variant", VARIANTS)


@variants
def test_no_container_is_privileged_and_each_starts_from_no_capability(variant):
    for owner, pod, container in containers(render(VARIANTS[variant])):
        context = container["securityContext"]
        assert not context.get("privileged") and context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"]["drop"] == ["ALL"]
        if variant != "everything":
            assert "add" not in context["capabilities"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["resources"]["requests"] and container["resources"]["limits"]["memory"]


def test_capabilities_are_added_one_by_one_where_the_values_ask_for_what_takes_them():
    pod = one(render(VARIANTS["everything"]), "DaemonSet")["spec"]["template"]["spec"]
    assert pod["initContainers"][0]["securityContext"]["capabilities"]["add"] == ["DAC_OVERRIDE"]
    assert pod["containers"][0]["securityContext"]["capabilities"]["add"] == ["SYS_ADMIN", "NET_RAW"]
    assert pod["securityContext"]["seLinuxOptions"] == {"type": "spc_t"}


@variants
def test_only_the_agent_is_root_and_on_the_node(variant):
    for owner, pod, _ in pods(render(VARIANTS[variant])):
        on_node = owner["kind"] == "DaemonSet"
        assert pod.get("hostNetwork", False) == on_node
        assert not {"hostPID", "hostIPC"} & pod.keys()
        paths = {volume["hostPath"]["path"] for volume in pod.get("volumes", []) if "hostPath" in volume}
        if on_node:
            assert pod["securityContext"]["runAsUser"] == 0
            assert paths == {
                "/run/holdfast", "/var/lib/holdfast-agent", *(["/opt/cni/bin"] if variant != "no extras" else []),
                *(["/var/run/netns"] if variant == "everything" else [])}
        else:
            assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
            assert not paths


@variants
def test_nobody_may_read_secrets_or_write_anything_but_events_and_where_asked_for_pods_annotations(variant):
    for it in render(VARIANTS[variant]):
        assert it["kind"] != "Role"
        if it["kind"] == "ClusterRole":
            for rule in it["rules"]:
                assert rule["apiGroups"] and "*" not in str(rule)
                assert "secrets" not in rule["resources"]
                if rule["resources"] == ["events"]:
                    assert rule["verbs"] == ["create", "patch"]
                elif rule["verbs"] == ["patch"]:
                    assert (variant, rule["resources"]) == ("everything", ["pods/status"])
                else:
                    assert set(rule["verbs"]) <= {"get", "list", "watch"}


@variants
def test_only_pods_that_speak_with_the_api_server_get_a_token(variant):
    for owner, pod, _ in pods(render(VARIANTS[variant])):
        asks = not variant.startswith(("no extras", "etcd without"))
        speaks = {"DaemonSet": True, "StatefulSet": asks, "Deployment": asks, "Pod": False}
        assert pod["automountServiceAccountToken"] == speaks[owner["kind"]]


@variants
def test_only_the_test_pod_may_be_evicted_for_others(variant):
    classes = {owner["kind"]: pod.get("priorityClassName") for owner, pod, _ in pods(render(VARIANTS[variant]))}
    server = "Deployment" if variant.startswith("etcd") else "StatefulSet"
    assert classes == {server: "system-cluster-critical", "DaemonSet": "system-node-critical", "Pod": None}


def test_keys_are_mounted_only_where_they_are_needed():
    def keys(values):
        found = {}
        for owner, pod, _ in pods(render(values)):
            for volume in pod.get("volumes", []):
                if "secret" in volume:
                    items = volume["secret"].get("items")
                    found[owner["kind"]] = items is None or "tls.key" in {item["key"] for item in items}
                    assert volume["secret"]["defaultMode"] == 0o440
        return found
    assert keys({}) == {"StatefulSet": True, "DaemonSet": True, "Pod": True}
    assert keys({"tls": {"clientCertificates": False}}) == {"StatefulSet": True, "DaemonSet": False, "Pod": False}
    assert keys({"tls": {"mode": "none"}, "auth": {"enabled": False}}) == {}


def test_the_ca_s_key_is_in_no_pod():
    objects = render()
    assert one(objects, "Secret", "holdfast-ca")["data"]["tls.key"]
    for _, pod, _ in pods(objects):
        assert "holdfast-ca" not in str(pod)


def test_the_network_policy_names_the_server_s_ports_only():
    policy = one(render(VARIANTS["everything"]), "NetworkPolicy")["spec"]
    server = one(render(VARIANTS["everything"]), "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    ports = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
    assert ports == [7440, 9440] == [port["containerPort"] for port in server["ports"]]
    assert policy["egress"] == [{"ports": [{"port": 443}, {"port": 6443}]}] and policy["policyTypes"] == ["Ingress", "Egress"]
    alone = one(render({"server": {"kubernetes": {"enabled": False}}, "auth": {"enabled": False}}), "NetworkPolicy")["spec"]
    assert alone["egress"] == [] and alone["policyTypes"] == ["Ingress", "Egress"]
    calls, metrics = policy["ingress"]
    assert calls["from"][0] == {"ipBlock": {"cidr": "192.0.2.0/24"}}
    test_labels = one(render(VARIANTS["everything"]), "Pod")["metadata"]["labels"]
    assert calls["from"][1]["podSelector"]["matchLabels"].items() <= test_labels.items()
    assert metrics["from"] == [{"namespaceSelector": {}}]


def test_upgrades_go_node_by_node_and_only_with_agents_that_serve():
    daemon_set = one(render(), "DaemonSet")["spec"]
    assert daemon_set["updateStrategy"] == {
        "type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    assert daemon_set["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_a_new_version_of_the_chart_alone_replaces_no_pod():
    for owner, _, labels in pods(render()):
        if owner["kind"] != "Pod":
            assert not {"helm.sh/chart", "app.kubernetes.io/version"} & labels.keys()


def test_where_there_is_tls_the_kubelet_probes_over_http_since_its_grpc_probes_speak_none():
    def probes(values):
        return one(render(values), "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    assert probes({"tls": {"mode": "none"}, "auth": {"enabled": False}})["readinessProbe"]["grpc"] == {"port": 7440, "service": "holdfast.ipam.v1.IPAM"}
    for mode in ("generated", "certManager"):
        container = probes({"tls": {"mode": mode}})
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert "grpc" not in container[probe]
        assert container["readinessProbe"]["httpGet"] == {"port": "http", "path": "/readyz"}


def test_the_agent_s_probes_are_asked_for_where_the_agent_answers():
    agent = one(render({"agent": {"httpPort": 19441}}), "DaemonSet")["spec"]["template"]["spec"]["containers"][0]
    assert "--http=127.0.0.1:19441" in agent["args"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert (agent[probe]["httpGet"]["host"], agent[probe]["httpGet"]["port"]) == ("127.0.0.1", 19441)


def test_agents_show_a_token_that_is_for_this_service_and_the_policy_makes_them_agents():
    for variant in ("least", "everything", "other names", "no client certificates"):
        objects = render(VARIANTS[variant])
        policy = next(it for it in objects if it["kind"] == "ConfigMap" and "policy.yaml" in it["data"])
        roles = yaml.safe_load(policy["data"]["policy.yaml"])
        server = one(objects, "StatefulSet")["spec"]["template"]["spec"]
        (audience,) = [it.partition("=")[2] for it in server["containers"][0]["args"] if it.startswith("--token-audience")]
        shown = {}
        for owner, pod, _ in pods(objects):
            account = f"{NAMESPACE}/{pod['serviceAccountName']}"
            (volume,) = [it for it in pod["volumes"] if "projected" in it]
            token = volume["projected"]["sources"][0]["serviceAccountToken"]
            assert token["audience"] == audience and token["expirationSeconds"] >= 600
            for container in pod.get("initContainers", []) + pod["containers"]:
                if container["name"] == "install":
                    continue
                variables = {it["name"]: it.get("value") for it in container["env"]}
                (mount,) = [it for it in container["volumeMounts"] if it["name"] == volume["name"]]
                assert variables["HOLDFAST_TOKEN_FILE"] == f"{mount['mountPath']}/{token['path']}"
            shown[owner["kind"]] = {role for role, who in roles.items() if account in who.get("serviceAccounts", [])}
        assert shown == {"DaemonSet": {"agent"}, "StatefulSet": {"operator"}, "Pod": {"operator"}}
        # What nobody wrote into the values gives nobody a role: no certificate, no group.
        given = VARIANTS[variant].get("auth", {})
        for role in ("agent", "operator", "reader"):
            for kind in ("groups", "certificates"):
                assert roles[role].get(kind, []) == given.get(role, {}).get(kind, [])


def test_the_test_s_account_which_is_an_operator_s_is_there_for_the_test_only():
    objects = render()
    account = one(objects, "ServiceAccount", one(objects, "Pod")["spec"]["serviceAccountName"])["metadata"]["annotations"]
    pod = one(objects, "Pod")["metadata"]["annotations"]
    assert account["helm.sh/hook"] == pod["helm.sh/hook"] == "test"
    assert int(account["helm.sh/hook-weight"]) < int(pod.get("helm.sh/hook-weight", 0))
    assert set(account["helm.sh/hook-delete-policy"].split(",")) == {"before-hook-creation", "hook-succeeded"}


def test_where_tokens_do_not_name_their_node_the_server_must_look_at_pods():
    values = merged(IMAGE, {"server": {"kubernetes": {"enabled": False}}})
    for version in ("1.27.0", "1.29.9-eks-1"):
        refused = template(values, "--kube-version", version, check=False)
        assert refused.returncode != 0 and "server.kubernetes.enabled" in refused.stderr
        template(merged(values, {"auth": {"enabled": False}}), "--kube-version", version)
        template(IMAGE, "--kube-version", version)
    for version in ("1.30.0", "1.30.0-eks-1"):
        template(values, "--kube-version", version)


def test_tokens_do_not_go_over_a_network_in_the_clear():
    refused = template(merged(IMAGE, {"tls": {"mode": "none"}}), check=False)
    assert refused.returncode != 0 and "auth.enabled needs TLS" in refused.stderr


def test_the_server_may_read_the_keys_of_tokens():
    binding = one(render(), "ClusterRoleBinding", "holdfast-server-token-keys")
    assert binding["roleRef"]["name"] == "system:service-account-issuer-discovery"
    assert binding["subjects"][0]["name"] == one(render(), "StatefulSet")["spec"]["template"]["spec"]["serviceAccountName"]
