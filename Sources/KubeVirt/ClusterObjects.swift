/// Everything of the cluster that this product looks at, as it was at one moment.
package struct ClusterObjects: Hashable, Sendable {
    package var pods: [Pod] = []
    package var virtualMachines: [VirtualMachine] = []
    package var instances: [VirtualMachineInstance] = []
    package var migrations: [VirtualMachineInstanceMigration] = []

    package init() {}

    package var isEmpty: Bool {
        pods.isEmpty && virtualMachines.isEmpty && instances.isEmpty && migrations.isEmpty
    }

    package func pod(namespace: String, name: String) -> Pod? {
        pods.first { $0.metadata.namespace == namespace && $0.metadata.name == name }
    }

    package func pod(uid: String) -> Pod? { pods.first { $0.metadata.uid == uid } }

    package func instance(namespace: String, name: String) -> VirtualMachineInstance? {
        instances.first { $0.metadata.namespace == namespace && $0.metadata.name == name }
    }

    package func migration(uid: String) -> VirtualMachineInstanceMigration? {
        migrations.first { $0.metadata.uid == uid }
    }

    package mutating func insert(_ object: ClusterObject) {
        switch object {
        case .pod(let pod): pods.append(pod)
        case .virtualMachine(let machine): virtualMachines.append(machine)
        case .instance(let instance): instances.append(instance)
        case .migration(let migration): migrations.append(migration)
        case .other: break
        }
    }
}
