package import IPAMModel
import KubeVirt

/// A binding that does not fit what is in the cluster.
package struct Disagreement: Hashable, Sendable {
    package enum Remedy: Hashable, Sendable {
        /// Frees the binding: its owner is gone.
        case free
        /// Ends the active attachment, whose pod is gone; the VM keeps its addresses.
        case detach(AttachmentID)
        /// Ends the open migration, as it ended in the cluster.
        case commit(newOwner: Owner?), abort
        /// Nothing that is safe; the reason says what to do.
        case byHand
    }

    package var binding: Binding
    /// A sentence.
    package var reason: String
    package var remedy: Remedy
    /// Whether the owner is known to be an instance that no VM owns.
    package var standsAlone: Bool

    package init(_ binding: Binding, _ reason: String, _ remedy: Remedy, standsAlone: Bool = false) {
        self.binding = binding
        self.reason = reason
        self.remedy = remedy
        self.standsAlone = standsAlone
    }
}

extension Disagreement.Remedy: CustomStringConvertible {
    /// What is done, as `holdfast check` says it.
    package var description: String {
        switch self {
        case .free: "free the addresses"
        case .detach: "end the attachment, keep the addresses"
        case .commit: "commit the migration"
        case .abort: "abort the migration"
        case .byHand: "nothing: it is for a person to decide"
        }
    }
}

extension Disagreement {
    /// How a binding disagrees with one look at the cluster, if it does. A VM that is halted agrees, and so does one that
    /// was made anew under the name: it gets what the one before had.
    init?(_ binding: Binding, in inventory: Inventory) {
        let owner = binding.owner
        if inventory.coverage.contains(.migrations), let target = binding.target {
            var missing: MigrationVerdict.Missing = []
            if inventory.pods[target.podUID] == nil { missing.insert(.targetPod) }
            if inventory.migrations[binding.migrationUID] == nil { missing.insert(.migration) }
            switch MigrationVerdict(on: binding, in: inventory.objects(about: binding), missing: missing) {
            case .commit(let sign, let newOwner):
                self.init(
                    binding, "its migration to node \(target.node) has ended: \(sign)", .commit(newOwner: newOwner),
                    standsAlone: inventory.instances[ObjectName(owner)]?.metadata.uid == owner.uid)
                return
            case .abort(let sign):
                self.init(binding, "its migration to node \(target.node) has ended: \(sign)", .abort)
                return
            case .wait: break
            }
        }
        // One without a UID was reserved by hand, ahead of its VM.
        if owner.uid.isEmpty { return nil }
        let carriers = [binding.active, binding.target].compactMap(\.self)
        switch owner.kind {
        case .pod:
            guard inventory.coverage.contains(.pods), inventory.pods[owner.uid] == nil else { return nil }
            self.init(binding, "the pod is gone", .free)
        case .virtualMachine:
            guard inventory.coverage.contains(.machines) else { return nil }
            if !inventory.hasMachine(ObjectName(owner)) {
                if let pod = carriers.lazy.compactMap({ inventory.pods[$0.podUID] }).first(where: { !$0.hasEnded }) {
                    self.init(
                        binding,
                        """
                        the VM is gone, but its pod \(pod.metadata.name) still runs: the addresses are freed once it \
                        has ended; delete it if it is a leftover
                        """, .byHand)
                } else {
                    self.init(binding, "the VM is gone", .free)
                }
            } else if let active = binding.active, binding.target == nil, !active.podUID.isEmpty,
                !inventory.coverage.isDisjoint(with: [.launchers, .pods]), inventory.pods[active.podUID] == nil
            {
                self.init(
                    binding, "pod \(active.pod) on node \(active.node), which carries it, is gone", .detach(active.id))
            } else if binding.active == nil, binding.target == nil, let pod = inventory.pod(running: binding),
                let node = pod.nodeName
            {
                self.init(
                    binding,
                    """
                    a migration of its VM failed late: it runs on with these addresses in pod \(pod.metadata.name) on \
                    node \(node), and no pod has them here. The VM's next start or migration mends that; free or move \
                    none of them until then
                    """, .byHand)
            } else {
                return nil
            }
        }
    }
}
