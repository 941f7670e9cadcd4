import KubeVirt

/// Who owns a binding for as long as it exists: a VirtualMachine, or an instance that stands alone.
package struct MachineReference: Hashable, Sendable, Codable {
    package var namespace: String
    package var name: String
    package var uid: String

    package init(namespace: String, name: String, uid: String) {
        self.namespace = namespace
        self.name = name
        self.uid = uid
    }

    init(_ metadata: ObjectMeta) {
        self.init(namespace: metadata.namespace, name: metadata.name, uid: metadata.uid)
    }
}

/// Notices that machines have been deleted (promise 7): each was seen, is missing from two successive readings that can be
/// trusted, and from a third, taken just before anything is freed.
package struct DeletionWatch: Sendable {
    /// Machines that were seen, and in how many readings in a row each has been missing.
    private var missing: [MachineReference: Int]
    /// Those of them that only an agent before this one has seen.
    private var unseen: Set<MachineReference>

    /// `seen`: by an agent before this one.
    package init(seen: Set<MachineReference> = []) {
        missing = Dictionary(uniqueKeysWithValues: seen.map { ($0, 0) })
        unseen = seen
    }

    /// All that were seen, and are not forgotten.
    package var seen: Set<MachineReference> { Set(missing.keys) }

    /// Whether no agent has seen the machine since this one started: another machine's directory may have it by now.
    package func isUnseen(_ machine: MachineReference) -> Bool { unseen.contains(machine) }

    /// The machines that have been missing long enough; each is gone if `confirm` says so by one more reading.
    package mutating func observe(_ reading: Reading) -> [MachineReference] {
        guard trusts(reading) else {
            // What a doubtful reading interrupts is counted from the start again.
            for machine in missing.keys { missing[machine] = 0 }
            return []
        }
        let present = Self.machines(in: reading.objects)
        for machine in missing.keys { missing[machine, default: 0] += 1 }
        for machine in present { missing[machine] = 0 }
        unseen.subtract(present)
        return missing.filter { $0.value >= 2 }.keys.sorted { $0.uid < $1.uid }
    }

    /// Whether the machine is gone by this reading too; else it is counted from the start again.
    package mutating func confirm(_ machine: MachineReference, in reading: Reading) -> Bool {
        if trusts(reading), !Self.machines(in: reading.objects).contains(machine) { return true }
        missing[machine] = 0
        return false
    }

    /// Its bindings are freed.
    package mutating func forget(_ machine: MachineReference) {
        missing[machine] = nil
        unseen.remove(machine)
    }

    private func trusts(_ reading: Reading) -> Bool { reading.showsWhatIsGone && !suspects(reading) }

    /// A source that shows nothing at all, where there was something, is more likely broken than empty.
    package func suspects(_ reading: Reading) -> Bool {
        reading.isComplete && reading.objects.isEmpty && !missing.isEmpty
    }

    private static func machines(in objects: ClusterObjects) -> Set<MachineReference> {
        var machines = Set(objects.virtualMachines.map { MachineReference($0.metadata) })
        for instance in objects.instances where instance.virtualMachine == nil {
            machines.insert(MachineReference(instance.metadata))
        }
        return machines
    }
}
