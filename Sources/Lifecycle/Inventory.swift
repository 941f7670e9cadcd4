package import IPAMModel
package import KubeVirt

/// An object's place in the cluster: Kubernetes has one of a kind there at most.
package struct ObjectName: Hashable, Sendable, CustomStringConvertible {
    package var namespace: String
    package var name: String

    package init(namespace: String, name: String) {
        self.namespace = namespace
        self.name = name
    }

    package init(_ metadata: ObjectMeta) { self.init(namespace: metadata.namespace, name: metadata.name) }
    package init(_ owner: Owner) { self.init(namespace: owner.namespace, name: owner.name) }

    package var description: String { "\(namespace)/\(name)" }
}

/// What one look at the cluster showed, as far as bindings are compared with it.
package struct Inventory: Sendable {
    /// What was looked for: only of this it is known what is not there.
    package struct Coverage: OptionSet, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        /// VMs and their instances.
        package static let machines = Coverage(rawValue: 1)
        /// The pods that VMs run in.
        package static let launchers = Coverage(rawValue: 2)
        /// All pods.
        package static let pods = Coverage(rawValue: 4)
        /// The migrations of the bindings that are compared, with their instances and target pods.
        package static let migrations = Coverage(rawValue: 8)
    }

    package var coverage: Coverage
    /// The first of what was looked for that cannot be read, and why not. Nil: nothing can be missing.
    package var unreadable: String?
    /// The VMs' UIDs.
    package var machines: [ObjectName: String] = [:]
    package var instances: [ObjectName: VirtualMachineInstance] = [:]
    /// By UID.
    package var pods: [String: Pod] = [:]
    /// By UID.
    package var migrations: [String: VirtualMachineInstanceMigration] = [:]

    package init(coverage: Coverage, unreadable: String? = nil) {
        self.coverage = coverage
        self.unreadable = unreadable
    }

    package mutating func add(_ machine: ObjectMeta) { machines[ObjectName(machine)] = machine.uid }
    package mutating func add(_ instance: VirtualMachineInstance) {
        instances[ObjectName(instance.metadata)] = instance
    }
    package mutating func add(_ pod: Pod) { pods[pod.metadata.uid] = pod }
    package mutating func add(_ migration: VirtualMachineInstanceMigration) {
        migrations[migration.metadata.uid] = migration
    }

    /// Adds what another look showed of other things.
    package mutating func merge(_ other: Inventory) {
        coverage.formUnion(other.coverage)
        unreadable = unreadable ?? other.unreadable
        machines.merge(other.machines) { $1 }
        instances.merge(other.instances) { $1 }
        pods.merge(other.pods) { $1 }
        migrations.merge(other.migrations) { $1 }
    }

    /// A VM of this name, halted or not, or an instance, which may stand alone or have outlived its VM.
    func hasMachine(_ name: ObjectName) -> Bool { machines[name] != nil || instances[name] != nil }

    /// Whether a binding's very owner, or a pod that carries it, is there. Another cluster has none of these UIDs, whatever
    /// the names in it.
    func knows(_ binding: Binding) -> Bool {
        let carriers = [binding.active, binding.target].compactMap(\.self)
        if carriers.contains(where: { pods[$0.podUID] != nil }) { return true }
        let owner = binding.owner
        switch owner.kind {
        case .pod: return pods[owner.uid] != nil
        case .virtualMachine:
            let name = ObjectName(owner)
            return !owner.uid.isEmpty && [machines[name], instances[name]?.metadata.uid].contains(owner.uid)
        }
    }

    /// The pod in which the binding's VM runs on with its addresses after a migration that failed; nil too where no pod says
    /// what it has.
    func pod(running binding: Binding) -> Pod? {
        guard let instance = instances[ObjectName(binding.owner)], let node = instance.nodeName,
            instance.migration?.failed == true,
            let interface = binding.owner.network.split(separator: "/").last.map(String.init)
        else { return nil }
        let held = Set(binding.assignments.map(\.address))
        return pods.values.first { pod in
            pod.metadata.controller?.uid == instance.metadata.uid && pod.nodeName == node && !pod.hasEnded
                && pod.interfaces?[interface].map { !held.isDisjoint(with: $0) } == true
        }
    }

    /// What there is about a binding's open migration.
    func objects(about binding: Binding) -> ClusterObjects {
        var objects = ClusterObjects()
        objects.instances = [instances[ObjectName(binding.owner)]].compactMap(\.self)
        if let migration = migrations[binding.migrationUID] {
            objects.migrations = [migration]
            // One that brings the VM to another is in that one's namespace.
            let other = ObjectName(namespace: migration.metadata.namespace, name: migration.vmiName)
            if other != ObjectName(binding.owner), let instance = instances[other] {
                objects.instances.append(instance)
            }
        }
        objects.pods = [binding.active, binding.target].compactMap { $0.flatMap { pods[$0.podUID] } }
        return objects
    }
}
