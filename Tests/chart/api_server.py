"""As much of an API server as Helm's `lookup` and dry runs need: it knows the kinds of the chart and holds what it is given."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RESOURCES = {
    "v1": {"secrets": "Secret", "services": "Service", "configmaps": "ConfigMap", "serviceaccounts": "ServiceAccount",
           "pods": "Pod"},
    "apps/v1": {"statefulsets": "StatefulSet", "deployments": "Deployment", "daemonsets": "DaemonSet"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
    "rbac.authorization.k8s.io/v1": {"clusterroles": "ClusterRole", "clusterrolebindings": "ClusterRoleBinding"},
}


class APIServer:
    """`objects`: by their path. `with APIServer() as server: …`"""

    def __init__(self):
        self.objects = {}

    def __enter__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                content = outer.answer(self.path.split("?")[0])
                body = json.dumps(content or {
                    "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}).encode()
                self.send_response(200 if content else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    @property
    def arguments(self):
        return ["--kube-apiserver", f"http://127.0.0.1:{self.server.server_port}", "--kube-token", "any"]

    def put(self, objects):
        """Holds the Secrets and the workloads among them, marked by Helm as the release's."""
        folders = {"Secret": "/api/v1", **dict.fromkeys(RESOURCES["apps/v1"].values(), "/apis/apps/v1")}
        for it in objects:
            if folder := folders.get(it["kind"]):
                metadata = it["metadata"]
                metadata.setdefault("annotations", {}).update({
                    "meta.helm.sh/release-name": "holdfast",
                    "meta.helm.sh/release-namespace": metadata["namespace"]})
                kind = it["kind"].lower() + "s"
                self.objects[f"{folder}/namespaces/{metadata['namespace']}/{kind}/{metadata['name']}"] = it

    def answer(self, path):
        if path == "/version":
            return {"major": "1", "minor": "31", "gitVersion": "v1.31.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = [version.split("/") for version in RESOURCES if "/" in version]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [
                {"name": group, "versions": [{"groupVersion": f"{group}/{version}", "version": version}],
                 "preferredVersion": {"groupVersion": f"{group}/{version}", "version": version}}
                for group, version in groups]}
        if (version := path.removeprefix("/apis/").removeprefix("/api/")) in RESOURCES:
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [
                {"name": name, "singularName": kind.lower(), "kind": kind, "verbs": ["get", "list"],
                 "namespaced": not kind.startswith("Cluster")} for name, kind in RESOURCES[version].items()]}
        if path.endswith("/secrets"):  # Helm's own, of its releases
            return {"kind": "SecretList", "apiVersion": "v1", "metadata": {}, "items": []}
        if path == "/apis/apps/v1/daemonsets":  # of all namespaces
            return {"kind": "DaemonSetList", "apiVersion": "apps/v1", "metadata": {}, "items": [
                it for it in self.objects.values() if it["kind"] == "DaemonSet"]}
        return self.objects.get(path)
