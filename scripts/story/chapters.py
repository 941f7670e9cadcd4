"""The story: what happens to three virtual machines, and what that must not do to their addresses."""

from .cluster import Cluster
from .kubelet import Kubelet, SandboxError
from .screen import green, quote, red, say, table, title
from .stage import REPOSITORY, wait_until

STATIC = "10.16.0.15"


def words(identity):
    """An IP and MAC address as text."""
    return " ".join(str(part) for part in identity)


class Machine:
    """A VM of the story, the pods that stand for it now, and the identity it was first seen with."""

    def __init__(self, vm):
        self.vm = vm
        self.name = vm["metadata"]["name"]
        self.instance = None
        self.pods = []
        self.identity = None

    @property
    def pod(self):
        return self.pods[0]


class Story:
    def __init__(self, stage):
        self.stage = stage
        self.wire = stage.wire
        self.cluster = Cluster(stage.objects)
        self.kubelet = Kubelet(stage)
        self.machines = {}
        self.failures = []

    def check(self, holds, claim):
        if not holds:
            self.failures.append(claim)
            say(red(f"  NOT SO: {claim}"))

    # What the reader sees after each step.

    def show(self):
        """The table: every VM as its pods' interfaces and the ledger have it, and whether it answers on the wire."""
        bindings = self.stage.bindings()
        rows = []
        for machine in self.machines.values():
            binding = bindings.get(machine.name)
            if binding is None:
                self.check(False, f"{machine.name} has no binding in the ledger")
                continue
            held = (binding["assignments"][0]["address"], binding["mac"])
            machine.identity = machine.identity or held
            self.check(held == machine.identity,
                       f"{machine.name} is {words(held)} in the ledger, and was {words(machine.identity)} before")
            state = binding["state"].removeprefix("BINDING_STATE_")
            if not machine.pods:
                rows.append([machine.name, "-", "(no pod)", held[0], held[1], "-", state])
                if self.wire:
                    self.check(not self.wire.ping(held[0])[0], f"{held[0]} answers, and no pod has it")
            for pod in machine.pods:
                seen = self._interface(pod, held)
                self.check(seen == machine.identity,
                           f"{pod.name} on {pod.node} has {words(seen)}, not {words(machine.identity)}")
                answers = self._answers(machine, pod)
                paint = green if seen == machine.identity else red
                rows.append([machine.name, pod.node, pod.name, (seen[0], paint), (seen[1], paint), answers, state])
        table(["VM", "NODE", "POD", "IP", "MAC", "PING", "LEDGER"], rows)

    def _interface(self, pod, held):
        if self.wire:
            return self.wire.interface(pod.name) or ("none", "none")
        return self.kubelet.address(pod), held[1]

    def _answers(self, machine, pod):
        if not self.wire:
            return "-"
        if pod is not machine.pod:
            return "waits"
        answered, mac = self.wire.ping(machine.identity[0])
        self.check(answered, f"{machine.name} does not answer ping on {machine.identity[0]}")
        self.check(mac in (None, machine.identity[1]), f"{mac} answers for {machine.name}")
        return ("answers", green) if answered else ("SILENT", red)

    # KubeVirt's and the kubelet's steps that several chapters share.

    def _launch(self, machine, node):
        machine.instance = self.cluster.start_instance(machine.vm)
        pod = self.cluster.create_pod(machine.instance, node)
        self._set_up(machine, pod)
        self.cluster.instance_runs(machine.instance, pod)
        machine.pods = [pod]

    def _set_up(self, machine, pod):
        self.kubelet.start(pod)
        self.cluster.pod_runs(pod, self.kubelet.address(pod))

    def _start_guest(self, machine, pod):
        if self.wire:
            self.wire.start_guest(pod.name)

    def _shut_down(self, machine):
        """The VMI and its pods are deleted; the VM object stays."""
        self.cluster.terminate(machine.instance)
        for pod in machine.pods:
            self.cluster.terminate(pod.manifest)
            self.kubelet.stop(pod)
            self.cluster.remove(pod.manifest)
        self.cluster.remove(machine.instance)
        machine.pods = []

    def _wait_for(self, machine, what, condition):
        wait_until(what, lambda: condition(self.stage.bindings()[machine.name]))

    def _create(self, example, node, **changes):
        machine = Machine(self.cluster.create_vm(REPOSITORY / "examples" / example, **changes))
        self._launch(machine, node)
        self._start_guest(machine, machine.pod)
        self.machines[machine.name] = machine
        return machine

    # The chapters.

    def tell(self):
        self.stage.start()
        chapters = [
            self.create, self.restart, self.migrate, self.abort, self.stop_and_start, self.ask_for_a_taken_address,
            self.delete,
        ]
        for number, chapter in enumerate(chapters, 1):
            title(f"{number}. {chapter.__doc__}")
            chapter()

    def create(self):
        """Two virtual machines are created"""
        self._create("testvm.yaml", "node-a")
        self._create("testvm-static-ip.yaml", "node-b")
        self.show()
        self.check(
            self.machines["testvm-static-ip"].identity[0] == STATIC, f"testvm-static-ip has the {STATIC} it asks for")
        say("testvm asked for nothing and got the first free address of the pool vm-net (examples/pools.yaml). "
            f"testvm-static-ip asks for {STATIC} in an annotation and has it. Each got a MAC address as well. "
            "From now on these belong to the VMs, not to the pods that run them.")

    def restart(self):
        """testvm is restarted, and comes up on the other node"""
        machine = self.machines["testvm"]
        old = machine.pod
        self._shut_down(machine)
        self._launch(machine, "node-b")
        self._start_guest(machine, machine.pod)
        self.show()
        say(f"{old.name} is gone, and {machine.pod.name} on another node is a new pod with a new UID. A pod's address "
            "would have gone with it; the guest comes back with the one that its clients, firewall rules and DNS know.")

    def migrate(self):
        """testvm migrates live from node-b to node-a"""
        machine = self.machines["testvm"]
        source = machine.pod
        migration = self.cluster.create_migration(machine.instance)
        pinging = self.wire.start_pinging(machine.identity[0]) if self.wire else None
        target = self._target(machine, migration, "node-a")
        self.show()
        say("Both pods are up with the same address, because a migration with that UID is on record for this VM: "
            "the source still runs the guest, the target waits for its memory and says nothing on the wire. The ledger says "
            "MIGRATING.")
        # The guest runs on the target now: its first frame moves its MAC there, and KubeVirt says so.
        if self.wire:
            self.wire.stop_guest(source.name)
        self._start_guest(machine, target)
        self.cluster.target_ready(machine.instance, target)
        self._wait_for(
            machine, "the ledger has the target as testvm's pod",
            lambda binding: binding["state"] == "BINDING_STATE_BOUND" and binding["active"]["podUid"] == target.uid)
        self.cluster.migration_succeeded(migration, machine.instance, target)
        self.cluster.pod_ended(source)
        machine.pods = [target]
        # KubeVirt may leave the ended source pod for days. Its DEL comes late, and must not undo anything.
        self.kubelet.stop(source)
        self.cluster.remove(source.manifest)
        self.show()
        said = ""
        if pinging:
            sent, answered = self.wire.stop_pinging(pinging)
            said = f" Pinged all the while: {answered} of {sent} answered."
            self.check(answered > 0, "testvm answers while it migrates")
        say("The guest runs on node-a and the ledger has committed the move. The source pod's clean-up came afterwards "
            "and changed nothing: it speaks for a pod that no longer carries the address." + said)

    def _target(self, machine, migration, node):
        target = self.cluster.create_pod(machine.instance, node, migration)
        self.cluster.set_phase(migration, "Scheduling")
        self._set_up(machine, target)
        self.cluster.hand_off(migration, machine.instance, machine.pod, target)
        machine.pods = [machine.pod, target]
        return target

    def abort(self):
        """A second migration, back to node-b, is aborted half-way"""
        machine = self.machines["testvm"]
        source = machine.pod
        migration = self.cluster.create_migration(machine.instance)
        target = self._target(machine, migration, "node-b")
        self.show()
        say("Again both are up. Now KubeVirt says that the migration has failed.")
        self.cluster.migration_failed(migration, machine.instance, "Live migration aborted by the user")
        self._wait_for(
            machine, "the ledger has ended the migration",
            lambda binding: binding["state"] == "BINDING_STATE_BOUND" and binding["active"]["podUid"] == source.uid)
        self.cluster.pod_ended(target)
        self.kubelet.stop(target)
        self.cluster.remove(target.manifest)
        machine.pods = [source]
        self.show()
        say("The target pod is dropped, and the source goes on as if nothing had happened: same pod, same address.")

    def stop_and_start(self):
        """testvm is stopped, stays off for a while, and is started again"""
        machine = self.machines["testvm"]
        self._shut_down(machine)
        self._wait_for(
            machine, "the ledger keeps the address for the stopped VM",
            lambda binding: binding["state"] == "BINDING_STATE_RESERVED")
        self.show()
        say("No pod exists, so nothing answers; the ledger says RESERVED. The address waits for its VM however long "
            "that is off, and nobody else gets it.")
        self._launch(machine, "node-b")
        self._start_guest(machine, machine.pod)
        self.show()
        say("Started again, with what it had before.")

    def ask_for_a_taken_address(self):
        """A third VM asks for an address that is taken"""
        name = "copycat"
        vm = self.cluster.create_vm(
            REPOSITORY / "examples/testvm-static-ip.yaml", name=name,
            annotations={"ovn.kubernetes.io/ip_address": STATIC})
        say(f"{name} is a copy of testvm-static-ip.yaml that still asks for {STATIC}. This time the network has the "
            "plain `bridge` plugin with holdfast-cni as its `ipam`, the other way of use. `kubectl describe pod` shows:")
        self._refused(vm, "node-a", [STATIC, "testvm-static-ip"])
        self.show()
        say("Refused, with the holder's name; testvm-static-ip was not disturbed. Two machines with one address would "
            "have cut off both.")

    def _refused(self, vm, node, words):
        instance = self.cluster.start_instance(vm)
        pod = self.cluster.create_pod(instance, node)
        try:
            self.kubelet.start(pod, as_ipam=True)
            self.check(False, f"{pod.vm} is refused")
            self.kubelet.stop(pod)
        except SandboxError as refusal:
            print()
            quote(f"Warning  FailedCreatePodSandBox  kubelet  {refusal}", wrap=True)
            for word in words:
                self.check(word in str(refusal), f"the refusal names {word}")
        self.cluster.remove(pod.manifest)
        self.cluster.remove(instance)
        self.cluster.remove(vm)

    def delete(self):
        """testvm is deleted"""
        machine = self.machines.pop("testvm")
        address = machine.identity[0]
        self.cluster.terminate(machine.vm)
        self._shut_down(machine)
        self.cluster.remove(machine.vm)
        wait_until("the ledger frees the deleted VM's address", lambda: machine.name not in self.stage.bindings())
        self.show()
        for arguments in (["pool", "list"], ["binding", "show", address]):
            print(f"    $ holdfast {' '.join(arguments)}")
            quote(self.stage.holdfast(*arguments)[1])
            print()
        say(f"Only now is {address} free, and for 60 s it stays in quarantine: whoever remembers the old VM at that "
            "address must not reach another one. A VM that asks for it at once is told so:")
        vm = self.cluster.create_vm(
            REPOSITORY / "examples/testvm-static-ip.yaml", name="newcomer",
            annotations={"ovn.kubernetes.io/ip_address": address})
        self._refused(vm, "node-b", [address])

    def verdict(self):
        if self.failures:
            title("Addresses NOT held")
            for failure in dict.fromkeys(self.failures):
                say(red(f"- {failure}"), 2)
            return False
        title("Addresses held")
        say(green("testvm kept its IP and MAC address from creation to deletion: over a restart on another node, a "
                  "live migration, an aborted one, and a stop and start. testvm-static-ip had the address it asked "
                  "for all along. Nobody else got either."))
        return True
