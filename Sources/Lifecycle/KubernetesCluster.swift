package import IPAMModel
package import KubeVirt
package import KubernetesAPI

/// The cluster behind an API server.
package struct KubernetesCluster: ClusterReads {
    let client: KubernetesClient

    package init(_ client: KubernetesClient) { self.client = client }

    package func inventory(of coverage: Inventory.Coverage) async throws(KubernetesError) -> Inventory {
        var inventory = Inventory(coverage: coverage)
        if coverage.contains(.machines) {
            let machines = try await client.list(Lean<VirtualMachine>.self, .virtualMachines)
            let instances = try await client.list(Lean<VirtualMachineInstance>.self, .virtualMachineInstances)
            for machine in machines.objects { inventory.add(machine.object.metadata) }
            for instance in instances.objects { inventory.add(instance.object) }
            inventory.isComplete = machines.isComplete && instances.isComplete
        }
        if !coverage.isDisjoint(with: [.launchers, .pods]) {
            let selection = coverage.contains(.pods) ? Selection.all : Selection(labels: "kubevirt.io=virt-launcher")
            let pods = try await client.list(Lean<Pod>.self, .pods, selection)
            for pod in pods.objects { inventory.add(pod.object) }
            inventory.isComplete = inventory.isComplete && pods.isComplete
        }
        return inventory
    }

    package func migrations(of bindings: [Binding]) async throws(KubernetesError) -> Inventory {
        var inventory = Inventory(coverage: .migrations)
        // A VM with several NICs has a binding for each.
        for name in Set(bindings.map { ObjectName($0.owner) }) {
            let selection = Selection(
                namespace: name.namespace, labels: "\(KubeVirtName.migrationOfInstance)=\(name.name)")
            let migrations = try await client.list(
                Lean<VirtualMachineInstanceMigration>.self, .virtualMachineInstanceMigrations, selection)
            for migration in migrations.objects { inventory.add(migration.object) }
            inventory.isComplete = inventory.isComplete && migrations.isComplete
            if let instance = try await client.get(
                Lean<VirtualMachineInstance>.self, .virtualMachineInstances, namespace: name.namespace, name: name.name)
            {
                inventory.add(instance.object)
            }
        }
        let targets = bindings.compactMap { binding in
            binding.target.map { ObjectName(namespace: binding.owner.namespace, name: $0.pod) }
        }
        for target in Set(targets) {
            if let pod = try await pod(target) { inventory.add(pod) }
        }
        return inventory
    }

    package func hasMachine(_ name: ObjectName) async throws(KubernetesError) -> Bool {
        let machine = try await client.get(
            Lean<VirtualMachine>.self, .virtualMachines, namespace: name.namespace, name: name.name)
        if machine != nil { return true }
        return try await client.get(
            Lean<VirtualMachineInstance>.self, .virtualMachineInstances, namespace: name.namespace, name: name.name)
            != nil
    }

    package func pod(_ name: ObjectName) async throws(KubernetesError) -> Pod? {
        try await client.get(Lean<Pod>.self, .pods, namespace: name.namespace, name: name.name)?.object
    }
}

/// An object without the labels and annotations that are not looked at: of thousands only what is used is kept.
struct Lean<Object: ObjectWithMetadata>: Decodable, Sendable {
    var object: Object

    init(from decoder: any Decoder) throws {
        object = try Object(from: decoder)
        object.metadata.labels = [:]
        object.metadata.annotations = object.metadata.annotations.filter { $0.key == KubeVirtName.migrationTargetReady }
    }
}

protocol ObjectWithMetadata: Decodable, Sendable { var metadata: ObjectMeta { get set } }
extension VirtualMachine: ObjectWithMetadata {}
extension VirtualMachineInstance: ObjectWithMetadata {}
extension VirtualMachineInstanceMigration: ObjectWithMetadata {}
extension Pod: ObjectWithMetadata {}
