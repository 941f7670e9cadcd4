import Addresses
import IPAMModel
import Ledger
import LedgerStore
import RPC

/// Reads a whole ledger as it was at one revision of etcd's.
struct EtcdReader {
    /// Of records that are small nearly always, and some 20 kB at most (a binding with all the pods and sandboxes that it
    /// remembers, and the longest names): a page must fit a message (`EtcdClient`).
    static let pageSize = 1000
    /// Of records that may be as large as a request.
    private static let largePageSize = 16
    /// Of records of the history in one transaction.
    fileprivate static let mostGets = 100
    fileprivate static let timeout = Duration.seconds(10)

    let client: EtcdClient
    let keys: EtcdKeys

    struct Image {
        var snapshot: Snapshot
        var mark: EtcdMark
        /// Of etcd: later changes are read from a watch of the next one.
        var revision: Int64
        /// The modification revision of the last commit; 0 where there was none.
        var lastCommit: Int64
        /// A commit that is in the journal, and not all written yet.
        var openJournal: [EtcdOperation]
        var leader: String?
    }

    /// Throws `RPCStatus` where etcd does not answer and `StoreError` where what it has is no ledger, or is one of before
    /// the revision that was `seen`. `copy`: what makes a ledger of the records that were copied here, and is not written yet.
    func read(after seen: UInt64 = 0, copy: EtcdMark? = nil) throws -> Image {
        let first = try client.range(from: keys.revision, timeout: Self.timeout)
        let revision = first.revision
        let mark = try copy ?? first.entries.first.map { try EtcdMark($0) }
        if mark?.revision ?? 0 < seen { throw StoreError.wentBack(from: seen, to: mark?.revision) }
        // 0: nothing was committed. A copy's last transaction that was made void leaves such a mark as well.
        if mark?.revision ?? 0 == 0 { try checkIsEmpty(at: revision) }
        var values: [String: [UInt8]] = [:]
        var (bindings, freed, pools): ([Binding], [FreedAddress], [Pool]) = ([], [], [])
        var journal: [EtcdOperation] = []
        var addresses = AddressKeys(keys)
        if let parts = mark?.journalParts, parts > 0 {
            // What comes after them is of a commit that broke off before it was a fact.
            try each(keys.journal, to: keys.journal(parts + 1), pageSize: Self.largePageSize, at: revision) {
                journal += try EtcdJournal.operations(of: $0)
            }
            // The journal has the last word.
            for prefix in [keys.bindings, keys.addresses, keys.freed] {
                try each(prefix, at: revision) { values[$0.key] = $0.value }
            }
            try each(keys.pools, pageSize: Self.largePageSize, at: revision) { values[$0.key] = $0.value }
            for operation in journal {
                switch operation {
                case .put(let key, let value, _): values[key] = value
                case .delete(let key): values[key] = nil
                case .deleteRange, .get: break
                }
            }
            for (key, value) in values {
                if key.hasPrefix(keys.bindings) { bindings.append(try StoredRecord.binding(value, at: key)) }
                if key.hasPrefix(keys.freed) { freed.append(try StoredRecord.freed(value, at: key)) }
                if key.hasPrefix(keys.pools) { pools.append(try StoredRecord.pool(value, at: key)) }
                if key.hasPrefix(keys.addresses) { try addresses.find(key) }
            }
        } else {
            try each(keys.bindings, at: revision) { bindings.append(try StoredRecord.binding($0.value, at: $0.key)) }
            try each(keys.freed, at: revision) { freed.append(try StoredRecord.freed($0.value, at: $0.key)) }
            try each(keys.pools, pageSize: Self.largePageSize, at: revision) {
                pools.append(try StoredRecord.pool($0.value, at: $0.key))
            }
            try each(keys.addresses, at: revision) { try addresses.find($0.key) }
        }
        try addresses.check(bindings)
        let leader = try client.range(from: keys.leader, revision: revision, timeout: Self.timeout).entries.first
        return Image(
            snapshot: Snapshot(revision: mark?.revision ?? 0, pools: pools, bindings: bindings, freed: freed),
            mark: mark ?? EtcdMark(revision: 0), revision: revision, lastCommit: first.entries.first?.modRevision ?? 0,
            openJournal: journal,
            leader: leader?.text)
    }

