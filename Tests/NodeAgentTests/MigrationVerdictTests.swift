import Addresses
import IPAMModel
import KubeVirt
import NodeAgent
import Testing

struct MigrationVerdictTests {
    private let binding = Binding(
        owner: Owner(kind: .virtualMachine, namespace: "default", name: "testvm", uid: "vm-1", network: "n/eth0"),
        pool: "vms", assignments: [], mac: MACAddress(bits: 1),
        active: Attachment(node: "node-a", pod: "source", podUID: "source-1", containerID: "c1"),
        target: Attachment(node: "node-b", pod: "target", podUID: "target-1", containerID: "c2"),
        migrationUID: "vmim-1", revision: 1, createdAt: Timestamp(seconds: 0), updatedAt: Timestamp(seconds: 0))

    /// The migration under way: the target pod runs, nothing is decided.
    private func running() -> ClusterObjects {
        var objects = ClusterObjects()
        objects.pods = [
            Pod(
                metadata: ObjectMeta(namespace: "default", name: "source", uid: "source-1"), nodeName: "node-a",
                phase: "Running"),
            Pod(
                metadata: ObjectMeta(
                    namespace: "default", name: "target", uid: "target-1",
                    labels: [KubeVirtName.migrationJobUID: "vmim-1"]), nodeName: "node-b", phase: "Running"),
        ]
        objects.instances = [
            VirtualMachineInstance(
                metadata: ObjectMeta(namespace: "default", name: "testvm", uid: "vmi-1"), nodeName: "node-a",
                migration: MigrationState(migrationUid: "vmim-1", targetNode: "node-b"))
        ]
        objects.migrations = [
            VirtualMachineInstanceMigration(
                metadata: ObjectMeta(namespace: "default", name: "m", uid: "vmim-1"), vmiName: "testvm",
                phase: "Running")
        ]
        return objects
    }

    private enum Decision { case wait, commit, abort }

    private func decide(
        previous: Reading? = nil, isComplete: Bool = true, _ change: (inout ClusterObjects) -> Void
    ) -> Decision {
        var objects = running()
        change(&objects)
        let reading = Reading(objects: objects, isComplete: isComplete)
        switch MigrationVerdict(on: binding, in: reading, previous: previous) {
        case .wait: return .wait
        case .commit: return .commit
        case .abort: return .abort
        }
    }

    @Test func `the migration is gone only when two complete readings in a row lack it, and was not handed over`() {
        func gone(_ objects: inout ClusterObjects) {
            objects.migrations = []
            objects.instances[0].migration = nil
        }
        var without = running()
        gone(&without)
        let lacking = Reading(objects: without, isComplete: true)
        #expect(decide(previous: lacking, gone) == .abort)
        #expect(decide(previous: nil, gone) == .wait)
        #expect(decide(previous: Reading(objects: without, isComplete: false), gone) == .wait)
        #expect(decide(previous: lacking, isComplete: false, gone) == .wait)
        #expect(decide(previous: Reading(objects: running(), isComplete: true), gone) == .wait)
        // Handed over: the instance tells how it ends.
        #expect(decide(previous: lacking) { $0.migrations = [] } == .wait)
    }

