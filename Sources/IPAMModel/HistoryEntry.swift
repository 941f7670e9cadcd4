package import Addresses

/// A time in which one owner had its addresses in one place: from one change of owner, addresses or carrying pod to the
/// next. What is now is the binding itself; an entry is made when that ends.
package struct HistoryEntry: Hashable, Sendable {
    /// What ended it.
    package enum End: UInt8, Hashable, Sendable, CaseIterable {
        /// The owner has the addresses no longer.
        case freed = 1
        /// Another owner has the binding: another VM, or a new one of the same name.
        case transferred
        /// The owner has other addresses.
        case readdressed
        /// A pod carries it, or another one.
        case attached
        /// No pod carries it any more.
        case detached

        /// As tables and logs say it. Not by reflection: each line of the audit log asks.
        package var word: String {
            switch self {
            case .freed: "freed"
            case .transferred: "transferred"
            case .readdressed: "readdressed"
            case .attached: "attached"
            case .detached: "detached"
            }
        }
    }

    package var owner: Owner
    package var pool: String
    package var addresses: [IPAddress]
    package var mac: MACAddress
    /// Of the pod that carried it; both empty: none did.
    package var node: String
    package var pod: String
    package var since: Timestamp
    /// Nil: it is so now.
    package var until: Timestamp?
    /// Who asked for the change that began it; empty where that is not known.
    package var begunBy: String
    /// Who asked for the change that ended it.
    package var endedBy: String
    /// Nil: it is so now.
    package var end: End?
    /// The ledger's after the change that ended it, which no other entry has; of what is now: the binding's.
    package var revision: UInt64

    package init(
        owner: Owner, pool: String, addresses: [IPAddress], mac: MACAddress, node: String = "", pod: String = "",
        since: Timestamp, until: Timestamp? = nil, begunBy: String = "", endedBy: String = "", end: End? = nil,
        revision: UInt64
    ) {
        self.owner = owner
        self.pool = pool
        self.addresses = addresses
        self.mac = mac
        self.node = node
        self.pod = pod
        self.since = since
        self.until = until
        self.begunBy = begunBy
        self.endedBy = endedBy
        self.end = end
        self.revision = revision
    }

    /// Whether it was so at some time from `start` on and no later than `end`; nil: no such limit.
    package func overlaps(from start: Timestamp?, through end: Timestamp?) -> Bool {
        if let end, since > end { return false }
        if let start, let until, until <= start { return false }
        return true
    }
}

extension HistoryEntry {
    /// What a binding says of the present.
    package init(_ binding: Binding) {
        self.init(
            owner: binding.owner, pool: binding.pool, addresses: binding.assignments.map(\.address), mac: binding.mac,
            node: binding.active?.node ?? "", pod: binding.active?.pod ?? "", since: binding.heldSince,
            begunBy: binding.heldBy, revision: binding.revision)
    }
}

/// Whose history is asked for.
package enum HistorySubject: Hashable, Sendable {
    case address(IPAddress)
    /// Of a VM or pod, on all its networks, whatever its UID was.
    case object(namespace: String, name: String)
}
