"""KubeVirt's and the API server's part: objects as manifests in a folder, written in the order KubeVirt writes them."""

import datetime
import json
import os
import secrets
import string
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import yaml


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Pod:
    vm: str
    node: str
    manifest: dict
    container_id: str = field(default_factory=lambda: secrets.token_hex(32))
    # What the CNI plugin answered, and how the kubelet called it.
    result: dict | None = None
    network: dict | None = None

    @property
    def name(self):
        return self.manifest["metadata"]["name"]

    @property
    def uid(self):
        return self.manifest["metadata"]["uid"]

    @property
    def namespace(self):
        return self.manifest["metadata"]["namespace"]


class Cluster:
    def __init__(self, folder: Path):
        self.folder = folder

    def _path(self, manifest):
        metadata = manifest["metadata"]
        return self.folder / f"{manifest['kind'].lower()}-{metadata['namespace']}-{metadata['name']}.json"

    def put(self, manifest):
        """Readers see the old object or the new one, never half of one."""
        path = self._path(manifest)
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps(manifest, indent=2))
        os.replace(draft, path)

    def remove(self, manifest):
        self._path(manifest).unlink()

    def _metadata(self, name, namespace, **more):
        return {"name": name, "namespace": namespace, "uid": str(uuid.uuid4()), "creationTimestamp": now(), **more}

    def create_vm(self, path, **changes):
        """What `kubectl apply -f PATH` does. `changes`: another name, other annotations on the template."""
        manifest = yaml.safe_load(Path(path).read_text())
        if name := changes.get("name"):
            manifest["metadata"]["name"] = name
        template = manifest["spec"]["template"].setdefault("metadata", {}).setdefault("annotations", {})
        template.update(changes.get("annotations", {}))
        manifest["metadata"] |= self._metadata(
            manifest["metadata"]["name"], manifest["metadata"].get("namespace", "default"))
        self.put(manifest)
        return manifest

    def start_instance(self, vm):
        """virt-controller: a VirtualMachineInstance with a new UID at every start."""
        template = vm["spec"]["template"]
        instance = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": self._metadata(
                vm["metadata"]["name"], vm["metadata"]["namespace"],
                labels=dict(template["metadata"].get("labels", {})),
                annotations=dict(template["metadata"].get("annotations", {})),
                ownerReferences=[self._owner(vm)]),
            "spec": template["spec"],
            "status": {"phase": "Pending", "activePods": {}},
        }
        self.put(instance)
        return instance

    def _owner(self, manifest):
        return {
            "apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "name": manifest["metadata"]["name"],
            "uid": manifest["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True,
        }

    def create_pod(self, instance, node, migration=None):
        """virt-controller and the scheduler: a virt-launcher pod, bound to a node."""
        name = instance["metadata"]["name"]
        suffix = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(5))
        labels = dict(instance["metadata"]["labels"]) | {
            "kubevirt.io": "virt-launcher",
            "kubevirt.io/created-by": instance["metadata"]["uid"],
            "vm.kubevirt.io/name": name,
        }
        annotations = dict(instance["metadata"]["annotations"]) | {"kubevirt.io/domain": name}
        if migration:
            labels["kubevirt.io/migrationJobUID"] = migration["metadata"]["uid"]
            annotations["kubevirt.io/migrationJobName"] = migration["metadata"]["name"]
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": self._metadata(
                f"virt-launcher-{name}-{suffix}", instance["metadata"]["namespace"], labels=labels,
                annotations=annotations, ownerReferences=[self._owner(instance)]),
            "spec": {"nodeName": node, "containers": [{"name": "compute", "image": "virt-launcher"}]},
            "status": {"phase": "Pending"},
        }
        self.put(manifest)
        instance["status"]["phase"] = "Scheduling"
        self.put(instance)
        return Pod(name, node, manifest)

    def pod_runs(self, pod, address):
        """The kubelet's status of the pod."""
        pod.manifest["status"] = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
        self.put(pod.manifest)

    def pod_ended(self, pod):
        pod.manifest["status"]["phase"] = "Succeeded"
        self.put(pod.manifest)

    def instance_runs(self, instance, pod):
        """virt-controller hands over to virt-handler, and the guest runs."""
        instance["metadata"]["labels"]["kubevirt.io/nodeName"] = pod.node
        instance["status"] |= {"phase": "Running", "nodeName": pod.node, "activePods": {pod.uid: pod.node}}
        self.put(instance)

    def terminate(self, manifest):
        """A deletion that waits for its finalizers."""
        manifest["metadata"]["deletionTimestamp"] = now()
        self.put(manifest)

    # Live migration (virt-controller's pkg/virt-controller/watch/migration, virt-handler's migration-*.go).

    def create_migration(self, instance):
        suffix = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(5))
        migration = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstanceMigration",
            "metadata": self._metadata(
                f"kubevirt-migrate-vm-{suffix}", instance["metadata"]["namespace"],
                labels={"kubevirt.io/vmi-name": instance["metadata"]["name"]}),
            "spec": {"vmiName": instance["metadata"]["name"]},
            "status": {"phase": "Pending"},
        }
        self.put(migration)
        return migration

    def set_phase(self, migration, phase):
        migration["status"]["phase"] = phase
        self.put(migration)

    def hand_off(self, migration, instance, source, target):
        """Only now, after the target's CNI ADD, does the instance name its target."""
        self.set_phase(migration, "Scheduled")
        instance["status"]["migrationState"] = {
            "migrationUid": migration["metadata"]["uid"], "sourceNode": source.node, "targetNode": target.node,
            "sourcePod": source.name, "targetPod": target.name,
        }
        instance["status"]["activePods"][target.uid] = target.node
        instance["metadata"]["labels"]["kubevirt.io/migrationTargetNodeName"] = target.node
        self.put(instance)
        for phase in ("PreparingTarget", "TargetReady"):
            self.set_phase(migration, phase)
        instance["status"]["migrationState"] |= {"startTimestamp": now(), "mode": "PreCopy"}
        self.put(instance)
        self.set_phase(migration, "Running")

    def target_ready(self, instance, target):
        """The guest runs on the target: KubeVirt's sign for networks to fail over."""
        stamp = now()
        instance["status"]["migrationState"] |= {
            "targetNodeDomainDetected": True, "targetNodeDomainReadyTimestamp": stamp}
        self.put(instance)
        target.manifest["metadata"]["annotations"]["kubevirt.io/migration-target-ready-timestamp"] = stamp
        self.put(target.manifest)

    def migration_succeeded(self, migration, instance, target):
        instance["metadata"]["labels"]["kubevirt.io/nodeName"] = target.node
        instance["status"]["nodeName"] = target.node
        instance["status"]["migrationState"]["endTimestamp"] = now()
        self.put(instance)
        instance["status"]["migrationState"]["completed"] = True
        self.put(instance)
        instance["metadata"]["labels"].pop("kubevirt.io/migrationTargetNodeName")
        self.put(instance)
        self.set_phase(migration, "Succeeded")

    def migration_failed(self, migration, instance, reason):
        instance["status"]["migrationState"] |= {
            "failed": True, "completed": True, "endTimestamp": now(), "failureReason": reason}
        self.put(instance)
        self.set_phase(migration, "Failed")
        instance["metadata"]["labels"].pop("kubevirt.io/migrationTargetNodeName")
        self.put(instance)
