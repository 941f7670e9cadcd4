package import IPAMModel
package import Ledger
import Synchronization

/// A ledger that several servers share: one of them leads and serves it, the others follow.
package protocol SharedLedger: AnyObject, Sendable {
    /// Takes part, until `close`. `address` is where clients find this server.
    func start(advertising address: String)
    /// What this server is, whenever that changes; a change that nobody has taken yet gives way to a newer one. Ends after
    /// `close`.
    var roles: AsyncStream<Role> { get }
    /// The newest revision of it that this process has read, while it leads perhaps an older one; 0: none yet.
    var newestRevision: UInt64 { get }
    /// Lets another server lead at once. Blocks for a moment; idempotent.
    func close()
}

package enum Role: Sendable {
    /// The ledger as it is now, and where its changes go until another leads.
    case leading(LedgerInHand, any LedgerStore)
    /// Nil: none is known, or this one is not warm yet.
    case following(leader: String?)
    /// Why the ledger can be neither served nor followed, in words.
    case failing(String)
}

/// A ledger on its way to who serves it. Whoever takes it is its only owner: a copy of a large one, which the first change
/// would make as long as there is another, takes seconds.
package final class LedgerInHand: Sendable {
    private let ledger: Mutex<Ledger>

    package init(_ ledger: consuming Ledger) { self.ledger = Mutex(ledger) }

    /// Leaves an empty one.
    package func take() -> Ledger {
        ledger.withLock { ledger in
            defer { ledger = Ledger() }
            return ledger
        }
    }
}

/// The store of a server that follows: it tells who leads, and nothing else.
package final class FollowersStore: LedgerStore {
    private let leader: String?
    package init(leader: String?) { self.leader = leader }

    package func load() throws(StoreError) -> Snapshot { throw refusal }
    package func commit(_ changes: [Change], revision: UInt64) throws(StoreError) { throw refusal }
    package func history(
        of subject: HistorySubject, before revision: UInt64, limit: Int
    ) throws(StoreError) -> [HistoryEntry] { throw refusal }
    package func history(after revision: UInt64, limit: Int) throws(StoreError) -> [HistoryEntry] { throw refusal }
    package func checkIsCurrent() throws(StoreError) { throw refusal }
    package var batching: Batching { Batching() }
    package func close() {}

    private var refusal: StoreError { .notLeader(leader) }
}

extension StoreError {
    package static func notLeader(_ leader: String?) -> StoreError {
        StoreError(
            .notLeader,
            leader.map { "this server does not lead: the one at \($0) does" }
                ?? "this server does not lead, and no other does yet", leader: leader)
    }
}
