import Addresses
import Foundation
import IPAMAPI
import IPAMModel
import Ledger
import LedgerStore
import Logging
import RPC
import ServiceLifecycle
import Synchronization
import Testing

@testable import IPAMService

/// What several servers share, as one of them has it: it leads when a test says so.
private final class ScriptedLedger: SharedLedger {
    let roles: AsyncStream<Role>
    private let next: AsyncStream<Role>.Continuation
    /// What the leader's changes have come to, as this server hears of them.
    let revision = Atomic<UInt64>(0)
    var newestRevision: UInt64 { revision.load(ordering: .relaxed) }

    init() { (roles, next) = AsyncStream.makeStream() }

    func become(_ role: Role) { next.yield(role) }
    func start(advertising address: String) {}
    func close() { next.finish() }
}

/// A store that says of each commit whether the server called itself ready by then.
private final class WatchedStore: LedgerStore {
    private let readiness: Readiness
    private let commits = Mutex<[Bool]>([])
    var wasReady: [Bool] { commits.withLock { $0 } }
    let fails = Atomic(false)
    private let loading: @Sendable () -> Void

    init(_ readiness: Readiness, loading: @escaping @Sendable () -> Void = {}) {
        self.readiness = readiness
        self.loading = loading
    }

    func load() throws(StoreError) -> Snapshot {
        loading()
        return Snapshot()
    }
    func commit(_ changes: [Change], revision: UInt64) throws(StoreError) {
        if fails.load(ordering: .relaxed) { throw StoreError(.failed, "the disk is gone") }
        let isReady = readiness.reason == nil
        commits.withLock { $0.append(isReady) }
    }
    func history(
        of subject: HistorySubject, before revision: UInt64, limit: Int
    ) throws(StoreError) -> [HistoryEntry] { [] }
    func history(after revision: UInt64, limit: Int) throws(StoreError) -> [HistoryEntry] { [] }
    var batching: Batching { Batching() }
    func close() {}
}

/// A store whose lease ends right after it was asked about for the last time of `checks`.
private final class EndingStore: LedgerStore {
    private let left: Mutex<Int>
    private let end = Mutex<(@Sendable () -> Void)?>(nil)

    init(checks: Int) { left = Mutex(checks) }

    func onEnd(_ end: @escaping @Sendable () -> Void) { self.end.withLock { $0 = end } }

    func load() throws(StoreError) -> Snapshot { Snapshot() }
    func commit(_ changes: [Change], revision: UInt64) throws(StoreError) {}
    func history(
        of subject: HistorySubject, before revision: UInt64, limit: Int
    ) throws(StoreError) -> [HistoryEntry] { [] }
    func history(after revision: UInt64, limit: Int) throws(StoreError) -> [HistoryEntry] { [] }
    func checkIsCurrent() throws(StoreError) {
        let now = left.withLock { left in
            left -= 1
            return left
        }
        if now < 0 { throw .notLeader(nil) }
        if now == 0 { end.withLock { $0 }?() }
    }
    var batching: Batching { Batching() }
    func close() {}
}

