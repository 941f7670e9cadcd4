/// A copy of a VM's binding that a node has: which, and of what revision.
package struct BindingCopy: Hashable, Sendable {
    package var owner: Owner
    package var revision: UInt64

    package init(owner: Owner, revision: UInt64) {
        self.owner = owner
        self.revision = revision
    }
}

/// A copy that a node no longer has, because the service said so.
package struct DroppedCopy: Hashable, Sendable {
    package var owner: Owner
    /// From the answer that said so.
    package var ticket: UInt64

    package init(owner: Owner, ticket: UInt64) {
        self.owner = owner
        self.ticket = ticket
    }
}

/// Asks which of a node's copies it may go on using.
package struct RenewCopiesRequest: Hashable, Sendable {
    package static let largestCount = 1000

    package var node: String
    package var copies: [BindingCopy]
    package var dropped: [DroppedCopy]

    package init(node: String, copies: [BindingCopy] = [], dropped: [DroppedCopy] = []) {
        self.node = node
        self.copies = copies
        self.dropped = dropped
    }
}
