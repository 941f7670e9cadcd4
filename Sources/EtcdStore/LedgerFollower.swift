import Foundation
import IPAMModel
import Ledger
import LedgerStore
import Logging
import RPC
import Synchronization

/// A ledger that is kept as another server changes it, by a watch: so that taking over costs no load.
final class LedgerFollower: Sendable {
    /// What is known of who leads.
    enum Leader: Hashable, Sendable {
        case unknown, nobody
        case somebody(String)
    }

    struct Warm: Sendable {
        var ledger: Ledger
        var known: EtcdTenure.Known
        /// Of a commit that is in the journal, and was not written yet when the ledger was read.
        var openJournal: [EtcdOperation]
    }

    fileprivate struct State {
        var warm: Warm?
        /// Changes since the last commit that was seen whole, by key: what the next leader writes out of a journal that the
        /// last one had begun to write out, comes twice.
        var changes: [String: Change] = [:]
        var leader = Leader.unknown
        var failure: StoreError?
        var isStopped = false
    }

    /// What keeps it from following.
    struct Trouble {
        private static let shortestPause = Duration.milliseconds(200)
        /// To ask a member that is away costs nothing, and the ledger is wanted as soon as etcd is back.
        private static let longestPauseOfMember = Duration.seconds(1)
        /// Somebody must mend it, and each try may read the whole ledger.
        private static let longestPause = Duration.seconds(30)

        private var reason: String?
        private var pause = shortestPause

        var isOver: Bool { reason == nil }

        /// Whether it has begun, or is another one, and how long to wait until the next try.
        mutating func met(_ error: any Error) -> (isNews: Bool, pause: Duration) {
            let status = error as? RPCStatus
            // Which member was asked, and how it is silent, is another each time.
            let reason = status?.isSilence == true ? "silence" : "\(error)"
            let longest = status?.isOfMember == true ? Self.longestPauseOfMember : Self.longestPause
            defer { (self.reason, pause) = (reason, pause * 2) }
            pause = min(pause, longest)
            return (reason != self.reason, pause)
        }
    }

    private let client: EtcdClient
    private let keys: EtcdKeys
    private let logger: Logger
    private let state = Mutex(State())
    private let task = Mutex<Task<Void, Never>?>(nil)
    private let seen: NewestRevision
    /// Called when the leader changes, the ledger has become whole, or it cannot be followed.
    private let onChange: @Sendable () -> Void

    init(
        _ client: EtcdClient, _ keys: EtcdKeys, seen: NewestRevision = NewestRevision(), logger: Logger,
        onChange: @escaping @Sendable () -> Void
    ) {
        self.client = client
        self.keys = keys
        self.seen = seen
        self.logger = logger
        self.onChange = onChange
    }

    var leader: Leader { state.withLock(\.leader) }
    var isWhole: Bool { state.withLock { $0.warm != nil } }
    /// Why the ledger cannot be followed at present.
    var failure: StoreError? { state.withLock(\.failure) }

    /// The ledger, once it has the commit that wrote `mark` last at `commit`; nil where it has not within `timeout`.
    /// Follows no longer then.
    func take(at commit: Int64, _ mark: EtcdMark, timeout: Duration) -> Warm? {
        // What the journal has is not in it.
        guard mark.journalParts == 0 else { return nil }
        let deadline = ContinuousClock.now + timeout
        while ContinuousClock.now < deadline {
            let warm = state.withLock { state -> Warm? in
                guard let warm = state.warm, warm.known.lastCommit == commit, warm.known.mark == mark else {
                    return nil
                }
                // Let go here, so that there is one owner and nothing is copied.
                state.warm = nil
                return warm
            }
            if let warm {
                stop()
                return warm
            }
            usleep(2_000)
        }
        return nil
    }

    func start() { task.withLock { $0 = $0 ?? Task { [self] in await run() } } }

    /// Lets go of what it has, which would grow old.
    func stop() {
        state.withLock { state in
            state.isStopped = true
            state.warm = nil
            state.changes = [:]
        }
        task.withLock { $0?.cancel() }
    }

