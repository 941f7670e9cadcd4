import IPAMModel
import Ledger
import LedgerStore
import Logging

/// Lets go of history that is older than its pool's `history_retention`: in commits of few entries, with a pause between,
/// so that no change waits long for one.
struct HistoryKeeper: Sendable {
    /// Of one commit.
    static let batch = 256
    private static let pause = Duration.milliseconds(100)
    private static let interval = Duration.seconds(60)

    let writer: Writer
    let logger: Logger

    /// Returns when its task is cancelled.
    func run() async {
        while !Task.isCancelled {
            do throws(StoreError) {
                let count = try await trim()
                if count > 0 { logger.debug("history trimmed", metadata: ["entries": "\(count)"]) }
            } catch {
                // Another server leads, or the store is away: the writer tells of that.
                logger.debug("history not trimmed", metadata: ["error": "\(error)"])
            }
            try? await Task.sleep(for: Self.interval)
        }
    }

    /// Goes through what is older than the shortest retention once; returns how many entries went.
    func trim() async throws(StoreError) -> Int {
        let (retentions, now) = writer.read { ledger, now in
            (Dictionary(uniqueKeysWithValues: ledger.pools.map { ($0.name, $0.historyRetention) }), now)
        }
        func retention(_ entry: HistoryEntry) -> Delay { retentions[entry.pool] ?? Pool.defaultHistoryRetention }
        let shortest = min(retentions.values.min() ?? Pool.defaultHistoryRetention, Pool.defaultHistoryRetention)
        var (count, last) = (0, UInt64(0))
        while !Task.isCancelled {
            let store = writer.currentStore
            let page = try await blocking { [last] () throws(StoreError) in
                try store.history(after: last, limit: Self.batch)
            }
            let old = page.filter { $0.isOlder(than: retention($0), at: now) }
            if !old.isEmpty {
                try await blocking { [writer] () throws(StoreError) in try writer.forget(old) }
                count += old.count
            }
            // They stand in the order in which they ended.
            guard page.count == Self.batch, let newest = page.last, newest.isOlder(than: shortest, at: now) else {
                return count
            }
            last = newest.revision
            try? await Task.sleep(for: Self.pause)
        }
        return count
    }
}

extension HistoryEntry {
    fileprivate func isOlder(than retention: Delay, at now: Timestamp) -> Bool {
        until.map { $0.advanced(by: retention) <= now } ?? false
    }
}
