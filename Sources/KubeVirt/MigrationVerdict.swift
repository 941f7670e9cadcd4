package import IPAMModel

/// What the cluster says of an open migration, and by which sign.
package enum MigrationVerdict: Hashable, Sendable {
    case wait
    /// `newOwner`: whose the binding becomes, where it is another VM's (decentralized migration).
    case commit(sign: String, newOwner: Owner?)
    case abort(sign: String)
}

extension MigrationVerdict {
    /// What two successive complete looks at the cluster lacked.
    package struct Missing: OptionSet, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        package static let targetPod = Missing(rawValue: 1)
        /// The VirtualMachineInstanceMigration. One that was handed to virt-handler has a finalizer until it has ended;
        /// one that was not goes at once (KubeVirt pkg/virt-controller/watch/migration/migration.go).
        package static let migration = Missing(rawValue: 2)
    }

    /// Judges a binding's open migration by what stands there now, not by what has changed since: so an event that was
    /// missed, doubled or late makes no difference.
    ///
    /// What is final counts first, then the earliest sign that the target's domain runs, last what has gone.
    package init(on binding: Binding, in objects: ClusterObjects, missing: Missing) {
        guard let target = binding.target, !binding.migrationUID.isEmpty else {
            self = .wait
            return
        }
        let migration = objects.migration(binding.migrationUID, of: binding.owner)
        let isReceived = migration?.receives != nil
        let instance = objects.instance(
            namespace: isReceived ? migration?.metadata.namespace ?? "" : binding.owner.namespace,
            name: isReceived ? migration?.vmiName ?? "" : binding.owner.name)
        var newOwner: Owner?
        if isReceived, let instance {
            newOwner = binding.owner
            newOwner?.namespace = instance.metadata.namespace
            newOwner?.name = instance.metadata.name
            newOwner?.uid = instance.virtualMachine?.uid ?? instance.metadata.uid
        } else if isReceived, migration?.phase != "Failed" {
            // Without it nobody knows whose the binding becomes.
            self = .wait
            return
        }
        // The state of another migration, older or newer, says nothing about this one.
        let state = instance?.migration.flatMap { $0.migrationUid == binding.migrationUID ? $0 : nil }
        let pod = objects.pod(uid: target.podUID)
        // KubeVirt moves the instance's node before it says `completed`. Where source and target share a node it tells
        // nothing.
        let hasMoved = !isReceived && instance?.nodeName == target.node && binding.active?.node != target.node

        if migration?.phase == "Succeeded" {
            self = .commit(sign: "the migration has succeeded", newOwner: newOwner)
        } else if state != nil, hasMoved {
            self = .commit(sign: "the instance belongs to the target's node", newOwner: newOwner)
        } else if migration?.phase == "Failed" {
            self = .abort(sign: "the migration has failed")
        } else if state?.failed == true {
            self = .abort(sign: "the instance's migration state is failed")
        } else if state?.abortStatus == "Succeeded" {
            self = .abort(sign: "the migration was aborted")
        } else if !isReceived, migration != nil || state != nil,
            Self.isSet(pod?.metadata.annotations[KubeVirtName.migrationTargetReady])
        {
            // Promise 8: the annotation of a pod whose migration nothing else knows of is anybody's. So is that of a pod to
            // whose VM another one's addresses would go: who may write it there may not in the source's namespace.
            self = .commit(sign: "the target pod is annotated as ready", newOwner: newOwner)
        } else if Self.isSet(state?.targetNodeDomainReadyTimestamp) {
            self = .commit(sign: "the target's domain is ready", newOwner: newOwner)
        } else if let pod, pod.hasEnded {
            self = .abort(sign: "the target pod has ended")
        } else if pod == nil, missing.contains(.targetPod) {
            self = .abort(sign: "the target pod is gone")
        } else if migration == nil, state == nil, missing.contains(.migration) {
            // Gone before it was handed over; or long after, and a newer one has taken its place in the instance.
            self =
                hasMoved && pod != nil
                ? .commit(
                    sign: "the migration is gone, and the instance belongs to the target's node", newOwner: newOwner)
                : .abort(sign: "the migration is gone")
        } else {
            self = .wait
        }
    }

    private static func isSet(_ text: String?) -> Bool { text?.isEmpty == false }
}

extension ClusterObjects {
    /// The migration of this UID, where it is one of the owner's instance, or brings that to another.
    fileprivate func migration(_ uid: String, of owner: Owner) -> VirtualMachineInstanceMigration? {
        guard let found = migration(uid: uid),
            found.receives != nil || (found.metadata.namespace == owner.namespace && found.vmiName == owner.name)
        else { return nil }
        return found
    }
}
