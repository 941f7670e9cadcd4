import Addresses
import IPAMModel
import KubeVirt
import Lifecycle
import Testing

/// What the comparison finds, and what it would do about it.
struct DisagreementTests {
    private let start = ContinuousClock.now

    /// The remedies for these bindings in such a cluster, at first sight.
    private func remedies(
        _ bindings: [Binding], coverage: Inventory.Coverage = [.machines, .pods],
        _ change: (inout StatedCluster.State) -> Void = { _ in }
    ) -> [Disagreement.Remedy] {
        var state = StatedCluster.State()
        // As in any cluster there is something else.
        state.machines = [name("other")]
        state.pods = [pod("other")]
        change(&state)
        var observations = Observations(grace: .seconds(60))
        return observations.compare(bindings, with: state.inventory(coverage), at: start).found.map(\.remedy)
    }

    private func binding(
        _ owner: Owner, active: String? = nil, target: String? = nil, migration: String = ""
    ) -> Binding {
        Binding(
            owner: owner, pool: "vms", assignments: [], mac: MACAddress(bits: 1), active: active.map { attachment($0) },
            target: target.map { attachment($0, on: "node-b") }, migrationUID: migration, revision: 1,
            createdAt: Timestamp(seconds: 0), updatedAt: Timestamp(seconds: 0))
    }

    @Test func `a halted VM agrees for ever, and so does one that runs`() {
        #expect(remedies([binding(vm("testvm"))]) { $0.machines.insert(name("testvm")) } == [])
        #expect(
            remedies([binding(vm("testvm"), active: "p")]) {
                $0.machines.insert(name("testvm"))
                $0.pods.append(pod("p"))
            } == [])
    }

    @Test func `a VM that is gone is freed, and an instance that stood alone as well`() {
        #expect(remedies([binding(vm("testvm"))]) == [.free])
        #expect(remedies([binding(vm("testvm"), active: "p")]) == [.free])
        #expect(remedies([binding(vm("testvm"), active: "p")]) { $0.pods.append(pod("p", phase: "Failed")) } == [.free])
        #expect(remedies([binding(vm("testvm"))]) { $0.instances = [instance("testvm")] } == [])
    }

    @Test func `a VM made anew under the name keeps what the one before had`() {
        #expect(remedies([binding(vm("testvm", uid: "older"))]) { $0.machines.insert(name("testvm")) } == [])
    }

    @Test func `what was reserved by hand, with no VM's UID, is nobody's to free`() {
        #expect(remedies([binding(vm("testvm", uid: ""))]) == [])
        #expect(remedies([binding(podOwner("web", uid: ""))]) == [])
    }

    @Test func `a VM that is gone while its pod runs on is left to a person`() {
        #expect(remedies([binding(vm("testvm"), active: "p")]) { $0.pods.append(pod("p")) } == [.byHand])
        #expect(
            remedies([binding(vm("testvm"), active: "p", target: "q", migration: "m")]) {
                $0.pods.append(pod("q"))
            } == [.byHand])
    }

    @Test func `a pod's binding is freed when the pod of that UID is gone, and only by who has seen all pods`() {
        #expect(remedies([binding(podOwner("web"), active: "web")]) == [.free])
        #expect(remedies([binding(podOwner("web"), active: "web")]) { $0.pods.append(pod("web")) } == [])
        #expect(
            remedies([binding(podOwner("web"), active: "web")]) {
                $0.pods.append(pod("web", phase: "Succeeded"))
            } == [])
        #expect(remedies([binding(podOwner("web", uid: "older"))]) { $0.pods.append(pod("web")) } == [.free])
        #expect(remedies([binding(podOwner("web"))], coverage: [.machines, .launchers]) == [])
    }

    @Test func `a carrier that is gone leaves the VM its address`() {
        let found = remedies([binding(vm("testvm"), active: "p")]) { $0.machines.insert(name("testvm")) }
        #expect(found == [.detach(attachment("p").id)])
        #expect(
            remedies([binding(vm("testvm"), active: "p")], coverage: .machines) {
                $0.machines.insert(name("testvm"))
            } == [])
        // Until the migration has ended nobody can tell who carries it.
        #expect(
            remedies([binding(vm("testvm"), active: "p", target: "q", migration: "m")]) {
                $0.machines.insert(name("testvm"))
            } == [])
    }

    @Test func `a VM that runs on after a migration that failed late is told to a person`() {
        let owner = Owner(kind: .virtualMachine, namespace: "default", name: "testvm", uid: "u", network: "vm-net/pod1")
        let held = IPAddress(family: .ipv4, bits: 0x0a10_000f)
        let other = IPAddress(family: .ipv4, bits: 0x0a10_0010)
        func found(
            active: String? = nil, node: String = "node-a", phase: String = "Running",
            controller: String = "vmi-testvm",
            failed: Bool? = true, interfaces: [String: [IPAddress]]?
        ) -> [Disagreement.Remedy] {
            var binding = binding(owner, active: active)
            binding.assignments = [Assignment(address: held, prefixLength: 16, gateway: nil)]
            return remedies([binding]) {
                $0.machines.insert(name("testvm"))
                $0.instances = [instance("testvm", state: MigrationState(migrationUid: "m", failed: failed))]
                var pod = pod("launcher", phase: phase, node: node)
                pod.interfaces = interfaces
                pod.metadata.owners = [
                    OwnerReference(
                        apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", name: "testvm", uid: controller)
                ]
                $0.pods.append(pod)
            }
        }
        #expect(found(interfaces: ["eth0": [other], "pod1": [held]]) == [.byHand])
        #expect(found(active: "launcher", interfaces: ["pod1": [held]]) == [], "it carries them")
        #expect(found(interfaces: ["eth0": [other]]) == [], "the NIC was taken out")
        #expect(found(interfaces: ["pod1": [other]]) == [], "the NIC is in another network")
        #expect(found(interfaces: nil) == [], "nobody knows")
        #expect(
            found(failed: nil, interfaces: ["pod1": [held]]) == [], "its addresses were imported, or reserved by hand")
        #expect(found(phase: "Succeeded", interfaces: ["pod1": [held]]) == [], "it is being stopped")
        #expect(found(node: "node-b", interfaces: ["pod1": [held]]) == [], "a target of a migration")
        #expect(found(controller: "vmi-before", interfaces: ["pod1": [held]]) == [], "a leftover of another run")
    }

    @Test func `a migration that hangs is settled as it ended in the cluster`() {
        let open = binding(vm("testvm"), active: "p", target: "q", migration: "m")
        func settle(_ change: (inout StatedCluster.State) -> Void) -> [Disagreement.Remedy] {
            remedies([open], coverage: .migrations) {
                $0.pods = [pod("q", node: "node-b")]
                $0.instances = [instance("testvm")]
                change(&$0)
            }
        }
        #expect(settle { $0.migrations = [migration("m", of: "testvm", phase: "Running")] } == [])
        #expect(
            settle { $0.migrations = [migration("m", of: "testvm", phase: "Succeeded")] } == [.commit(newOwner: nil)])
        #expect(settle { $0.migrations = [migration("m", of: "testvm", phase: "Failed")] } == [.abort])
        #expect(settle { _ in } == [.abort])
        #expect(
            settle {
                $0.migrations = [migration("m", of: "testvm", phase: "Running")]
                $0.pods = []
            } == [.abort])
        #expect(
            settle { $0.instances = [instance("testvm", node: "node-b", state: MigrationState(migrationUid: "m"))] }
                == [.commit(newOwner: nil)])
        #expect(settle { $0.instances = [instance("testvm", state: MigrationState(migrationUid: "m"))] } == [])
    }
}
