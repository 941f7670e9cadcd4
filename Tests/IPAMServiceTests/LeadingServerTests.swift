import Foundation
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

    init(_ readiness: Readiness) { self.readiness = readiness }

    func load() throws(StoreError) -> Snapshot { Snapshot() }
    func commit(_ changes: [Change], revision: UInt64) throws(StoreError) {
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

@Suite(.timeLimit(.minutes(1))) struct LeadingServerTests {
    @Test func `a server that comes to lead says that it serves once its pools are there, each time`() async throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "pools-\(UUID()).yaml")
        try Data("[{name: vm-net, is_default: true, prefixes: [{prefix: 10.16.0.0/24}]}]".utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let (readiness, ledger) = (Readiness(), ScriptedLedger())
        var server = try IPAMServer(
            shared: ledger, advertising: nil, rpc: .init(listeners: [.init("127.0.0.1:0")]),
            wallClock: Timestamp(seconds: 1_800_000_000), readiness: readiness, logger: logger, onListening: { _ in })
        server.pools = try await PoolsFile(path: file.path, writer: server.writer, logger: logger)
        let group = ServiceGroup(services: [server], logger: logger)
        let run = Task { try await group.run() }
        // A second term finds what other leaders have left: here nothing.
        for _ in 0..<2 {
            let store = WatchedStore(readiness)
            ledger.become(.leading(LedgerInHand(Ledger()), store))
            while readiness.reason != nil, !Task.isCancelled { await Task.yield() }
            #expect(store.wasReady == [false])
            #expect(server.writer.read { ledger, _ in ledger.pool(named: "vm-net") != nil })
            ledger.become(.following(leader: nil))
            while readiness.reason == nil, !Task.isCancelled { await Task.yield() }
        }
        await group.triggerGracefulShutdown()
        try await run.value
    }
}
