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
        var unreadable: String?
        /// What lists show, where that is not what is there.
        var listed: Inventory?
        /// What happens while they are read.
        var whileListing: (@Sendable () async -> Void)?
        var failure: KubernetesError?
        /// The same, where a fresh look at one VM is asked for.
        var lookFailure: KubernetesError?
        var looks = 0
        var namesakeLooks = 0
        var lists = 0
    }

    private let state = Mutex(State())

    func state(_ change: (inout State) -> Void) { state.withLock { change(&$0) } }
    var looks: Int { state.withLock { $0.looks } }
    var namesakeLooks: Int { state.withLock { $0.namesakeLooks } }
    var lists: Int { state.withLock { $0.lists } }

    private func read<Value>(_ body: (inout State) -> Value) throws(KubernetesError) -> Value where Value: Sendable {
        try state.withLock { state -> Result<Value, KubernetesError> in
            if let failure = state.failure { return .failure(failure) }
            return .success(body(&state))
        }.get()
    }

    func inventory(of coverage: Inventory.Coverage) async throws(KubernetesError) -> Inventory {
        await state.withLock(\.whileListing)?()
        return try read { state in
            state.lists += 1
            if let listed = state.listed { return listed }
            return state.inventory(coverage)
        }
    }

    func migrations(of bindings: [Binding]) async throws(KubernetesError) -> Inventory {
        try read { $0.inventory(.migrations) }
    }

    func hasMachine(_ name: ObjectName) async throws(KubernetesError) -> Bool {
        if let failure = state.withLock({ $0.lookFailure }) { throw failure }
        return try read {
            $0.looks += 1
            return $0.machines.contains(name) || $0.instances.contains { ObjectName($0.metadata) == name }
        }
    }

    func pod(_ name: ObjectName) async throws(KubernetesError) -> Pod? {
        try read { $0.pods.first { ObjectName($0.metadata) == name } }
    }

    func pods(named name: String, on node: String) async throws(KubernetesError) -> Inventory {
        try read { state in
            state.namesakeLooks += 1
            var inventory = Inventory(coverage: [], unreadable: state.unreadable)
            for pod in state.pods where pod.metadata.name == name && pod.nodeName == node { inventory.add(pod) }
            return inventory
        }
    }
}

extension StatedCluster.State {
    func inventory(_ coverage: Inventory.Coverage) -> Inventory {
        var inventory = Inventory(coverage: coverage, unreadable: unreadable)
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
