import Dispatch
package import IPAMAPI
package import IPAMModel
import Ledger
import LedgerStore
import RPC
import Synchronization

// The history is the store's: only what is now comes from the ledger.
extension Writer {
    /// Entries that are read from the store at a time.
    private static let historyBatch = 100

    /// That wait for the store: one reads it at a time, and each has a thread.
    private static let mostHistoryReads = 16

    /// Reads the store on a thread that may wait. OVERLOADED where many wait already.
    func history(
        _ listing: HistoryListing, _ complete: @escaping @Sendable (Result<HistoryPage, IPAMError>) -> Void
    ) {
        guard historyReads.wrappingAdd(1, ordering: .relaxed).newValue <= Self.mostHistoryReads else {
            historyReads.wrappingSubtract(1, ordering: .relaxed)
            return complete(.failure(.tooManyReadHistory))
        }
        DispatchQueue.blocking.async { [self] in
            let page = Result { () throws(IPAMError) in try history(listing) }
            historyReads.wrappingSubtract(1, ordering: .relaxed)
            complete(page)
        }
    }

    /// Blocks.
    package func history(_ listing: HistoryListing) throws(IPAMError) -> HistoryPage {
        let store = currentStore
        try checkIsCurrent(store)
        // What is now first, what was then: what ends in between is in both, and not in neither.
        let present = listing.before == nil ? try present(listing) : []
        try checkIsCurrent(store)
        // The past is for the next page.
        if present.count >= listing.pageSize { return HistoryPage(entries: present, before: .max) }
        do throws(StoreError) {
            var page = try Self.past(listing, in: store, limit: listing.pageSize - present.count)
            // The newest first.
            let ended = Dictionary(page.entries.map { (Beginning($0), $0.revision) }) { newest, _ in newest }
            let isOver = { (entry: HistoryEntry) in ended[Beginning(entry)].map { $0 > entry.revision } ?? false }
            page.entries = present.filter { !isOver($0) } + page.entries
            return page
        } catch {
            throw IPAMError(reading: error)
        }
    }

    /// What an entry of the present and the one that it becomes have in common; also two that one commit began.
    private struct Beginning: Hashable {
        var owner: OwnerKey
        var since: Timestamp

        init(_ entry: HistoryEntry) { (owner, since) = (entry.owner.key, entry.since) }
    }

    private func present(_ listing: HistoryListing) throws(IPAMError) -> [HistoryEntry] {
        let bindings = try read { ledger, _ throws(IPAMError) in
            switch listing.subject {
            case .address(let address): [ledger.binding(holding: address)].compactMap(\.self)
            case .object(let namespace, let name):
                try ledger.bindings(
                    matching: BindingFilter(namespace: namespace, name: name), after: nil,
                    limit: PageSize.largest
                ).bindings
            }
        }
        return bindings.map { HistoryEntry($0) }.filter { $0.overlaps(from: listing.from, through: listing.through) }
    }

    private static func past(
        _ listing: HistoryListing, in store: any LedgerStore, limit: Int
    ) throws(StoreError) -> HistoryPage {
        var page = HistoryPage(entries: [])
        var before = listing.before ?? .max
        while true {
            let batch = try store.history(of: listing.subject, before: before, limit: historyBatch)
            for entry in batch {
                // They come in the order in which they ended.
                if let from = listing.from, let until = entry.until, until <= from { return page }
                before = entry.revision
                guard entry.overlaps(from: listing.from, through: listing.through) else { continue }
                page.entries.append(entry)
                if page.entries.count == limit {
                    page.before = before
                    return page
                }
            }
            if batch.count < historyBatch { return page }
        }
    }
}

extension IPAMError {
    fileprivate static let tooManyReadHistory = IPAMError(
        .resourceExhausted, .overloaded, "too many are reading the history: try again")

    /// What kept the store from being read.
    init(reading error: StoreError) {
        self =
            error.code == .notLeader
            ? IPAMError(error) : IPAMError(.unavailable, .storeUnavailable, "the store cannot be read: \(error)")
    }
}
