package import Ledger

/// Where a ledger is durable. One writer at a time; its calls block.
package protocol LedgerStore: AnyObject, Sendable {
    /// Everything committed so far. Throws `StoreError` where it is damaged: never a partial or empty ledger.
    func load() throws(StoreError) -> Snapshot
    /// Makes all of `changes`, in order, and `revision` durable, or none of it. Returns only once they are on disk.
    func commit(_ changes: [Change], revision: UInt64) throws(StoreError)
    /// Idempotent.
    func close()
}

/// What went wrong, and what a person should do.
package struct StoreError: Error, Sendable, CustomStringConvertible {
    package enum Code: Sendable { case damaged, newerSchema, inUse, unwritable, full, failed }
    package var code: Code
    package var message: String
    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }
    package var description: String { message }
}
