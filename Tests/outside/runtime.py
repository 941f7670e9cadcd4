"""A container runtime's half of CNI: libcni's order of calls, as cnitool makes them, on this machine's network namespaces."""

import copy
import json
import os
import subprocess
import uuid

from processes import DEADLINE, binaries

PLUGINS = "/usr/lib/cni"
# Where our own plugin is.
OURS = str(binaries())
VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]


def ip(*arguments, check=True):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=check, timeout=DEADLINE)


def unusable():
    """Why tests in network namespaces cannot run here; None where they can."""
    if not os.access(f"{PLUGINS}/bridge", os.X_OK):
        return f"needs {PLUGINS}/bridge (containernetworking-plugins)"
    probe = f"hf-probe-{uuid.uuid4().hex[:6]}"
    if ip("netns", "add", probe, check=False).returncode:
        return "needs root and the right to make network namespaces"
    ip("netns", "del", probe)
    return None


def has_devices(kind):
    """Whether the kernel makes devices of this kind on top of another one."""
    below, above = f"hfp{uuid.uuid4().hex[:8]}", f"hfq{uuid.uuid4().hex[:8]}"
    ip("link", "add", below, "type", "veth", "peer", "name", above)
    arguments = ["id", "5"] if kind == "vlan" else []
    made = ip("link", "add", "link", below, "name", f"{below[:-1]}v", "type", kind, *arguments, check=False)
    ip("link", "del", below)
    return made.returncode == 0


class PluginError(Exception):
    """An error object of CNI."""

    def __init__(self, printed, text):
        self.code, self.message = printed.get("code"), printed.get("msg", "")
        self.details, self.version = printed.get("details", ""), printed.get("cniVersion")
        super().__init__(text)


class Namespace:
    def __init__(self):
        self.name = f"hf-{uuid.uuid4().hex[:8]}"
        self.path = f"/run/netns/{self.name}"
        ip("netns", "add", self.name)

    def remove(self):
        ip("netns", "del", self.name, check=False)

    def link(self, interface="eth0"):
        """What the kernel says of the interface; None where it is not there."""
        shown = ip("-n", self.name, "-j", "addr", "show", interface, check=False)
        return json.loads(shown.stdout)[0] if shown.returncode == 0 else None

    def addresses(self, interface="eth0"):
        link = self.link(interface) or {"addr_info": []}
        found = [a for a in link["addr_info"] if a["scope"] == "global"]
        return sorted(f"{address['local']}/{address['prefixlen']}" for address in found)

    def routes(self, family="-4"):
        return json.loads(ip("-n", self.name, family, "-j", "route").stdout or "[]")


class Attachment:
    """What a runtime knows of one interface of one container: its parameters (SPEC.md, section 3)."""

    def __init__(self, pod, namespace, container=None, interface="eth0", uid=None, capabilities=None):
        self.pod, self.namespace, self.interface = pod, namespace, interface
        self.container = container or uuid.uuid4().hex
        self.uid = uid or f"uid-{pod}"
        self.capabilities = capabilities or {}

    @property
    def valid(self):
        return {"containerID": self.container, "ifname": self.interface}

    @property
    def environment(self):
        namespace, name = ("default", self.pod) if "/" not in self.pod else self.pod.split("/")
        arguments = {
            "IgnoreUnknown": "1", "K8S_POD_NAMESPACE": namespace, "K8S_POD_NAME": name,
            "K8S_POD_INFRA_CONTAINER_ID": self.container, "K8S_POD_UID": self.uid,
        }
        return {
            "CNI_CONTAINERID": self.container, "CNI_NETNS": self.namespace.path, "CNI_IFNAME": self.interface,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in arguments.items()),
        }


class Runtime:
    """Executes one network's list of plugins (SPEC.md, section 3; libcni/api.go)."""

    def __init__(self, network, path=None):
        self.network = network
        self.path = path or [PLUGINS, OURS]
        self.results = {}

    @property
    def version(self):
        return self.network["cniVersion"]

    def _find(self, name):
        found = [f"{folder}/{name}" for folder in self.path if os.access(f"{folder}/{name}", os.X_OK)]
        assert found, f"no plugin {name} in {self.path}"
        return found[0]

    def start(self, verb, plugin, attachment=None, **more):
        """One plugin's process, with its input written."""
        configuration = copy.deepcopy(plugin) | {
            "name": self.network["name"], "cniVersion": self.network["cniVersion"], **more}
        environment = {"CNI_COMMAND": verb, "CNI_PATH": ":".join(self.path), "PATH": os.environ["PATH"]}
        if attachment:
            environment |= attachment.environment
            declared = plugin.get("capabilities", {})
            wanted = {key: value for key, value in attachment.capabilities.items() if declared.get(key)}
            if wanted:
                configuration["runtimeConfig"] = wanted
        process = subprocess.Popen(
            [self._find(plugin["type"])], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        process.stdin.write(json.dumps(configuration))
        process.stdin.close()
        process.stdin = None
        return process

    @staticmethod
    def finish(process, timeout=DEADLINE):
        """What the plugin printed; raises PluginError where it failed."""
        output, errors = process.communicate(timeout=timeout)
        if process.returncode == 0:
            return json.loads(output) if output else None
        try:
            printed = json.loads(output)
        except ValueError:
            printed = {}
        raise PluginError(printed, f"status {process.returncode}: {output} {errors}")

    def _run(self, *arguments, **more):
        return self.finish(self.start(*arguments, **more))

    def add(self, attachment):
        result = None
        for plugin in self.network["plugins"]:
            more = {"prevResult": result} if result else {}
            result = self._run("ADD", plugin, attachment, **more)
        self.results[(attachment.container, attachment.interface)] = result
        return result

    def check(self, attachment):
        assert self.version >= "0.4.0", "CHECK exists since 0.4.0"
        result = self.results[(attachment.container, attachment.interface)]
        for plugin in self.network["plugins"]:
            assert self._run("CHECK", plugin, attachment, prevResult=result) is None

    def delete(self, attachment):
        result = self.results.get((attachment.container, attachment.interface))
        more = {"prevResult": result} if result and self.version >= "0.4.0" else {}
        for plugin in reversed(self.network["plugins"]):
            assert self._run("DEL", plugin, attachment, **more) is None
        self.results.pop((attachment.container, attachment.interface), None)

    def collect(self, valid):
        """GC, where the version has it."""
        more = {"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid}
        for plugin in self.network["plugins"] if self.version >= "1.1.0" else []:
            assert self._run("GC", plugin, **more) is None

    def status(self):
        """STATUS, where the version has it."""
        for plugin in self.network["plugins"] if self.version >= "1.1.0" else []:
            assert self._run("STATUS", plugin) is None