@Suite(.timeLimit(.minutes(1))) struct LeadingServerTests {
    /// The next term's ledger knows nothing of the last one's page tokens and, in a server that follows, of nothing at all.
    @Test(arguments: [1, 2, 3, 4], [false, true])
    func `a read that its term ends under says NOT_LEADER, also where the next has begun`(
        checks: Int, leadsAgain: Bool
    ) throws {
        let now = Timestamp(seconds: 1_800_000_000)
        var ledger = Ledger()
        let prefix = PoolPrefix(prefix: try #require(IPPrefix("10.16.0.0/24")))
        _ = try ledger.apply(.createPool(Pool(name: "vm-net", prefixes: [prefix], isDefault: true)), at: now)
        let owners = (0..<20).map { number in
            Owner(kind: .virtualMachine, namespace: "default", name: "vm\(number)", uid: "u", network: "n/eth0")
        }
        for owner in owners { _ = try ledger.apply(.allocate(AllocateRequest(owner: owner)), at: now) }
        ledger.commit()
        let filled = ledger
        func read(_ body: (Writer) throws -> Void) {
            let store = EndingStore(checks: checks)
            let writer = Writer(
                filled, store: store, clock: LedgerClock(wallClock: now, notBefore: now),
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            store.onEnd { [unowned writer] in
                var next = Ledger()
                next.begin(term: 7)
                let followers = FollowersStore(leader: "10.0.0.7:7440")
                writer.serve(LedgerInHand(next), from: leadsAgain ? EndingStore(checks: .max) : followers)
            }
            let refusal = #expect(throws: IPAMError.self) { try body(writer) }
            #expect(refusal?.reason == .notLeader, "\(refusal.debugDescription)")
        }
        let listing = BindingListing(filter: BindingFilter(), pageSize: 20, pageToken: nil)
        read { _ = try $0.page(listing, lookingAt: 2) }
        if checks > 1 { return }
        read { _ = try $0.binding(.owner(owners[0])) }
        read { _ = try $0.pool(named: "vm-net") }
        read { _ = try $0.pools() }
        read { _ = try $0.history(HistoryListing(subject: .object(namespace: "default", name: "vm0"), pageSize: 10)) }
    }

    @Test func `a server that comes to lead says that it serves once its pools are there, each time`() async throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "pools-\(UUID()).yaml")
        try Data("[{name: vm-net, is_default: true, prefixes: [{prefix: 10.16.0.0/24}]}]".utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        try await withServer(pools: file.path) { server, ledger, readiness, _ in
            // A second term finds what other leaders have left: here nothing.
            for _ in 0..<2 {
                let store = WatchedStore(readiness)
                ledger.become(.leading(LedgerInHand(Ledger()), store))
                try await until { readiness.reason == nil }
                #expect(store.wasReady == [false])
                #expect(server.writer.read { ledger, _ in ledger.pool(named: "vm-net") != nil })
                ledger.become(.following(leader: nil))
                try await until { readiness.reason != nil }
            }
        }
    }

    /// The kubelet brings a changed file to each server at its own time, and which leads meanwhile nobody knows.
    @Test func `one that comes to lead makes pools that are missing, and puts back none that is newer than its file`()
        async throws
    {
        let file = FileManager.default.temporaryDirectory.appending(path: "pools-\(UUID()).yaml")
        defer { try? FileManager.default.removeItem(at: file) }
        func write(quota: Int) throws {
            try Data(
                """
                - {name: a, namespace_quota: \(quota), prefixes: [{prefix: 10.1.0.0/24}]}
                - {name: missing, prefixes: [{prefix: 10.2.0.0/24}]}
                """.utf8
            ).write(to: file)
        }
        try write(quota: 1)
        try await withServer(pools: file.path) { server, scripted, readiness, _ in
            let pools = try #require(server.pools)
            var ledger = Ledger()
            /// As another leader does it.
            func set(quota: UInt32) throws {
                var pool = Pool(name: "a", prefixes: [PoolPrefix(prefix: try #require(IPPrefix("10.1.0.0/24")))])
                pool.namespaceQuota = quota
                let now = Timestamp(seconds: 1_800_000_000)
                _ = try ledger.apply(ledger.pool(named: "a") == nil ? .createPool(pool) : .updatePool(pool), at: now)
                ledger.commit()
                scripted.revision.store(ledger.committedRevision, ordering: .relaxed)
            }
            /// What it makes of the ledger when it comes to lead, and then leads no longer.
            func lead() async throws -> UInt32? {
                scripted.become(.leading(LedgerInHand(ledger), WatchedStore(readiness)))
                try await until { readiness.reason == nil }
                let (quota, hasMissing) = server.writer.read { ledger, _ in
                    (ledger.pool(named: "a")?.namespaceQuota, ledger.pool(named: "missing") != nil)
                }
                #expect(hasMissing)
                scripted.become(.following(leader: nil))
                try await until { server.writer.read { ledger, _ in ledger.committedRevision } == 0 }
                return quota
            }
            try set(quota: 9)
            #expect(try await lead() == 1, "one that has just started cannot know better than by its file")

            await pools.applyWhatChanged()
            #expect(try await lead() == 1, "nobody has changed it since")
            try set(quota: 2)
            #expect(try await lead() == 2, "another has, by a file that this server does not have yet")
            await pools.applyWhatChanged()
            #expect(try await lead() == 2)
            try write(quota: 3)
            await pools.applyWhatChanged()
            #expect(try await lead() == 3, "the file has changed while it followed")
            try set(quota: 4)
            #expect(try await lead() == 4)

            // One that leads applies its file whenever that changes.
            scripted.become(.leading(LedgerInHand(ledger), WatchedStore(readiness)))
            try await until { readiness.reason == nil }
            func quota() -> UInt32? { server.writer.read { ledger, _ in ledger.pool(named: "a")?.namespaceQuota } }
            try write(quota: 5)
            await pools.applyWhatChanged()
            #expect(quota() == 5)
        }
    }

    @Test func `one that follows refuses no file of pools`() async throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "pools-\(UUID()).yaml")
        try Data("[{name: vm-net, prefixes: [{prefix: 10.16.0.1/24}]}]".utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        try await withServer(pools: file.path) { server, ledger, readiness, _ in
            func isRefused(_ value: Int) -> Bool {
                server.exposition(version: "test").contains("\nholdfast_pools_file_refused \(value)\n")
            }
            ledger.become(.leading(LedgerInHand(Ledger()), WatchedStore(readiness)))
            try await until { isRefused(1) }
            ledger.become(.following(leader: nil))
            try await until { isRefused(0) }
        }
    }

    @Test func `one that follows is ready but serves nobody, names the leader, and has no watches`() async throws {
        try await withServer { server, ledger, readiness, client in
            func isLeading() -> String { server.exposition(version: "test") }
            ledger.become(.leading(LedgerInHand(Ledger()), WatchedStore(readiness)))
            try await until { readiness.reason == nil }
            #expect(server.rpc.health.services.allSatisfy { server.rpc.health.status(of: $0) == .serving })
            #expect(isLeading().contains("\nholdfast_leading 1\n") && !isLeading().contains("holdfast_leader_info{"))
            var events = client.watch(BindingFilter()).makeAsyncIterator()
            #expect(try await events.next()?.kind == .synced)

            ledger.become(.following(leader: "10.0.0.7:7440"))
            try await until { isLeading().contains("\nholdfast_leading 0\n") }
            #expect(isLeading().contains("holdfast_leader_info{leader=\"10.0.0.7:7440\"} 1"))
            #expect(readiness.reason == nil, "it is warm")
            #expect(server.rpc.health.services.allSatisfy { server.rpc.health.status(of: $0) == .notServing })
            let end = await #expect(throws: IPAMError.self) { while try await events.next() != nil {} }
            #expect(end?.code == .unavailable && end?.reason == .notLeader)

            ledger.become(.following(leader: nil))
            try await until { readiness.reason == "no server leads yet" }
            ledger.become(.failing("etcd has another ledger"))
            try await until { readiness.reason == "etcd has another ledger" }
        }
    }

    @Test func `one that follows says who leads, also where the ledger awaits a backup`() async throws {
        try await withServer(awaitsRestore: true) { server, ledger, readiness, client in
            let owner = Owner(kind: .virtualMachine, namespace: "default", name: "vm", uid: "u", network: "vm-net/eth0")
            func refusal() async -> IPAMError.Reason? {
                await #expect(throws: IPAMError.self) {
                    try await client.allocate(AllocateRequest(owner: owner), timeout: .seconds(5))
                }?.reason
            }
            ledger.become(.leading(LedgerInHand(Ledger()), WatchedStore(readiness)))
            try await until { readiness.reason == nil }
            #expect(await refusal() == .awaitsRestore)
            ledger.become(.following(leader: nil))
            try await until { readiness.reason != nil }
            #expect(await refusal() == .notLeader)
        }
    }

    @Test func `one whose store fails is not ready until it takes changes again`() async throws {
        try await withServer { server, ledger, readiness, _ in
            let store = WatchedStore(readiness)
            ledger.become(.leading(LedgerInHand(Ledger()), store))
            try await until { readiness.reason == nil }
            store.fails.store(true, ordering: .relaxed)
            let pool = Pool(name: "vm-net", prefixes: [PoolPrefix(prefix: try #require(IPPrefix("10.16.0.0/24")))])
            await #expect(throws: IPAMError.self) { _ = try await server.writer.submit(.createPool(pool)) }
            try await until { readiness.reason?.contains("the disk is gone") == true }
            #expect(server.rpc.health.status(of: "") == .notServing)
            store.fails.store(false, ordering: .relaxed)
            try await until { readiness.reason == nil && server.rpc.health.status(of: "") == .serving }
        }
    }

    @Test func `a server's time is the wall clock's, however long its store took to load`() async throws {
        let start = Timestamp(seconds: 1_800_000_000)
        let (clock, later) = (LedgerClock(wallClock: start), start.advanced(by: Delay(nanoseconds: 50_000_000)))
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let (addresses, listening) = AsyncStream.makeStream(of: [String].self)
        let readiness = Readiness()
        let server = try IPAMServer(
            store: WatchedStore(readiness) { while clock.now() < later {} },
            rpc: .init(listeners: [.init("127.0.0.1:0")]), clock: clock, readiness: readiness, logger: logger,
            onListening: { listening.yield($0) })
        let now = server.writer.read { _, now in now }
        #expect(later <= now && now <= clock.now())
        let group = ServiceGroup(services: [server], logger: logger)
        let run = Task { try await group.run() }
        _ = await addresses.first { _ in true }
        await group.triggerGracefulShutdown()
        try await run.value
    }

    /// The suite has a time limit.
    private func until(_ holds: () -> Bool) async throws {
        while !holds() {
            try Task.checkCancellation()
            await Task.yield()
        }
    }

    private func withServer(
        pools: String? = nil, awaitsRestore: Bool = false,
        _ body: (IPAMServer, ScriptedLedger, Readiness, IPAMClient) async throws -> Void
    ) async throws {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let (readiness, ledger) = (Readiness(), ScriptedLedger())
        let (addresses, listening) = AsyncStream.makeStream(of: [String].self)
        var server = try IPAMServer(
            shared: ledger, advertising: nil, rpc: .init(listeners: [.init("127.0.0.1:0")]),
            clock: LedgerClock(wallClock: Timestamp(seconds: 1_800_000_000)), readiness: readiness, logger: logger,
            awaitsRestore: awaitsRestore, onListening: { listening.yield($0) })
        if let pools { server.pools = try await PoolsFile(path: pools, server: server, logger: logger) }
        let group = ServiceGroup(services: [server], logger: logger)
        let run = Task { try await group.run() }
        let address = try #require(await addresses.first { _ in true }?.first)
        let client = try IPAMClient(server: address)
        do {
            try await body(server, ledger, readiness, client)
        } catch {
            Issue.record(error)
        }
        await client.close()
        await group.triggerGracefulShutdown()
        try await run.value
    }
}
