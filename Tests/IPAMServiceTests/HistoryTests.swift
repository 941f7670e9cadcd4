import Addresses
import Foundation
import IPAMAPI
import IPAMModel
import Ledger
import LedgerStore
import Logging
import RPC
import StoreConformance
import Synchronization
import Testing

@testable import IPAMService

private let timeout = Duration.seconds(10)

private func vm(_ name: String) -> Owner {
    Owner(kind: .virtualMachine, namespace: "default", name: name, uid: "uid-\(name)", network: "vm-net/eth0")
}

private func pod(_ name: String, node: String = "node-a") -> Attachment {
    Attachment(node: node, pod: name, podUID: "uid-\(name)", containerID: "c-\(name)")
}

/// Counts what of the whole history is read.
private final class CountedStore: StoreInFront {
    let store: any LedgerStore
    let readEntries = Atomic(0)

    init(_ store: SQLiteStore) { self.store = store }

    func history(after revision: UInt64, limit: Int) throws(StoreError) -> [HistoryEntry] {
        let entries = try store.history(after: revision, limit: limit)
        readEntries.add(entries.count, ordering: .relaxed)
        return entries
    }
}

/// The real server, over a socket.
@Suite struct `The history as it is asked for` {
    private static let pools = """
        - {name: vm-net, is_default: true, reuse_delay: 0s, prefixes: [{prefix: 10.16.0.0/24, gateway: 10.16.0.1}]}
        """

    private func withServer(_ body: (ServerProcess, IPAMClient) async throws -> Void) async throws {
        let server = try ServerProcess(pools: Self.pools)
        server.logLevel = "info"
        try server.start()
        let client = try IPAMClient(server: server.socket)
        do {
            try await body(server, client)
        } catch { Issue.record(error) }
        await client.close()
        server.kill(SIGTERM)
    }

    private func history(_ client: IPAMClient, _ listing: HistoryListing) async throws -> [HistoryEntry] {
        try await client.history(listing, timeout: timeout).entries
    }