    var isStopped: Bool { state.withLock(\.isStopped) }

    private func run() async {
        var trouble = Trouble()
        while !Task.isCancelled {
            do {
                let revision = try await load()
                onChange()
                try await follow(since: revision + 1, after: &trouble)
            } catch {
                if Task.isCancelled { return }
                let failure = StoreError(etcd: error)
                let (isNews, pause) = trouble.met(error)
                if isNews {
                    logger.warning("the ledger in etcd cannot be followed", metadata: ["error": "\(failure)"])
                }
                state.withLock { state in
                    state.failure = failure
                    state.leader = .unknown
                    // Half of a commit may be in it, and nobody may stand by with it. etcd's silence spoils nothing.
                    if !(error is RPCStatus) { state.warm = nil }
                }
                onChange()
                try? await Task.sleep(for: pause)
            }
        }
    }

    /// Reads the ledger as a whole. Returns etcd's revision.
    private func load() async throws -> Int64 {
        try await blocking { [self] in
            let image = try EtcdReader(client: client, keys: keys).read(after: seen.value)
            let warm = try Warm(image)
            seen.see(image.mark.revision)
            state.withLock { state in
                // Meanwhile, for reading takes long.
                if state.isStopped { return }
                state.warm = warm
                state.changes = [:]
                state.leader = image.leader.map(Leader.somebody) ?? .nobody
                state.failure = nil
            }
            return image.revision
        }
    }

    /// Whether etcd had at `revision`, up to which all is known, what is known: not where it was put back to a snapshot. It
    /// would say nothing to a watch of revisions that it comes to later.
    private func isKnown(at revision: Int64) async throws -> Bool {
        try await blocking { [self] in
            let found: EtcdEntry?
            do throws(RPCStatus) {
                found = try client.range(from: keys.revision, revision: revision, timeout: .seconds(2)).entries.first
            } catch {
                // Of the future, or compacted.
                if error.code == .outOfRange { return false }
                throw error
            }
            let mark = try found.map { try EtcdMark($0) } ?? EtcdMark(revision: 0)
            return state.withLock { state in
                // Nil: it is taken.
                guard let known = state.warm?.known else { return true }
                return known.lastCommit == found?.modRevision ?? 0 && known.mark == mark
            }
        }
    }

    /// Returns, or throws, when the ledger must be read anew. The trouble of before is over with the first word of a watch.
    private func follow(since first: Int64, after trouble: inout Trouble) async throws {
        var next = first
        var silence = Trouble()
        while !Task.isCancelled {
            do {
                guard try await isKnown(at: next - 1) else {
                    logger.notice("etcd has not what it had", metadata: ["revision": "\(next - 1)"])
                    return
                }
                silence = Trouble()
            } catch let status as RPCStatus {
                if Task.isCancelled { return }
                guard status.isSilence else { throw status }
                let (isNews, pause) = silence.met(status)
                if isNews { logger.notice("the watch cannot begin", metadata: ["status": "\(status)"]) }
                try? await Task.sleep(for: pause)
                continue
            }
            // From the last revision that is known already. etcd may be compacted to the one after it: older versions have
            // lost its deletions then, and do not end a watch that begins there (etcd issue 18089).
            let watch = try client.watch(from: keys.prefix, to: EtcdKeys.end(of: keys.prefix), since: next - 1)
            var isInPieces = false
            do {
                for try await batch in watch.responses {
                    if let reason = batch.cancelReason {
                        // A watch that is refused would be refused again.
                        guard batch.compactRevision > 0 else {
                            throw StoreError(.unwritable, "etcd does not let this server watch the ledger: \(reason)")
                        }
                        logger.notice(
                            "etcd ended the watch",
                            metadata: ["reason": "\(reason)", "compacted": "\(batch.compactRevision)"])
                        return
                    }
                    if !trouble.isOver { logger.notice("the ledger in etcd is followed again") }
                    trouble = Trouble()
                    let isNews = try state.withLock { state in try apply(batch, since: next, to: &state) }
                    isInPieces = batch.isFragment
                    if !isInPieces, let last = batch.events.last { next = last.revision + 1 }
                    if isNews { onChange() }
                }
            } catch let status as RPCStatus {
                if Task.isCancelled { return }
                logger.notice("the watch broke", metadata: ["status": "\(status)"])
                client.turnAway(from: watch.member)
                // What its pieces had would come again.
                if isInPieces { return }
                try? await Task.sleep(for: .milliseconds(100))
            }
        }
    }

