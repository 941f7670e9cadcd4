import IPAMModel
import Ledger
import LedgerStore
import Logging
import RPC

/// Lets go of history that is older than its pool's `history_retention`: in commits of few entries, with a pause between,
/// so that no change waits long for one.
struct HistoryKeeper {
    /// Of one commit.
    static let batch = 256
    private static let pause = Duration.milliseconds(100)
    private static let interval = Duration.seconds(60)

    /// What the places in the history were found with.
    private struct Rules: Equatable {
        var retentions: [String: Delay]
        /// The writer's count of ledgers: another has another history.
        var ledger: UInt64
    }

    let writer: Writer
    let logger: Logger
    private var rules = Rules(retentions: [:], ledger: 0)
    /// For each retention, the revision up to which all is older than that, and was looked at.
    private var places: [Delay: UInt64] = [:]

    init(writer: Writer, logger: Logger) {
        self.writer = writer
        self.logger = logger
    }

    /// Returns when its task is cancelled.
    mutating func run() async {
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

    /// Goes on through what is older than each retention; returns how many entries went. So each entry is looked at once for
    /// each, unless pools have changed theirs since.
    mutating func trim() async throws(StoreError) -> Int {
        let ledgerCount = writer.ledgerCount
        let retentions = writer.read { ledger, _ in
            Dictionary(uniqueKeysWithValues: ledger.pools.map { ($0.name, $0.historyRetention) })
        }
        let rules = Rules(retentions: retentions, ledger: ledgerCount)
        if rules != self.rules { (self.rules, places) = (rules, [:]) }
        var count = 0
        for retention in Set(retentions.values).union([Pool.defaultHistoryRetention]) {
            count += try await trim(retention, at: writer.earliestTime)
        }
        return count
    }

    /// Of pools with that retention; those that are no more have the default's.
    private mutating func trim(_ retention: Delay, at now: Timestamp) async throws(StoreError) -> Int {
        var count = 0
        while !Task.isCancelled {
            let (store, last) = (writer.currentStore, places[retention] ?? 0)
            let page = try await blocking { () throws(StoreError) in try store.history(after: last, limit: Self.batch) }
            // They stand in the order in which they ended.
            let old = page.prefix { $0.isOlder(than: retention, at: now) }
            let gone = old.filter { (rules.retentions[$0.pool] ?? Pool.defaultHistoryRetention) == retention }
            if !gone.isEmpty {
                try await blocking { [writer] () throws(StoreError) in try writer.forget(gone) }
                count += gone.count
            }
            if let newest = old.last { places[retention] = newest.revision }
            guard old.count == Self.batch else { return count }
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
