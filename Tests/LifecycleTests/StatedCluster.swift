import IPAMModel
import KubeVirt
import KubernetesAPI
import Lifecycle
import Synchronization

/// A cluster as a test states it.
final class StatedCluster: ClusterReads {
    struct State {
        var machines: Set<ObjectName> = []
        var instances: [VirtualMachineInstance] = []
        var pods: [Pod] = []
        var migrations: [VirtualMachineInstanceMigration] = []
        var isComplete = true
        /// What lists show, where that is not what is there.
        var listed: Inventory?
        var failure: KubernetesError?
        var looks = 0
    }

    private let state = Mutex(State())

    func state(_ change: (inout State) -> Void) { state.withLock { change(&$0) } }
    var looks: Int { state.withLock { $0.looks } }

    private func read<Value>(_ body: (inout State) -> Value) throws(KubernetesError) -> Value where Value: Sendable {
        try state.withLock { state -> Result<Value, KubernetesError> in
            if let failure = state.failure { return .failure(failure) }
            return .success(body(&state))
        }.get()
    }

    func inventory(of coverage: Inventory.Coverage) async throws(KubernetesError) -> Inventory {
        try read { state in
            if let listed = state.listed { return listed }
            return state.inventory(coverage)
        }
    }

    func migrations(of bindings: [Binding]) async throws(KubernetesError) -> Inventory {
        try read { $0.inventory(.migrations) }
    }

    func hasMachine(_ name: ObjectName) async throws(KubernetesError) -> Bool {
        try read {
            $0.looks += 1
            return $0.machines.contains(name) || $0.instances.contains { ObjectName($0.metadata) == name }
        }
    }

    func pod(_ name: ObjectName) async throws(KubernetesError) -> Pod? {
        try read { $0.pods.first { ObjectName($0.metadata) == name } }
    }
}

extension StatedCluster.State {
    func inventory(_ coverage: Inventory.Coverage) -> Inventory {
        var inventory = Inventory(coverage: coverage, isComplete: isComplete)
        for machine in machines {
            inventory.add(ObjectMeta(namespace: machine.namespace, name: machine.name, uid: "uid-\(machine.name)"))
        }
        for instance in instances { inventory.add(instance) }
        for pod in pods { inventory.add(pod) }
        for migration in migrations { inventory.add(migration) }
        return inventory
    }
}

func name(_ name: String) -> ObjectName { ObjectName(namespace: "default", name: name) }

func pod(_ name: String, phase: String = "Running", node: String = "node-a") -> Pod {
    Pod(metadata: ObjectMeta(namespace: "default", name: name, uid: "uid-\(name)"), nodeName: node, phase: phase)
}

func migration(_ uid: String, of instance: String, phase: String? = nil) -> VirtualMachineInstanceMigration {
    VirtualMachineInstanceMigration(
        metadata: ObjectMeta(namespace: "default", name: uid, uid: uid), vmiName: instance, phase: phase)
}

func instance(_ name: String, node: String = "node-a", state: MigrationState? = nil) -> VirtualMachineInstance {
    VirtualMachineInstance(
        metadata: ObjectMeta(namespace: "default", name: name, uid: "vmi-\(name)"), nodeName: node, migration: state)
}