    @Test func `who had an address at a time, also after a restart`() async throws {
        try await withServer { server, client in
            let address = try #require(IPAddress("10.16.0.15"))
            _ = try await client.allocate(
                AllocateRequest(owner: vm("one"), attachment: pod("one-1"), addresses: [address]), timeout: timeout)
            _ = try await client.release(
                .attachment(pod("one-1").id, owner: vm("one"), network: "vm-net/eth0"), timeout: timeout)
            _ = try await client.release(.binding(vm("one")), timeout: timeout)
            _ = try await client.allocate(
                AllocateRequest(owner: vm("two"), attachment: pod("two-1", node: "node-b"), addresses: [address]),
                timeout: timeout)
            server.kill(SIGKILL)
            try server.start()

            let all = try await history(client, HistoryListing(subject: .address(address)))
            #expect(all.map(\.owner.name) == ["two", "one", "one"])
            #expect(all.map(\.end) == [nil, .freed, .detached])
            #expect(all.map(\.node) == ["node-b", "", "node-a"])
            #expect(all[0].until == nil && all[2].until == all[1].since)
            #expect(try #require(all[1].until) <= all[0].since)
            // In each of them, at its beginning and just before its end; and between two owners, nobody.
            for entry in all {
                for moment in [entry.since] + (entry.until.map { [Timestamp(nanoseconds: $0.nanoseconds - 1)] } ?? []) {
                    let then = try await history(
                        client, HistoryListing(subject: .address(address), from: moment, through: moment))
                    #expect(then == [entry])
                }
            }
            let gap = try #require(all[1].until)
            if gap < all[0].since {
                #expect(
                    try await history(client, HistoryListing(subject: .address(address), from: gap, through: gap)) == []
                )
            }
            let ofOne = try await history(client, HistoryListing(subject: .object(namespace: "default", name: "one")))
            #expect(ofOne == Array(all[1...]))

            var pages: [HistoryEntry] = []
            var listing = HistoryListing(subject: .address(address), pageSize: 1)
            repeat {
                let page = try await client.history(listing, timeout: timeout)
                pages += page.entries
                listing.before = page.before
            } while listing.before != nil
            #expect(pages == all)
        }
    }

    @Test func `a change is told in the audit log, with who, what and for whom`() async throws {
        try await withServer { server, client in
            _ = try await client.allocate(
                AllocateRequest(owner: vm("one"), attachment: pod("one-1")), timeout: timeout)
            // Nothing changes.
            _ = try await client.allocate(
                AllocateRequest(owner: vm("one"), attachment: pod("one-1")), timeout: timeout)
            let target = pod("one-2", node: "node-b")
            for phase in [TransferPhase.prepare(target: target), .commit(targetOwner: nil)] {
                _ = try await client.transfer(
                    TransferRequest(owner: vm("one"), migrationUID: "m-1", phase: phase), timeout: timeout)
            }
            _ = try await client.release(
                .attachment(target.id, owner: vm("one"), network: "vm-net/eth0"), timeout: timeout)
            _ = try await client.release(.binding(vm("one")), timeout: timeout)
            // All that was committed is written before the server ends.
            server.kill(SIGTERM)
            let lines = server.logText.split(separator: "\n").filter { $0.contains(" audit") }
            for (line, words) in zip(
                lines,
                [
                    ["pool created", "pool=vm-net", "caller=holdfast-server"],
                    [
                        "allocated", "addresses=10.16.0.2", "node=node-a", "pod=one-1",
                        "owner=vm default/one (vm-net/eth0)",
                        "caller=anyone",
                    ],
                    ["migration prepared", "migration=m-1", "target=node-b/one-2", "pod=one-1"],
                    ["migration committed", "migration=m-1", "node=node-b", "pod=one-2"],
                    ["detached", "node=node-b", "pod=one-2"], ["freed", "addresses=10.16.0.2"],
                ])
            {
                for word in words { #expect(line.contains(word), "\(line)") }
            }
            #expect(lines.count == 6, "\(server.logText)")
            try server.start()
        }
    }

    @Test func `no backup is restored where another ledger's history would be mixed with it`() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "holdfast-restore-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let store = try SQLiteStore(path: folder.appending(path: "ledger.sqlite").path)
        defer { store.close() }
        let writer = Writer(
            Ledger(), store: store,
            clock: LedgerClock(wallClock: Timestamp(seconds: 1_800_000_000), notBefore: Timestamp(seconds: 0)),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        _ = try writer.restore(Snapshot(), by: .anyone)
        let prefix = PoolPrefix(prefix: try #require(IPPrefix("10.1.0.0/16")))
        _ = try await writer.submit(.createPool(Pool(name: "vm-net", prefixes: [prefix], reuseDelay: .seconds(0))))
        _ = try await writer.submit(.allocate(AllocateRequest(owner: vm("a"), pool: "vm-net")))
        _ = try await writer.submit(.release(.binding(vm("a"))))
        _ = try await writer.submit(.deletePool(name: "vm-net"))
        #expect(writer.read { ledger, _ in ledger.hasNoBindings })
        let refusal = #expect(throws: IPAMError.self) { try writer.restore(Snapshot(), by: .anyone) }
        #expect(refusal?.reason == .ledgerNotEmpty)
    }

    @Test func `what is older than its pool says is let go, and nothing else`() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "holdfast-keeper-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let store = CountedStore(try SQLiteStore(path: folder.appending(path: "ledger.sqlite").path))
        defer { store.close() }
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let start = Timestamp(seconds: 1_800_000_000)
        func writer(daysLater days: Int64) throws -> Writer {
            let now = start.advanced(by: .seconds(days * 86_400))
            return Writer(
                try Ledger(try store.load()), store: store, clock: LedgerClock(wallClock: now, notBefore: now),
                logger: logger)
        }
        func fill(_ writer: Writer, _ name: String, count: Int) async throws {
            for number in 0..<count {
                let owner = vm("\(name)-\(number)")
                _ = try await writer.submit(.allocate(AllocateRequest(owner: owner, pool: name)))
                _ = try await writer.submit(.release(.binding(owner)))
            }
        }
        let first = try writer(daysLater: 0)
        for (name, prefix, days) in [("long", "10.1.0.0/16", 30), ("short", "10.2.0.0/16", 2)]
            as [(String, String, Int64)]
        {
            _ = try await first.submit(
                .createPool(
                    Pool(
                        name: name, prefixes: [PoolPrefix(prefix: try #require(IPPrefix(prefix)))],
                        historyRetention: .seconds(days * 86_400))))
        }
        // More than one step of the keeper's, and the long ones in its way.
        try await fill(first, "long", count: 300)
        try await fill(first, "short", count: 300)
        func trim(_ writer: Writer) async throws -> Int {
            var keeper = HistoryKeeper(writer: writer, logger: logger)
            return try await keeper.trim()
        }
        #expect(try await trim(first) == 0)

        let later = try writer(daysLater: 3)
        try await fill(later, "short", count: 5)
        var keeper = HistoryKeeper(writer: later, logger: logger)
        #expect(try await keeper.trim() == 300)
        let kept = try store.history(after: 0, limit: 10_000)
        #expect(kept.count == 305 && kept.filter { $0.pool == "short" }.count == 5)
        // What was looked at is not again, but for what is younger.
        store.readEntries.store(0, ordering: .relaxed)
        #expect(try await keeper.trim() == 0)
        let some = store.readEntries.load(ordering: .relaxed)
        #expect(some <= 3 * HistoryKeeper.batch && some < 3 * 305, "\(some)")
        // Unless its pool has another retention now.
        var long = try #require(later.read { ledger, _ in ledger.pool(named: "long") })
        long.historyRetention = .seconds(86_400)
        _ = try await later.submit(.updatePool(long))
        #expect(try await keeper.trim() == 300)
        #expect(try await trim(try writer(daysLater: 31)) == 5)
        #expect(try store.loadWithHistory().history.isEmpty)

        // Another ledger has another history.
        try await fill(later, "long", count: 3)
        try await fill(later, "short", count: 1)
        let much = try writer(daysLater: 40)
        var other = HistoryKeeper(writer: much, logger: logger)
        #expect(try await other.trim() == 4)
        // What changes now says that it is now.
        try await fill(much, "long", count: 1)
        let entry = try #require(kept.first { $0.pool == "short" })
        try store.commit([.putHistory(entry)], revision: much.read { ledger, _ in ledger.committedRevision })
        #expect(try await other.trim() == 0)
        much.serve(LedgerInHand(try Ledger(try store.load())), from: store)
        #expect(try await other.trim() == 1)
    }

    @Test func `a clock that was ahead when the server started lets nothing go that is not old`() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "holdfast-ahead-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let store = try SQLiteStore(path: folder.appending(path: "ledger.sqlite").path)
        defer { store.close() }
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        /// A process that starts then, by its wall clock.
        func writer(daysLater days: Int64) throws -> Writer {
            let ledger = try Ledger(try store.load())
            let wallClock = Timestamp(seconds: 1_800_000_000 + days * 86_400)
            return Writer(
                ledger, store: store, clock: LedgerClock(wallClock: wallClock).carriedOn(notBefore: ledger.newestTime),
                logger: logger)
        }
        func fill(_ writer: Writer, _ name: String) async throws {
            _ = try await writer.submit(.allocate(AllocateRequest(owner: vm(name), pool: "vm-net")))
            _ = try await writer.submit(.release(.binding(vm(name))))
        }
        func trim(_ writer: Writer) async throws -> Int {
            var keeper = HistoryKeeper(writer: writer, logger: logger)
            return try await keeper.trim()
        }
        let first = try writer(daysLater: 0)
        _ = try await first.submit(
            .createPool(
                Pool(
                    name: "vm-net", prefixes: [PoolPrefix(prefix: try #require(IPPrefix("10.1.0.0/16")))],
                    historyRetention: .seconds(30 * 86_400))))
        try await fill(first, "before")

        let ahead = try writer(daysLater: 400)
        #expect(try await trim(ahead) == 0)
        // Neither what it writes nor another term of its makes what was before older.
        try await fill(ahead, "meanwhile")
        #expect(try await trim(ahead) == 0)
        ahead.serve(LedgerInHand(try Ledger(try store.load())), from: store)
        #expect(try await trim(ahead) == 0)
        // Once the clock is right it counts, whatever the ledger's newest time.
        #expect(try await trim(try writer(daysLater: 29)) == 0)
        #expect(try await trim(try writer(daysLater: 31)) == 1)
        #expect(try store.history(after: 0, limit: 10).map(\.owner.name) == ["meanwhile"])
    }
}
