/// The pod that carries a binding.
package struct Attachment: Hashable, Sendable, Codable {
    package var node: String
    package var pod: String
    package var podUID: String
    package var containerID: String
    /// The pod's creationTimestamp, or nil where the caller does not know it.
    package var createdAt: Timestamp?

    package init(node: String, pod: String, podUID: String, containerID: String, createdAt: Timestamp? = nil) {
        self.node = node
        self.pod = pod
        self.podUID = podUID
        self.containerID = containerID
        self.createdAt = createdAt
    }

    package var id: AttachmentID { AttachmentID(podUID: podUID, containerID: containerID) }
}

/// What tells one attachment from another: the pod and its sandbox.
package struct AttachmentID: Hashable, Sendable, Codable {
    package var podUID: String
    package var containerID: String

    package init(podUID: String, containerID: String) {
        self.podUID = podUID
        self.containerID = containerID
    }

    /// Whether both speak of one attachment: only what both know is compared, and something must be.
    package func matches(_ other: AttachmentID) -> Bool {
        let isSamePod = podUID.isEmpty || other.podUID.isEmpty ? nil : podUID == other.podUID
        let isSameContainer = containerID.isEmpty || other.containerID.isEmpty ? nil : containerID == other.containerID
        return (isSamePod ?? isSameContainer ?? false) && (isSameContainer ?? true)
    }

    /// Whether both are sandboxes of one pod; the same sandbox, where one of them does not know the pod.
    package func isSamePod(as other: AttachmentID) -> Bool {
        podUID.isEmpty || other.podUID.isEmpty ? matches(other) : podUID == other.podUID
    }
}
