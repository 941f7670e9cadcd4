extension ClusterObjects {
    /// Whether the instance of `pod` runs in another one that does not have `interface`, or has it by another definition
    /// (KubeVirt migrates a VM to change that): the NIC is new. False where no pod says what it has, for all that they then
    /// may have.
    package func isNew(_ interface: String, in pod: Pod) -> Bool {
        let others = others(than: pod).filter { !$0.hasEnded }
        let definition = PodInterface.selected(interface, by: pod.metadata)?.description
        return !others.isEmpty && formerName(of: interface, in: pod) == nil
            && others.allSatisfy { other in
                guard let interfaces = other.interfaces else { return false }
                if interfaces[interface] == nil { return true }
                guard let definition, let former = other.definitions[interface] else { return false }
                return former != definition
            }
    }

    /// What another pod of the instance calls the NIC that is `interface` in `pod`, where it has the names that KubeVirt gave
    /// before 1.0; nil where none has.
    package func formerName(of interface: String, in pod: Pod) -> String? {
        guard MachineNetwork.isSecondaryInterface(interface) else { return nil }
        let definition = PodInterface.selected(interface, by: pod.metadata)?.description
        return others(than: pod).filter { !$0.hasEnded }.lazy.compactMap { other in
            other.interfaces?.keys.sorted().first { name in
                guard MachineNetwork.ordinal(ofInterface: name) != nil else { return false }
                return definition == nil || other.definitions[name] == nil || other.definitions[name] == definition
            }
        }.first
    }

    /// The other pods of its instance.
    package func others(than pod: Pod) -> [Pod] {
        guard let instance = pod.metadata.controller?.uid else { return [] }
        return pods.filter { $0.metadata.uid != pod.metadata.uid && $0.metadata.controller?.uid == instance }
    }
}
