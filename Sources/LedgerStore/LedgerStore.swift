package import IPAMModel
package import Ledger

/// Where a ledger is durable. One writer at a time; its calls block.
package protocol LedgerStore: AnyObject, Sendable {
    /// Everything committed so far. Throws `StoreError` where it is damaged: never a partial or empty ledger.
    func load() throws(StoreError) -> Snapshot
    /// Makes all of `changes`, in order, and `revision` durable, or none of it. Returns only once they are on disk.
    func commit(_ changes: [Change], revision: UInt64) throws(StoreError)
    /// Does what it can of the next commit before that comes, and waits for nobody. For when a commit's callers are answered.
    func getReady()
    /// Throws `.notLeader` where another server may have changed the ledger meanwhile: then what this process has of it
    /// must not be told to anybody.
    func checkIsCurrent() throws(StoreError)
    /// Puts a ledger into a store that has none yet, whole or not at all; into one that was opened for a copy so that
    /// `MovableStore.takePlace` makes it one. Throws `.inUse` where there is one.
    func fill(_ snapshot: Snapshot) throws(StoreError)
    /// What was of an address or an object, newest first; only of revisions before the given one. Holds up no commit.
    func history(of subject: HistorySubject, before revision: UInt64, limit: Int) throws(StoreError) -> [HistoryEntry]
    /// What was of all, oldest first; only of revisions after the given one. Holds up no commit.
    func history(after revision: UInt64, limit: Int) throws(StoreError) -> [HistoryEntry]
    /// What is put into one commit.
    var batching: Batching { get }
    /// Idempotent.
    func close()
}

/// How commands are put together into commits of a store's.
package struct Batching: Sendable {
    /// A commit gets no more commands once it has so many changes, or gives so many addresses to bindings.
    package var mostChanges: Int
    package var mostAddresses: Int
    /// Which part of a commit's time it is worth to wait for the callers that the last one has answered: many call again
    /// at once. 0: not worth it.
    package var patience: Double

    package init(mostChanges: Int = .max, mostAddresses: Int = .max, patience: Double = 0) {
        self.mostChanges = mostChanges
        self.mostAddresses = mostAddresses
        self.patience = patience
    }
}

extension LedgerStore {
    package func getReady() {}
    package func checkIsCurrent() throws(StoreError) {}

    /// All that is durable at one revision, the history up to it included.
    package func loadWithHistory() throws(StoreError) -> Snapshot {
        var snapshot = try load()
        var last: UInt64 = 0
        while true {
            let page = try history(after: last, limit: 2000)
            snapshot.history += page.lazy.filter { $0.revision <= snapshot.revision }
            guard let newest = page.last?.revision, newest <= snapshot.revision else { return snapshot }
            last = newest
        }
    }

    package func fill(_ snapshot: Snapshot) throws(StoreError) {
        try checkIsEmpty()
        try commit(snapshot.changes, revision: snapshot.revision)
    }

    func checkIsEmpty() throws(StoreError) {
        let present = try load()
        guard present.revision == 0, present.pools.isEmpty, present.bindings.isEmpty, present.freed.isEmpty else {
            throw StoreError(.inUse, "There is a ledger already (revision \(present.revision)): nothing was copied.")
        }
    }
}

extension Snapshot {
    /// What makes it of an empty ledger.
    package var changes: [Change] {
        pools.map(Change.putPool) + bindings.map(Change.putBinding) + freed.map(Change.putFreed)
            + history.map(Change.putHistory)
    }
}

/// What went wrong, and what a person should do.
package struct StoreError: Error, Sendable, CustomStringConvertible {
    package enum Code: Sendable { case damaged, newerSchema, inUse, unwritable, full, failed, notLeader }
    package var code: Code
    package var message: String
    /// With `.notLeader`: the address of the server that serves the ledger, where it is known.
    package var leader: String?
    package init(_ code: Code, _ message: String, leader: String? = nil) {
        self.code = code
        self.message = message
        self.leader = leader
    }
    package var description: String { message }
}
