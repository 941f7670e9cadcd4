"""The story of two guests: boot, power off and on elsewhere, live migration, and one that is aborted."""

from story.chapters import STATIC, Machine, Story
from story.screen import green, red, say, table, title
from story.stage import StageError, wait_until
from story.wire import ip

from . import image
from .qemu import Qemu
from .tap import TAP, managed_tap
from .traffic import Pings, Session

BOOT = 180.0
LEASE = r"guest: (?:bound|renew) ([\d.]+)/\d+ router ([\d.]+) host (\S+) lease (\d+)\s"
# Short, so that renewals happen while the reader waits: half of it after the last one.
LEASE_TIME = 12


def make_tap(pod, name):
    ip("-n", pod, "tuntap", "add", name, "mode", "tap")


class GuestStory(Story):
    def __init__(self, stage):
        super().__init__(stage)
        self.image = image.make()
        self.guests = {}

    # What virt-handler and virt-launcher do once the pod has its network.

    def _set_up(self, machine, pod):
        super()._set_up(machine, pod)
        mac = managed_tap(pod.name, make_tap)
        incoming = self.stage.folder / f"{pod.container_id[:8]}.mig" if machine.pods else None
        self.guests[pod.uid] = Qemu(self.stage, pod, mac, self.image, incoming)
        self.guests[pod.uid].incoming = incoming
        machine.mac = mac

    def _start_guest(self, machine, pod):
        self.wire.point(machine.mac, pod.node, self.kubelet.host_port(pod))

    def _shut_down(self, machine):
        for pod in machine.pods:
            self.guests.pop(pod.uid).power_off()
        super()._shut_down(machine)

    def stop(self):
        for guest in self.guests.values():
            guest.power_off()

    def _guest(self, machine):
        return self.guests[machine.pod.uid]

    def _booted(self, machine):
        """The guest has its address by DHCP, and answers."""
        guest = self._guest(machine)
        address, router, host, lease = guest.wait_for(f"{machine.name}'s guest has a lease", LEASE, BOOT)
        binding = self.stage.bindings()[machine.name]
        held = (binding["assignments"][0]["address"], binding["mac"])
        machine.identity = machine.identity or held
        self.check(held == machine.identity, f"{machine.name} is {held}, and was {machine.identity} before")
        self.check(address == held[0], f"{machine.name}'s guest got {address} by DHCP, and the ledger says {held[0]}")
        self.check((router, host, lease) == ("10.16.0.1", machine.name, str(LEASE_TIME)),
                   f"{machine.name}'s guest got its router, name and lease time (got {router}, {host}, {lease})")
        self.check(guest.said(r"up after [\d.]+ s with (\S+)") == [machine.mac], f"{machine.name}'s MAC")
        wait_until(f"{machine.name} answers ping", lambda: self.wire.ping(address)[0])

    def _ping(self, address):
        """A guest of an emulated processor may take its time."""
        try:
            return wait_until("it answers", lambda: (told := self.wire.ping(address))[0] and told, 30)
        except StageError:
            return False, None

    def show(self):
        rows = []
        bindings = self.stage.bindings()
        for machine in self.machines.values():
            answered, mac = self._ping(machine.identity[0])
            self.check(answered, f"{machine.name} does not answer ping on {machine.identity[0]}")
            self.check(mac == machine.identity[1], f"{mac} answers for {machine.name}")
            binding = bindings[machine.name]
            state = binding["state"].removeprefix("BINDING_STATE_")
            guest = self._guest(machine)
            up, *_ = guest.said(r"up after ([\d.]+) s") or ["-"]
            leases = guest.said(LEASE)
            rows.append([
                machine.name, machine.pod.node, machine.pod.name, leases[-1][0] if leases else "-", mac or "none",
                (("answers", green) if answered else ("SILENT", red)), f"{up} s" if up != "-" else "(migrated)", state])
        table(["VM", "NODE", "POD", "IP BY DHCP", "MAC ON THE WIRE", "PING", "UP AFTER", "LEDGER"], rows)

    def tell(self):
        self.stage.start()
        for number, chapter in enumerate([self.create, self.power_cycle, self.migrate, self.abort], 1):
            title(f"{number}. {chapter.__doc__}")
            chapter()

    def create(self):
        """Two virtual machines boot and get their addresses by DHCP"""
        options = {"ovn.kubernetes.io/dhcp-v4-options": f"lease_time={LEASE_TIME}"}
        for example, node in (("testvm.yaml", "node-a"), ("testvm-static-ip.yaml", "node-b")):
            self._create(example, node, annotations=options)
        for machine in self.machines.values():
            self._booted(machine)
        self.check(self.machines["testvm-static-ip"].identity[0] == STATIC, f"testvm-static-ip has {STATIC}")
        self.show()
        say("Each is a QEMU process in its pod's namespace, with a tap in KubeVirt's bridge (binding managedTap). Nobody "
            "but the agent answers DHCP there: at the tap, with the binding's address, router and name.")

    def power_cycle(self):
        """testvm is powered off, and on again on the other node"""
        machine = self.machines["testvm"]
        self._shut_down(machine)
        self.check(not self.wire.ping(machine.identity[0])[0], f"{machine.identity[0]} answers, and no guest has it")
        self._launch(machine, "node-b")
        self._start_guest(machine, machine.pod)
        self._booted(machine)
        self.show()
        say("A new pod, another agent, a guest that has forgotten everything: the same address.")

    def migrate(self):
        """testvm migrates live from node-b to node-a, while it counts"""
        machine = self.machines["testvm"]
        source = machine.pod
        with_session = self._session(machine)
        pings = Pings(self.wire, machine.identity[0], self.stage.logs / "migrate.pings")
        migration = self.cluster.create_migration(machine.instance)
        target = self._prepare(machine, migration, "node-a")
        before = len(with_session.numbers)
        self.guests[source.uid].migrate(self.guests[target.uid].incoming)
        wait_until("the guest runs on node-a", lambda: self._migrated(source, target), 120)
        # The network switches when the target's domain runs, and KubeVirt says so.
        self._start_guest(machine, target)
        self.cluster.target_ready(machine.instance, target)
        self._wait_for(
            machine, "the ledger has the target as testvm's pod",
            lambda binding: binding["state"] == "BINDING_STATE_BOUND" and binding["active"]["podUid"] == target.uid)
        self.cluster.migration_succeeded(migration, machine.instance, target)
        self.guests.pop(source.uid).power_off()
        self.cluster.pod_ended(source)
        machine.pods = [target]
        self.kubelet.stop(source)
        self.cluster.remove(source.manifest)
        wait_until("the counter goes on", lambda: len(with_session.numbers) > before + 20, 60)
        # The guest's next renewals are answered by node-a's agent.
        self.guests[target.uid].wait_for("the guest renews on node-a", LEASE, 60, count=2)
        self.check(not self.guests[target.uid].said("guest: (?:refused|no lease)"), "testvm's lease went on")
        self._told("migration", machine, with_session, pings)
        self.show()

    def _migrated(self, source, target):
        status = self.guests[source.uid].migration()
        self.check(status != "failed", "QEMU's migration fails")
        return status in ("completed", "failed") and self.guests[target.uid].state() == "running"

    def _prepare(self, machine, migration, node):
        """The target pod's ADD is the Transfer's PREPARE; its QEMU waits for the guest."""
        target = self._target(machine, migration, node)
        binding = self.stage.bindings()[machine.name]
        self.check(binding["state"] == "BINDING_STATE_MIGRATING" and binding["target"]["podUid"] == target.uid,
                   "the ledger has the migration's target")
        return target

    def _session(self, machine):
        session = Session(self.wire, machine.identity[0])
        self.check(session.opened, f"a TCP session to {machine.name} opens")
        wait_until("the guest counts", lambda: len(session.numbers) > 5)
        return session

    def _told(self, what, machine, session, pings):
        sent, answered, gap = pings.stop()
        fault = session.fault()
        self.check(fault is None, f"the TCP session to {machine.name} goes on over the {what}: {fault}")
        self.check(answered > 0, f"{machine.name} answers during the {what}")
        first, last = session.numbers[0], session.numbers[-1]
        session.close()
        say(f"One TCP session all the while: the guest counted from {first} to {last} in it, and did not begin anew. Pinged "
            f"every {1000 * Pings.INTERVAL:.0f} ms: {answered} of {sent} answered, longest gap {1000 * gap:.0f} ms.")

    def abort(self):
        """A second migration, back to node-b, is aborted in the middle"""
        machine = self.machines["testvm"]
        source = machine.pod
        session = self._session(machine)
        pings = Pings(self.wire, machine.identity[0], self.stage.logs / "abort.pings")
        migration = self.cluster.create_migration(machine.instance)
        target = self._prepare(machine, migration, "node-b")
        guest = self.guests[source.uid]
        # So slow that it is under way for sure.
        guest.migrate(self.guests[target.uid].incoming, bytes_per_second=1 << 20)
        wait_until("memory is under way", lambda: guest.ask("query-migrate").get("ram", {}).get("transferred", 0) > 1 << 19)
        guest.ask("migrate_cancel")
        wait_until("QEMU has cancelled", lambda: guest.migration() == "cancelled")
        self.check(guest.state() == "running", "the guest runs on at the source")
        self.guests.pop(target.uid).power_off()
        self.cluster.migration_failed(migration, machine.instance, "Live migration aborted by the user")
        self._wait_for(
            machine, "the ledger has ended the migration",
            lambda binding: binding["state"] == "BINDING_STATE_BOUND" and binding["active"]["podUid"] == source.uid)
        self.cluster.pod_ended(target)
        machine.pods = [source]
        self.kubelet.stop(target)
        self.cluster.remove(target.manifest)
        renewed = len(guest.said(LEASE))
        guest.wait_for("the guest renews where it was", LEASE, 60, count=renewed + 1)
        self._told("aborted migration", machine, session, pings)
        self.show()

    def verdict(self):
        if self.failures:
            title("NOT held")
            for failure in dict.fromkeys(self.failures):
                say(red(f"- {failure}"), 2)
            return False
        title("Held")
        say(green("Real guests: their addresses by DHCP from the node's agent, the same after power off and on elsewhere; "
                  "sessions that outlived a live migration and an aborted one."))
        return True
