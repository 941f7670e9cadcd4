/// The pod that carries a binding.
package struct Attachment: Hashable, Sendable {
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
package struct AttachmentID: Hashable, Sendable {
    package var podUID: String
    package var containerID: String

    package init(podUID: String, containerID: String) {
        self.podUID = podUID
        self.containerID = containerID
    }
}
