package import KubeVirt

/// Where the agent sees pods, virtual machines and migrations: the API server, or what stands for it.
package protocol ObjectSource: Sendable {
    /// What is known now. Does not wait for anybody.
    func read() async -> Reading

    /// Whose addresses the pod of this name has, and of this UID where the runtime gives one. What is not known yet is
    /// asked for, until `deadline`; with `afresh` also what is.
    func identity(
        ofPod name: String, in namespace: String, uid: String?, afresh: Bool, by deadline: ContinuousClock.Instant
    ) async throws(IdentityError) -> PodIdentity

    /// The pods that say they are those of `pod`'s instance, on whatever node.
    func pods(ofInstanceOf pod: Pod, by deadline: ContinuousClock.Instant) async throws(IdentityError) -> ClusterObjects

    /// Returns when `read` may show something new, and after `interval` in any case.
    func change(within interval: Duration) async

    /// How what it follows stands; empty where it follows nothing.
    var watches: [WatchHealth] { get }
}

extension ObjectSource {
    package func identity(
        ofPod name: String, in namespace: String, uid: String?, afresh: Bool, by deadline: ContinuousClock.Instant
    ) async throws(IdentityError) -> PodIdentity {
        try await read().objects.identity(ofPod: name, in: namespace, uid: uid)
    }

    package func pods(
        ofInstanceOf pod: Pod, by deadline: ContinuousClock.Instant
    ) async throws(IdentityError) -> ClusterObjects { await read().objects }

    package var watches: [WatchHealth] { [] }

    /// What cannot tell is looked at often.
    package func change(within interval: Duration) async {
        try? await Task.sleep(for: min(interval, .milliseconds(200)))
    }
}

/// What one look at the source showed.
package struct Reading: Hashable, Sendable {
    package var objects: ClusterObjects
    /// Whether nothing that is there can be missing in `objects`. What an incomplete reading lacks is not gone.
    package var isComplete: Bool
    /// Whether it was read after it was asked for, from all nodes. A watch may be behind, and shows one node's objects:
    /// what it lacks may only not have come yet.
    package var isCurrent: Bool

    package init(objects: ClusterObjects, isComplete: Bool, isCurrent: Bool = true) {
        self.objects = objects
        self.isComplete = isComplete
        self.isCurrent = isCurrent
    }

    /// Whether what it lacks was not there.
    var showsWhatIsGone: Bool { isComplete && isCurrent }
}
