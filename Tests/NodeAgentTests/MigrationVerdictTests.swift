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
    }
}
