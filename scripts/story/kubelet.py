"""The kubelet's and the container runtime's part: a network namespace for each pod, and calls of CNI plugins."""

import json
import subprocess

from .stage import DEADLINE, REPOSITORY, environment
from .wire import BRIDGE, NAMESPACES

PLUGINS = "/usr/lib/cni"


class SandboxError(Exception):
    """A pod without network; reads as the kubelet's event does."""


class Kubelet:
    def __init__(self, stage):
        self.stage = stage

    def _network(self, node, as_ipam):
        """The network as the container runtime reads it from /etc/cni/net.d, in one of the two ways of use; the socket
        is this story's own, as there are two nodes on one machine."""
        file = REPOSITORY / "examples" / ("10-vm-net-ipam.conflist" if as_ipam else "10-vm-net.conflist")
        network = json.loads(file.read_text())
        [plugin] = network["plugins"]
        (plugin["ipam"] if as_ipam else plugin)["socket"] = str(self.stage.socket(node))
        return {"cniVersion": network["cniVersion"], "name": network["name"]} | plugin

    def start(self, pod, as_ipam=False):
        """Sets the pod's network up. Without namespaces only the address plugin is called, as `bridge` would call it."""
        wire = self.stage.wire
        pod.network = self._network(pod.node, as_ipam or wire is None)
        if wire:
            wire.add_namespace(pod.name)
        try:
            pod.result = self._call("ADD", pod)
        except SandboxError:
            self.stop(pod)
            raise

    def stop(self, pod):
        self._call("DEL", pod)
        if self.stage.wire:
            self.stage.wire.delete_namespace(pod.name)

    def _call(self, verb, pod):
        wire = self.stage.wire
        kind = pod.network["type"]
        executable = f"{PLUGINS}/{kind}" if wire and kind == "bridge" else f"{self.stage.plugins}/holdfast-cni"
        variables = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": pod.container_id,
            "CNI_NETNS": f"{NAMESPACES}/{pod.name}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": f"{self.stage.plugins}:{PLUGINS}",
            "CNI_ARGS": ";".join([
                "IgnoreUnknown=1", f"K8S_POD_NAMESPACE={pod.namespace}", f"K8S_POD_NAME={pod.name}",
                f"K8S_POD_INFRA_CONTAINER_ID={pod.container_id}", f"K8S_POD_UID={pod.uid}"]),
        }
        configuration = pod.network | ({"prevResult": pod.result} if verb == "DEL" and pod.result else {})
        command = [executable]
        done = subprocess.run(
            wire.inside(pod.node, command) if wire else command, input=json.dumps(configuration),
            env=environment(**variables), capture_output=True, text=True, timeout=2 * DEADLINE)
        with open(self.stage.logs / "cni.log", "a") as log:
            log.write(f"{verb} {pod.node} {pod.name}: {done.returncode}\n{done.stdout}{done.stderr}\n")
        if done.returncode != 0:
            try:
                error = json.loads(done.stdout)
                words = "; ".join(part for part in (error["msg"], error.get("details")) if part)
            except (ValueError, KeyError):
                words = (done.stdout + done.stderr).strip()
            raise SandboxError(
                f'Failed to create pod sandbox: plugin type="{kind}" failed ({verb.lower()}): {words}')
        return json.loads(done.stdout) if done.stdout.strip() else None

    @staticmethod
    def address(pod):
        """The first address that the plugin answered with."""
        return pod.result["ips"][0]["address"].split("/")[0]

    @staticmethod
    def host_port(pod):
        """The node's end of the pod's cable."""
        links = [link for link in pod.result["interfaces"] if not link.get("sandbox") and link["name"] != BRIDGE]
        return links[0]["name"]
