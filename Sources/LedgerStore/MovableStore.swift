import IPAMModel
package import Ledger

/// A store that a ledger can move from and to.
package protocol MovableStore: LedgerStore {
    /// What is left here is no ledger from now on: whoever opens it is told where that went. Where it fails, the
    /// error says what to do.
    func moveAway() throws(StoreError)
    /// What `fill` has put into a store that was opened for a copy is the ledger from now on; before only this store reads it.
    /// Where it fails, the error says what to do.
    func takePlace() throws(StoreError)
}

extension MovableStore {
    /// Makes `target`, which has no ledger yet, the store of this one, which is `snapshot`. However it ends, also with the
    /// process, at most one of the two is the ledger. Where it is neither, each says so to whoever opens it, and what to do.
    package func move(_ snapshot: Snapshot, to target: any MovableStore) throws(StoreError) {
        try target.fill(snapshot)
        guard Contents(try target.loadWithHistory()) == Contents(snapshot) else {
            throw StoreError(.failed, "the copy is not what was copied: it is not used. The source is as it was.")
        }
        try target.checkIsCurrent()
        try moveAway()
        try target.takePlace()
    }
}

/// A ledger's facts, whatever their order.
private struct Contents: Equatable {
    let revision: UInt64
    let pools: Set<Pool>
    let bindings: Set<Binding>
    let freed: Set<FreedAddress>
    let history: Set<HistoryEntry>

    init(_ snapshot: Snapshot) {
        revision = snapshot.revision
        pools = Set(snapshot.pools)
        bindings = Set(snapshot.bindings)
        freed = Set(snapshot.freed)
        history = Set(snapshot.history)
    }
}