    /// `end` nil: all that begins with `start`.
    fileprivate func each(
        _ start: String, to end: String? = nil, pageSize: Int = pageSize, at revision: Int64,
        _ body: (EtcdEntry) throws -> Void
    ) throws {
        let end = end ?? EtcdKeys.end(of: start)
        var start = start
        while true {
            let page = try client.range(
                from: start, to: end, limit: pageSize, revision: revision, timeout: Self.timeout)
            for entry in page.entries { try body(entry) }
            guard page.hasMore, let last = page.entries.last else { return }
            start = last.key + "\0"
        }
    }

    /// A copy into etcd writes the revision last: without it there is nothing, or not the whole.
    private func checkIsEmpty(at revision: Int64) throws {
        for prefix in [keys.bindings, keys.addresses, keys.freed, keys.pools, keys.history, keys.historyIndex] {
            let found = try client.range(
                from: prefix, to: EtcdKeys.end(of: prefix), limit: 1, revision: revision, timeout: Self.timeout)
            if let entry = found.entries.first {
                throw StoreError(
                    .damaged,
                    "etcd has \(entry.key), and no ledger's \(keys.revision): a copy into it was not finished. Look at what is "
                        + "there with `etcdctl get --prefix --keys-only \(keys.prefix)`, delete it with `etcdctl del "
                        + "--prefix \(keys.prefix)`, and copy again.")
            }
        }
    }
}

/// The keys of addresses that etcd has, to be compared with the bindings: by them etcd refuses an address to a second one.
private struct AddressKeys {
    private let keys: EtcdKeys
    private var found: Set<IPAddress> = []

    init(_ keys: EtcdKeys) { self.keys = keys }

    mutating func find(_ key: String) throws(StoreError) {
        guard let address = IPAddress(String(key.dropFirst(keys.addresses.count))) else { throw Self.stray(key) }
        found.insert(address)
    }

    consuming func check(_ bindings: [Binding]) throws(StoreError) {
        for address in bindings.lazy.flatMap(\.assignments).map(\.address) where found.remove(address) == nil {
            throw StoreError(
                .damaged,
                "The ledger in etcd is damaged: \(address) is in a binding, and there is no \(keys.address(address)). "
                    + "Put a backup in its place.")
        }
        if let address = found.min() { throw Self.stray(keys.address(address)) }
    }

    private static func stray(_ key: String) -> StoreError {
        StoreError(
            .damaged,
            "The ledger in etcd is damaged: there is \(key), and no binding has that address. Where somebody wrote it by "
                + "hand, delete it with `etcdctl del \(key)`; else put a backup in its place.")
    }
}

extension StoreError {
    /// `revision` nil: nothing is there.
    fileprivate static func wentBack(from seen: UInt64, to revision: UInt64?) -> StoreError {
        StoreError(
            .damaged,
            "the ledger in etcd went back from revision \(seen) to \(revision.map(String.init) ?? "nothing"): addresses "
                + "that were given since may be given again. If a snapshot was restored, or the ledger deleted, on purpose, "
                + "restart this server to accept that.")
    }
}

// The history is read as it is now: an entry is never changed.
extension EtcdReader {
    /// Newest first.
    func history(of subject: HistorySubject, before revision: UInt64, limit: Int) throws -> [HistoryEntry] {
        var (entries, before): ([HistoryEntry], UInt64) = ([], revision)
        while entries.count < limit {
            let count = min(limit - entries.count, Self.mostGets)
            let index = try client.range(
                from: keys.historyIndex(subject), to: keys.historyIndex(subject, before), limit: count,
                isNewestFirst: true, timeout: Self.timeout)
            let revisions = index.entries.compactMap { keys.historyRevision(of: $0.key) }
            guard let oldest = revisions.last else { break }
            let answer = try client.commit(
                EtcdTransaction(success: revisions.map { .get(keys.history($0)) }), timeout: Self.timeout)
            // One that is not there was trimmed meanwhile, and is not the last one for it.
            for found in answer.found.compactMap(\.self) {
                entries.append(try StoredRecord.entry(found.value, at: found.key))
            }
            if index.entries.count < count { break }
            before = oldest
        }
        return entries
    }

    /// Oldest first.
    func history(after revision: UInt64, limit: Int) throws -> [HistoryEntry] {
        try client.range(
            from: keys.history(revision) + "\0", to: EtcdKeys.end(of: keys.history), limit: limit,
            timeout: Self.timeout
        ).entries.map { try StoredRecord.entry($0.value, at: $0.key) }
    }
}
