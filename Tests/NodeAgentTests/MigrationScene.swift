import IPAMModel
import KubeVirt

/// The VM default/testvm with its instance vmi-1 on node-a, and its migration vmim-1.
enum MigrationScene {
    static func launcher(
        _ name: String, node: String, migration: String? = nil, instance: String = "vmi-1",
        interfaces: Set<String>? = nil
    ) -> Pod {
        Pod(
            metadata: ObjectMeta(
                namespace: "default", name: name, uid: "uid-\(name)",
                labels: migration.map { [KubeVirtName.migrationJobUID: $0] } ?? [:],
                owners: [
                    OwnerReference(
                        apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", name: "testvm", uid: instance)
                ]), nodeName: node, phase: "Running",
            interfaces: interfaces.map { Dictionary(uniqueKeysWithValues: $0.map { ($0, []) }) })
    }

    static func cluster(
        _ pods: [Pod], machine uid: String, networks: [MachineNetwork] = [], phase: String = "Scheduling"
    ) -> ClusterObjects {
        var objects = ClusterObjects()
        objects.instances = [
            VirtualMachineInstance(
                metadata: ObjectMeta(
                    namespace: "default", name: "testvm", uid: "vmi-1",
                    owners: [
                        OwnerReference(apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name: "testvm", uid: uid)
                    ]), nodeName: "node-a", networks: networks)
        ]
        objects.pods = pods
        objects.migrations = [
            VirtualMachineInstanceMigration(
                metadata: ObjectMeta(namespace: "default", name: "m", uid: "vmim-1"), vmiName: "testvm", phase: phase)
        ]
        return objects
    }
}
