import IPAMModel
import KubeVirt

/// A pod in which a VM comes to this node by a decentralized migration, from another VM: a binding that it carries may
/// still be that one's.
struct Arrival: Sendable {
    let pod: Pod
    private let identity: PodIdentity
    private let migrationUID: String
    /// As the pod's instance tells it.
    private let state: MigrationState?
    /// Whether the migration itself is there.
    private let isKnown: Bool

    /// Nil for any other pod, and for one that its instance does not confirm (promise 8).
    init?(_ pod: Pod, in objects: ClusterObjects) {
        guard !pod.hasEnded, let uid = pod.metadata.labels[KubeVirtName.migrationJobUID], !uid.isEmpty,
            let identity = try? objects.identity(
                ofPod: pod.metadata.name, in: pod.metadata.namespace, uid: pod.metadata.uid),
            identity.kind == .virtualMachine
        else { return nil }
        let migration = objects.migration(uid: uid)
        let state = objects.instance(namespace: pod.metadata.namespace, name: identity.name)?.migration
        guard migration.map({ $0.receives != nil }) ?? (state?.migrationUid == uid) else { return nil }
        (self.pod, self.identity, migrationUID, isKnown) = (pod, identity, uid, migration != nil)
        self.state = state?.migrationUid == uid ? state : nil
    }

    func carries(_ binding: Binding) -> Bool {
        [binding.active, binding.target].contains { $0?.podUID == pod.metadata.uid }
    }

    func owns(_ binding: Binding) -> Bool { owner(of: binding).key == binding.owner.key }

    private func owner(of binding: Binding) -> Owner { identity.owner(network: binding.owner.network) }

    /// What there is to do for a binding that the pod carries and that is another VM's, and the binding as it was while the
    /// migration was open, if it is no more: the source's release, which came before the COMMIT, has made the target the
    /// carrier. Nil while it is open.
    func handOver(
        of binding: Binding, seeing reading: Reading, previous: Reading?
    ) -> (verdict: MigrationVerdict, ended: Binding)? {
        guard binding.target == nil else { return nil }
        var ended = binding
        (ended.active, ended.target, ended.migrationUID) = (nil, binding.active, migrationUID)
        let newOwner = owner(of: binding)
        if isKnown {
            let verdict = MigrationVerdict(on: ended, in: reading, previous: previous)
            guard case .commit(let sign, _) = verdict else { return (verdict, ended) }
            return (.commit(sign: sign, newOwner: newOwner), ended)
        }
        // KubeVirt keeps the last five migrations.
        guard let state, state.failed != true, !pod.hasEnded, state.targetNodeDomainReadyTimestamp?.isEmpty == false
        else {
            return (.wait, ended)
        }
        return (.commit(sign: "the target's domain is ready", newOwner: newOwner), ended)
    }
}