    /// Whether another leads now. Events before revision `first` are known.
    private func apply(_ batch: EtcdWatchBatch, since first: Int64, to state: inout State) throws -> Bool {
        var isNews = false
        for event in batch.events where event.revision >= first {
            switch event {
            case .put(let entry) where entry.key == keys.leader:
                state.leader = .somebody(entry.text)
                isNews = true
            case .deleted(keys.leader, _):
                state.leader = .nobody
                isNews = true
            case .put(let entry) where entry.key == keys.revision: try commit(entry, &state)
            case .put(let entry): try state.put(entry, keys)
            case .deleted(let key, _): try state.delete(key, keys)
            }
        }
        return isNews
    }

    /// `revision` was written: everything before it belongs to whole commits, unless a journal is being written out.
    private func commit(_ entry: EtcdEntry, _ state: inout State) throws {
        let mark = try EtcdMark(entry)
        if mark.journalParts == 0 {
            let changes = Array(state.changes.values)
            state.changes = [:]
            try state.warm?.follow(changes, revision: mark.revision)
        }
        state.warm?.known.mark = mark
        state.warm?.known.lastCommit = entry.modRevision
        seen.see(mark.revision)
    }
}

extension RPCStatus {
    /// Whether nobody answered.
    fileprivate var isSilence: Bool { code == .unavailable || code == .deadlineExceeded }
}

/// The newest revision of the ledger that this process has seen in etcd.
final class NewestRevision: Sendable {
    private let newest = Atomic<UInt64>(0)

    var value: UInt64 { newest.load(ordering: .relaxed) }

    func see(_ revision: UInt64) { newest.max(revision, ordering: .relaxed) }
}

extension LedgerFollower.State {
    fileprivate mutating func put(_ entry: EtcdEntry, _ keys: EtcdKeys) throws {
        if entry.key.hasPrefix(keys.bindings) {
            changes[entry.key] = .putBinding(try StoredRecord.binding(entry.value, at: entry.key))
        } else if entry.key.hasPrefix(keys.freed) {
            changes[entry.key] = .putFreed(try StoredRecord.freed(entry.value, at: entry.key))
        } else if entry.key.hasPrefix(keys.pools) {
            changes[entry.key] = .putPool(try StoredRecord.pool(entry.value, at: entry.key))
        }
    }

    fileprivate mutating func delete(_ key: String, _ keys: EtcdKeys) throws {
        if let owner = keys.owner(of: key) {
            // One that is not there was deleted before it was ever seen: made and freed in one commit.
            changes[key] = (warm?.ledger.binding(of: owner)).map(Change.removeBinding)
        } else if let address = keys.freedAddress(of: key) {
            changes[key] = .removeFreed(address)
        } else if let name = keys.poolName(of: key) {
            changes[key] = .removePool(name: name)
        }
    }
}

extension LedgerFollower.Warm {
    init(_ image: EtcdReader.Image) throws {
        ledger = try Ledger(image.snapshot)
        openJournal = image.openJournal
        known = EtcdTenure.Known(
            mark: image.mark, lastCommit: image.lastCommit, held: HeldAddresses(image.snapshot.bindings))
    }

    fileprivate mutating func follow(_ changes: [Change], revision: UInt64) throws {
        try ledger.follow(changes, revision: revision)
        for case .removeBinding(let binding) in changes { known.held[binding.id] = [] }
        for case .putBinding(let binding) in changes { known.held[binding.id] = binding.assignments.map(\.address) }
    }
}