    @Test func `a migration that is gone, and a newer one in the instance: where the VM runs tells how it ended`() {
        func replaced(_ objects: inout ClusterObjects) {
            objects.migrations = []
            objects.instances[0].migration = MigrationState(migrationUid: "vmim-2", targetNode: "node-c")
        }
        var without = running()
        replaced(&without)
        let lacking = Reading(objects: without, isComplete: true)
        #expect(decide(previous: lacking, replaced) == .abort)
        #expect(
            decide(previous: lacking) {
                replaced(&$0)
                $0.instances[0].nodeName = "node-b"
            } == .commit)
    }

    // Promise 8
    @Test func `a target pod's annotation commits only a migration that the cluster knows, of this VM`() {
        func annotated(_ change: (inout ClusterObjects) -> Void) -> Decision {
            decide {
                $0.pods[1].metadata.annotations[KubeVirtName.migrationTargetReady] = "2026-11-24T04:40:00Z"
                change(&$0)
            }
        }
        #expect(annotated { $0.instances[0].migration = nil } == .commit)
        #expect(annotated { $0.migrations = [] } == .commit)
        func unknown(_ objects: inout ClusterObjects) {
            objects.migrations = []
            objects.instances[0].migration = nil
        }
        #expect(annotated(unknown) == .wait)
        #expect(
            annotated {
                $0.migrations[0].vmiName = "othervm"
                $0.instances[0].migration = nil
            } == .wait)
        #expect(
            annotated {
                $0.migrations[0].metadata.namespace = "elsewhere"
                $0.instances[0].migration = nil
            } == .wait)
    }

    @Test func `a migration within one node is not committed for the instance's node`() {
        var objects = running()
        objects.instances[0].nodeName = "node-b"
        var binding = binding
        binding.active?.node = "node-b"
        let reading = Reading(objects: objects, isComplete: true)
        #expect(MigrationVerdict(on: binding, in: reading, previous: reading) == .wait)
    }

    @Test func `while the migration runs nothing is decided`() {
        #expect(decide { _ in } == .wait)
        #expect(decide { $0.instances = [] } == .wait)
        #expect(decide { $0.migrations = [] } == .wait)
        #expect(decide { $0.instances[0].migration = nil } == .wait)
    }

    @Test func `each sign that the target runs commits by itself`() {
        #expect(
            decide { $0.pods[1].metadata.annotations[KubeVirtName.migrationTargetReady] = "2026-11-24T04:40:00Z" }
                == .commit)
        #expect(
            decide { $0.instances[0].migration?.targetNodeDomainReadyTimestamp = "2026-11-24T04:40:00Z" } == .commit)
        #expect(decide { $0.instances[0].nodeName = "node-b" } == .commit)
        #expect(
            decide {
                $0.migrations[0].phase = "Succeeded"
                $0.instances = []
                $0.pods = []
            } == .commit)
    }

    @Test func `each sign of failure aborts by itself`() {
        #expect(decide { $0.migrations[0].phase = "Failed" } == .abort)
        #expect(decide { $0.instances[0].migration?.failed = true } == .abort)
        #expect(decide { $0.instances[0].migration?.abortStatus = "Succeeded" } == .abort)
        #expect(decide { $0.pods[1].phase = "Failed" } == .abort)
        #expect(decide { $0.pods[1].phase = "Succeeded" } == .abort)
    }

    @Test func `an abort that is asked for, under way or failed decides nothing`() {
        #expect(decide { $0.instances[0].migration?.abortStatus = "Aborting" } == .wait)
        #expect(decide { $0.instances[0].migration?.abortStatus = "Failed" } == .wait)
    }

    @Test func `another migration's state decides nothing about this one`() {
        #expect(
            decide {
                $0.instances[0].migration = MigrationState(
                    migrationUid: "vmim-0", targetNode: "node-b", targetNodeDomainReadyTimestamp: "x", failed: true,
                    abortStatus: "Succeeded")
                $0.instances[0].nodeName = "node-b"
            } == .wait)
        #expect(
            decide {
                $0.migrations[0].metadata.uid = "vmim-0"
                $0.migrations[0].phase = "Failed"
            } == .wait)
    }

    @Test func `the target pod's end after the VM has moved does not take the VM back`() {
        #expect(
            decide {
                $0.instances[0].nodeName = "node-b"
                $0.pods[1].phase = "Succeeded"
            } == .commit)
    }

    @Test func `a failure after the target was ready leaves the VM with its source`() {
        #expect(
            decide {
                $0.instances[0].migration?.targetNodeDomainReadyTimestamp = "x"
                $0.migrations[0].phase = "Failed"
            } == .abort)
    }

    @Test func `the target pod is gone only when two complete readings in a row lack it`() {
        func gone(_ objects: inout ClusterObjects) { objects.pods.remove(at: 1) }
        var without = running()
        gone(&without)
        #expect(decide(previous: Reading(objects: without, isComplete: true), gone) == .abort)
        #expect(decide(previous: nil, gone) == .wait)
        #expect(decide(previous: Reading(objects: running(), isComplete: true), gone) == .wait)
        #expect(decide(previous: Reading(objects: without, isComplete: false), gone) == .wait)
        #expect(decide(previous: Reading(objects: without, isComplete: true), isComplete: false, gone) == .wait)
        // A watch may not have shown it yet.
        let behind = Reading(objects: without, isComplete: true, isCurrent: false)
        #expect(MigrationVerdict(on: binding, in: behind, previous: behind) == .wait)
    }
}
