package import Addresses

package enum BindingState: UInt8, Hashable, Sendable, CaseIterable {
    /// No pod carries it: a halted VM, or reserved ahead of any pod.
    case reserved = 1
    case bound = 2
    case migrating = 3
}

/// One address of a binding, with what its prefix says of it.
package struct Assignment: Hashable, Sendable, Codable {
    package var address: IPAddress
    package var prefixLength: Int
    package var gateway: IPAddress?

    package init(address: IPAddress, prefixLength: Int, gateway: IPAddress?) {
        self.address = address
        self.prefixLength = prefixLength
        self.gateway = gateway
    }
}

/// How a migration ended.
package enum MigrationOutcome: UInt8, Hashable, Sendable {
    case committed = 1
    case aborted = 2
}

/// The last migration of a binding to end: its messages may still come, late or twice.
package struct EndedMigration: Hashable, Sendable {
    package var uid: String
    package var outcome: MigrationOutcome
    /// The attachment whose release ended it, which leaves something open: the target's (aborted), whose pod may come
    /// back in another sandbox; or the source's (committed), whose COMMIT may still name a target owner. Nil where a
    /// message of the migration or a newer pod has ended it for good.
    package var released: AttachmentID?

    package init(uid: String, outcome: MigrationOutcome, released: AttachmentID? = nil) {
        self.uid = uid
        self.outcome = outcome
        self.released = released
    }
}

/// The durable fact "this owner has these addresses and this MAC".
package struct Binding: Hashable, Sendable {
    /// Names the binding for its whole life, also when it passes to another owner: the ledger's revision when it was
    /// made. Not on the wire: 0 there.
    package var id: UInt64
    package var owner: Owner
    package var pool: String
    /// At most one of each family, IPv4 first.
    package var assignments: [Assignment]
    package var mac: MACAddress
    package var active: Attachment?
    /// The attachment that was active last, where its release left the binding reserved: another pod or another object
    /// that has the binding then supersedes it.
    @Rare package var released: AttachmentID?
    /// Not nil exactly while a migration is open.
    @Rare package var target: Attachment?
    /// The open migration's UID; empty when none is.
    package var migrationUID: String
    /// The last migration that ended.
    @Rare package var endedMigration: EndedMigration?
    /// The creation time of the newest pod that was ever active: an older pod's message comes late. A target counts
    /// once it is active: else a migration that failed would lock the source out.
    package var newestAttachment: Timestamp?
    /// Attachments that newer ones replaced, newest last, a few only: their messages come late. An empty container
    /// ID stands for all of that pod's, whose sandboxes are not listed then.
    package var superseded: [AttachmentID]
    /// Nodes keep copies of it, or did once: it does not move to another owner or address while one may be used. Not on
    /// the wire.
    package var isCopied: Bool
    /// Since when its owner has these addresses in this place: by its active pod, or by none. Not on the wire.
    package var heldSince: Timestamp
    /// Who asked for the change that made it so; empty where that is not known. Not on the wire.
    package var heldBy: String
    package var revision: UInt64
    package var createdAt: Timestamp
    package var updatedAt: Timestamp

    package init(
        id: UInt64 = 0, owner: Owner, pool: String, assignments: [Assignment], mac: MACAddress,
        active: Attachment? = nil, released: AttachmentID? = nil,
        target: Attachment? = nil, migrationUID: String = "", endedMigration: EndedMigration? = nil,
        newestAttachment: Timestamp? = nil, superseded: [AttachmentID] = [], isCopied: Bool = false,
        heldSince: Timestamp? = nil, heldBy: String = "", revision: UInt64, createdAt: Timestamp, updatedAt: Timestamp
    ) {
        self.id = id
        self.owner = owner
        self.pool = pool
        self.assignments = assignments
        self.mac = mac
        self.active = active
        self.released = released
        self.target = target
        self.migrationUID = migrationUID
        self.endedMigration = endedMigration
        self.newestAttachment = newestAttachment
        self.superseded = superseded
        self.isCopied = isCopied
        self.heldSince = heldSince ?? createdAt
        self.heldBy = heldBy
        self.revision = revision
        self.createdAt = createdAt
        self.updatedAt = updatedAt
    }

    package var state: BindingState {
        if target != nil { return .migrating }
        return active != nil ? .bound : .reserved
    }

    /// The pod that has it, or is about to.
    package var carrier: Attachment? { active ?? target }

    package var isCarried: Bool { active != nil || target != nil }
}

/// A freed address: nobody but its last owner may have it until the pool's reuse delay has passed.
package struct FreedAddress: Hashable, Sendable {
    package var address: IPAddress
    package var pool: String
    package var lastOwner: Owner
    package var freedAt: Timestamp
    /// Order of freeing; also the ledger's revision then.
    package var revision: UInt64
    /// Also after the reuse delay it waits until then: nobody knows of an earlier end of the copies that nodes may use.
    /// Not stored: a server that has just started waits anew.
    package var notBefore: Timestamp?

    package init(
        address: IPAddress, pool: String, lastOwner: Owner, freedAt: Timestamp, revision: UInt64,
        notBefore: Timestamp? = nil
    ) {
        self.address = address
        self.pool = pool
        self.lastOwner = lastOwner
        self.freedAt = freedAt
        self.revision = revision
        self.notBefore = notBefore
    }

    /// From then on an owner other than the last may have it.
    package func readyAt(reuseDelay: Delay) -> Timestamp {
        max(freedAt.advanced(by: reuseDelay), notBefore ?? freedAt)
    }
}
