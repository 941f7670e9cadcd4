import Foundation
import IPAMModel
import KubeVirt
import Testing

struct PodIdentityTests {
    private static let vmi = OwnerReference(
        apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", name: "testvm", uid: "vmi-1")

    /// A VM with its instance and launcher pod.
    private func cluster(labels: [String: String] = [:]) -> ClusterObjects {
        var objects = ClusterObjects()
        objects.virtualMachines = [
            VirtualMachine(metadata: ObjectMeta(namespace: "default", name: "testvm", uid: "vm-1"))
        ]
        objects.instances = [
            VirtualMachineInstance(
                metadata: ObjectMeta(
                    namespace: "default", name: "testvm", uid: "vmi-1",
                    owners: [
                        OwnerReference(
                            apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name: "testvm", uid: "vm-1")
                    ]))
        ]
        objects.pods = [
            Pod(
                metadata: ObjectMeta(
                    namespace: "default", name: "virt-launcher-testvm-x", uid: "pod-1", labels: labels,
                    owners: [Self.vmi]))
        ]
        return objects
    }

    private func identity(in objects: ClusterObjects, uid: String? = "pod-1") throws -> PodIdentity {
        try objects.identity(ofPod: "virt-launcher-testvm-x", in: "default", uid: uid)
    }

    @Test func `a launcher pod belongs to the VM, by the VM's UID`() throws {
        #expect(
            try identity(in: cluster()).owner(network: "vm-net/eth0")
                == Owner(
                    kind: .virtualMachine, namespace: "default", name: "testvm", uid: "vm-1", network: "vm-net/eth0"))
    }

    @Test func `an instance that stands alone is the owner itself`() throws {
        var objects = cluster()
        objects.virtualMachines = []
        objects.instances[0].metadata.owners = []
        #expect(try identity(in: objects).uid == "vmi-1")
    }

    // Promise 8
    @Test func `a pod of an instance that is not there is refused, whether or not the VM of that name is`() throws {
        var objects = cluster()
        objects.instances = []
        let refusal = IdentityError.noInstance(namespace: "default", name: "testvm", uid: "vmi-1")
        #expect(throws: refusal) { try identity(in: objects) }
        objects.virtualMachines = []
        #expect(throws: refusal) { try identity(in: objects) }
    }

    @Test func `a pod of an instance that was replaced is refused`() throws {
        var objects = cluster()
        objects.instances[0].metadata.uid = "vmi-2"
        #expect(throws: IdentityError.instanceReplaced(name: "testvm", uid: "vmi-1")) { try identity(in: objects) }
    }

    // Promise 8
    @Test func `a pod that was made after its instance had one is refused, unless it is a migration's`() throws {
        func objects(_ created: Int64, labels: [String: String] = [:]) -> ClusterObjects {
            var objects = cluster(labels: labels)
            objects.instances[0].scheduledAt = Timestamp(seconds: 100)
            objects.pods[0].metadata.createdAt = Timestamp(seconds: created)
            return objects
        }
        #expect(try identity(in: objects(99)).uid == "vm-1")
        // Two clocks have told these times.
        #expect(try identity(in: objects(110)).uid == "vm-1")
        #expect(throws: IdentityError.notItsPod(instance: "testvm", pod: "virt-launcher-testvm-x")) {
            try identity(in: objects(111))
        }
        #expect(try identity(in: objects(111, labels: ["kubevirt.io/migrationJobUID": "vmim-1"])).uid == "vm-1")
        // Made anew from the manifest of one that had its pod then.
        var anew = objects(120)
        anew.instances[0].metadata.createdAt = Timestamp(seconds: 111)
        #expect(try identity(in: anew).uid == "vm-1")
        anew.instances[0].metadata.createdAt = Timestamp(seconds: 110)
        #expect(throws: IdentityError.self) { try identity(in: anew) }
    }

    @Test(arguments: [
        OwnerReference(apiVersion: "apps/v1", kind: "ReplicaSet", name: "web", uid: "rs-1"),
        OwnerReference(apiVersion: "example.com/v1", kind: "VirtualMachineInstance", name: "testvm", uid: "x"),
        OwnerReference(
            apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", name: "testvm", uid: "vmi-1",
            controller: false),
    ])
    func `a pod that no KubeVirt instance controls is its own owner`(owner: OwnerReference) throws {
        var objects = cluster()
        objects.pods[0].metadata.owners = [owner]
        let identity = try identity(in: objects)
        #expect(identity.kind == .pod && identity.name == "virt-launcher-testvm-x" && identity.uid == "pod-1")
    }

    @Test func `a pod with another UID than the runtime's is refused`() throws {
        #expect(throws: IdentityError.self) { try identity(in: cluster(), uid: "pod-0") }
        #expect(try identity(in: cluster(), uid: nil).uid == "vm-1")
    }

    @Test func `a migration is open once it is there for this instance, until it has ended`() throws {
        var objects = cluster(labels: ["kubevirt.io/migrationJobUID": "vmim-1"])
        func standing() throws -> PodIdentity.Migration.Standing? { try identity(in: objects).migration?.standing }
        func migrate(_ instance: String, in namespace: String, phase: String? = nil) {
            objects.migrations = [
                VirtualMachineInstanceMigration(
                    metadata: ObjectMeta(namespace: namespace, name: "m", uid: "vmim-1"), vmiName: instance,
                    phase: phase)
            ]
        }
        #expect(try standing() == .unconfirmed)
        migrate("othervm", in: "default")
        #expect(try standing() == .unconfirmed)
        migrate("testvm", in: "other")
        #expect(try standing() == .unconfirmed)
        migrate("testvm", in: "default", phase: "Running")
        #expect(try standing() == .open)
        #expect(try identity(in: objects).migration?.uid == "vmim-1")
        for phase in ["Succeeded", "Failed"] {
            migrate("testvm", in: "default", phase: phase)
            #expect(try standing() == .ended)
        }
    }
}
