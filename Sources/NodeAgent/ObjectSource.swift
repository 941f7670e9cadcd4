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

    package init(objects: ClusterObjects, isComplete: Bool) {
        self.objects = objects
        self.isComplete = isComplete
    }
}
