package import IPAMModel
package import KubeVirt
package import KubernetesAPI

/// The cluster behind an API server.
package struct KubernetesCluster: ClusterReads {
    /// For what is few: with a limit some versions read all of the resource from etcd, and choose then.
    private static let inOnePiece = 0

    let client: KubernetesClient

    package init(_ client: KubernetesClient) { self.client = client }

    package func inventory(of coverage: Inventory.Coverage) async throws(KubernetesError) -> Inventory {
        var inventory = Inventory(coverage: coverage)
        if coverage.contains(.machines) {
            let machines = try await client.list(Lean<VirtualMachine>.self, .virtualMachines, metadataOnly: true)
            let instances = try await client.list(Lean<VirtualMachineInstance>.self, .virtualMachineInstances)
            for machine in machines.objects { inventory.add(machine.object.metadata) }
            for instance in instances.objects { inventory.add(instance.object) }
            inventory.unreadable =
                machines.unreadable(of: .virtualMachines) ?? instances.unreadable(of: .virtualMachineInstances)
        }
        if !coverage.isDisjoint(with: [.launchers, .pods]) {
            let selection = coverage.contains(.pods) ? Selection.all : Selection(labels: "kubevirt.io=virt-launcher")
            try await add(podsIn: selection, to: &inventory)
        }
        return inventory
    }

    private func add(
        podsIn selection: Selection, pageSize: Int = 500, to inventory: inout Inventory
    ) async throws(KubernetesError) {
        let pods = try await client.list(Lean<Pod>.self, .pods, selection, pageSize: pageSize)
        for pod in pods.objects { inventory.add(pod.object) }
        inventory.unreadable = inventory.unreadable ?? pods.unreadable(of: .pods)
    }

    package func pods(named name: String, on node: String) async throws(KubernetesError) -> Inventory {
        var inventory = Inventory(coverage: [])
        // By the node too, by which the API server has its pods indexed, where it was told.
        let selection = Selection(fields: "metadata.name=\(name)" + (node.isEmpty ? "" : ",spec.nodeName=\(node)"))
        try await add(podsIn: selection, pageSize: Self.inOnePiece, to: &inventory)
        return inventory
    }

    package func migrations(of bindings: [Binding]) async throws(KubernetesError) -> Inventory {
        var inventory = Inventory(coverage: .migrations)
        // A VM with several NICs has a binding for each.
        for name in Set(bindings.map { ObjectName($0.owner) }) {
            let selection = Selection(
                namespace: name.namespace, labels: "\(KubeVirtName.migrationOfInstance)=\(name.name)")
            try await add(migrationsIn: selection, pageSize: Self.inOnePiece, to: &inventory) { _ in true }
            try await add(instance: name, to: &inventory)
        }
        // A decentralized migration is in the namespace that its VM comes to.
        let unknown = Set(bindings.map(\.migrationUID)).subtracting(inventory.migrations.keys)
        if !unknown.isEmpty {
            try await add(migrationsIn: .all, to: &inventory) { unknown.contains($0.metadata.uid) }
        }
        for binding in bindings {
            var namespace = binding.owner.namespace
            if let migration = inventory.migrations[binding.migrationUID], migration.receives != nil {
                namespace = migration.metadata.namespace
                try await add(instance: ObjectName(namespace: namespace, name: migration.vmiName), to: &inventory)
            }
            guard let target = binding.target, !target.pod.isEmpty, inventory.pods[target.podUID] == nil else {
                continue
            }
            if let pod = try await pod(ObjectName(namespace: namespace, name: target.pod)) { inventory.add(pod) }
        }
        return inventory
    }

    private func add(
        migrationsIn selection: Selection, pageSize: Int = 500, to inventory: inout Inventory,
        where isMeant: (VirtualMachineInstanceMigration) -> Bool
    ) async throws(KubernetesError) {
        let migrations = try await client.list(
            Lean<VirtualMachineInstanceMigration>.self, .virtualMachineInstanceMigrations, selection, pageSize: pageSize
        )
        for migration in migrations.objects where isMeant(migration.object) { inventory.add(migration.object) }
        inventory.unreadable = inventory.unreadable ?? migrations.unreadable(of: .virtualMachineInstanceMigrations)
    }

    private func add(instance name: ObjectName, to inventory: inout Inventory) async throws(KubernetesError) {
        if inventory.instances[name] != nil { return }
        let instance = try await client.get(
            Lean<VirtualMachineInstance>.self, .virtualMachineInstances, namespace: name.namespace, name: name.name)
        if let instance { inventory.add(instance.object) }
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

extension ObjectList {
    /// The first that could not be decoded, and why not.
    fileprivate func unreadable(of resource: KubernetesResource) -> String? {
        items.first { $0.object == nil }.map { "\(resource) \($0.reference): \($0.problem ?? "")" }
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
