package import IPAMModel
import KubeVirt

/// What the cluster says of an open migration, and by which sign.
package enum MigrationVerdict: Hashable, Sendable {
    case wait
    case commit(sign: String)
    case abort(sign: String)
}

extension MigrationVerdict {
    /// Judges a binding's open migration by what stands there now, not by what has changed since: so an event that was
    /// missed, doubled or late makes no difference.
    ///
    /// What is final counts first, then the earliest sign that the target's domain runs, last the target pod's end.
    /// `previous` is the reading before: a pod is gone only when two successive complete readings lack it.
    package init(on binding: Binding, in reading: Reading, previous: Reading?) {
        guard let target = binding.target, !binding.migrationUID.isEmpty else {
            self = .wait
            return
        }
        let objects = reading.objects
        let phase = objects.migration(uid: binding.migrationUID)?.phase
        let instance = objects.instance(namespace: binding.owner.namespace, name: binding.owner.name)
        // The state of another migration, older or newer, says nothing about this one.
        let state = instance?.migration.flatMap { $0.migrationUid == binding.migrationUID ? $0 : nil }
        let pod = objects.pod(uid: target.podUID)

        if phase == "Succeeded" {
            self = .commit(sign: "the migration has succeeded")
        } else if state != nil, instance?.nodeName == target.node {
            self = .commit(sign: "the instance belongs to the target's node")
        } else if phase == "Failed" {
            self = .abort(sign: "the migration has failed")
        } else if state?.failed == true {
            self = .abort(sign: "the instance's migration state is failed")
        } else if state?.abortStatus == "Succeeded" {
            self = .abort(sign: "the migration was aborted")
        } else if Self.isSet(pod?.metadata.annotations[KubeVirtName.migrationTargetReady]) {
            self = .commit(sign: "the target pod is annotated as ready")
        } else if Self.isSet(state?.targetNodeDomainReadyTimestamp) {
            self = .commit(sign: "the target's domain is ready")
        } else if let pod, pod.hasEnded {
            self = .abort(sign: "the target pod has ended")
        } else if pod == nil, reading.showsWhatIsGone, let previous, previous.showsWhatIsGone,
            previous.objects.pod(uid: target.podUID) == nil
        {
            self = .abort(sign: "the target pod is gone")
        } else {
            self = .wait
        }
    }

    private static func isSet(_ text: String?) -> Bool { text?.isEmpty == false }
}
