package import KubeVirt

/// Where the agent sees pods, virtual machines and migrations: what the API server says, or what stands for it.
package protocol ObjectSource: Sendable {
    /// Reads everything afresh.
    func read() async -> Reading
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
