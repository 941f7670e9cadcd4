package import Addresses
package import IPAMModel

/// One durable fact that a batch of commands changed, in the order in which it became true. Boxed: it goes through many hands.
package indirect enum Change: Hashable, Sendable {
    /// A new binding, or a binding's new content.
    case putBinding(Binding)
    /// The binding as it was, with the revision of its freeing.
    case removeBinding(Binding)
    /// An address freed now.
    case putFreed(FreedAddress)
    /// A freed address given again, or no longer of any pool.
    case removeFreed(IPAddress)
    case putPool(Pool)
    case removePool(name: String)
    /// For the store only: nothing in the ledger's memory is about it.
    case putHistory(HistoryEntry)
    case removeHistory(HistoryEntry)
}

/// The whole of a ledger, as a store gives it back at start.
package struct Snapshot: Sendable {
    package var revision: UInt64
    package var pools: [Pool]
    package var bindings: [Binding]
    package var freed: [FreedAddress]
    /// Only of a copy of all that a store has: nothing is served from it.
    package var history: [HistoryEntry]

    package init(
        revision: UInt64 = 0, pools: [Pool] = [], bindings: [Binding] = [], freed: [FreedAddress] = [],
        history: [HistoryEntry] = []
    ) {
        self.revision = revision
        self.pools = pools
        self.bindings = bindings
        self.freed = freed
        self.history = history
    }
}

/// A request that changes the ledger.
package enum Command: Hashable, Sendable {
    case allocate(AllocateRequest)
    case release(ReleaseRequest)
    case transfer(TransferRequest)
    /// Changes nothing durable.
    case renewCopies(RenewCopiesRequest)
    case createPool(Pool)
    /// `for`: the namespace whose network's configuration says so; nil where whoever asks does.
    case updatePool(Pool, for: String? = nil)
    case deletePool(name: String)
}

/// What a command came to. Boxed: it goes through many hands.
package indirect enum Outcome: Hashable, Sendable {
    /// `created`: this command made the binding.
    case allocated(Binding, created: Bool)
    /// Nil once freed.
    case released(Binding?)
    case transferred(Binding)
    case copiesRenewed([CopyStanding])
    case pool(Pool)
    case poolDeleted
}
