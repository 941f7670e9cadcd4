package import IPAMModel
package import Ledger
package import LedgerStore

/// A store that does what another does, but for what a test makes of it.
package protocol StoreInFront: LedgerStore {
    var store: any LedgerStore { get }
}

extension StoreInFront {
    package func load() throws(StoreError) -> Snapshot { try store.load() }
    package func commit(_ changes: [Change], revision: UInt64) throws(StoreError) {
        try store.commit(changes, revision: revision)
    }
    package func history(
        of subject: HistorySubject, before revision: UInt64, limit: Int
    ) throws(StoreError) -> [HistoryEntry] { try store.history(of: subject, before: revision, limit: limit) }
    package func history(after revision: UInt64, limit: Int) throws(StoreError) -> [HistoryEntry] {
        try store.history(after: revision, limit: limit)
    }
    package func getReady() { store.getReady() }
    package func checkIsCurrent() throws(StoreError) { try store.checkIsCurrent() }
    package var batching: Batching { store.batching }
    package func close() { store.close() }
}
