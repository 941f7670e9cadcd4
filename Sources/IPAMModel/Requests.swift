package import Addresses

/// Asks for the owner's binding: the one it has already, or a new one.
package struct AllocateRequest: Hashable, Sendable, Codable {
    package var owner: Owner
    /// Nil: reserve ahead of any pod.
    package var attachment: Attachment?
    /// Nil: the pool that has the first requested address, else the binding's own, else the one that the namespace is
    /// listed in, else the default pool.
    package var pool: String?
    /// The one revision of `pool` that is meant; nil: whatever it is.
    package var poolRevision: UInt64?
    /// At most one of each family.
    package var addresses: [IPAddress]
    package var mac: MACAddress?
    /// The attachment's node keeps a copy of a VM's binding, and renews it.
    package var keepsCopy: Bool

    package init(
        owner: Owner, attachment: Attachment? = nil, pool: String? = nil, poolRevision: UInt64? = nil,
        addresses: [IPAddress] = [], mac: MACAddress? = nil, keepsCopy: Bool = false
    ) {
        self.owner = owner
        self.attachment = attachment
        self.pool = pool
        self.poolRevision = poolRevision
        self.addresses = addresses
        self.mac = mac
        self.keepsCopy = keepsCopy
    }
}

package enum ReleaseRequest: Hashable, Sendable {
    /// The pod is gone. Without `owner` the binding is found by the container's ID on `network`.
    case attachment(AttachmentID, owner: Owner?, network: String)
    /// The owner is gone.
    case binding(Owner)
}

package enum TransferPhase: Hashable, Sendable {
    /// With `targetOwner` it is refused where that owner could not have the binding.
    case prepare(target: Attachment, targetOwner: Owner? = nil)
    /// With `targetOwner` the binding becomes that owner's.
    case commit(targetOwner: Owner?)
    case abort
}

package struct TransferRequest: Hashable, Sendable {
    package var owner: Owner
    package var migrationUID: String
    package var phase: TransferPhase
    /// With `prepare`: the target's node keeps a copy of a VM's binding, and renews it.
    package var keepsCopy: Bool

    package init(owner: Owner, migrationUID: String, phase: TransferPhase, keepsCopy: Bool = false) {
        self.owner = owner
        self.migrationUID = migrationUID
        self.phase = phase
        self.keepsCopy = keepsCopy
    }
}

/// Which bindings a list or a watch is about; nil matches everything.
package struct BindingFilter: Hashable, Sendable {
    package var pool: String?
    package var namespace: String?
    package var name: String?
    /// The active or the target attachment's node.
    package var node: String?
    package var state: BindingState?

    package init(
        pool: String? = nil, namespace: String? = nil, name: String? = nil, node: String? = nil,
        state: BindingState? = nil
    ) {
        self.pool = pool
        self.namespace = namespace
        self.name = name
        self.node = node
        self.state = state
    }

    package func matches(_ binding: Binding) -> Bool {
        (pool.map { $0 == binding.pool } ?? true)
            && (namespace.map { $0 == binding.owner.namespace } ?? true)
            && (name.map { $0 == binding.owner.name } ?? true)
            && (node.map { $0 == binding.active?.node || $0 == binding.target?.node } ?? true)
            && (state.map { $0 == binding.state } ?? true)
    }
}
