import Foundation
import IPAMModel
import Ledger
import LedgerStore
import Logging
import RPC
import StoreConformance
import Synchronization
import TestLog
import Testing

@testable import EtcdStore

@Suite(.serialized, .enabled(if: EtcdCluster.isInstalled)) struct `A follower` {
    private let keys = EtcdKeys(prefix: "/holdfast/test/")

    @Test func `that was away through a compaction hands over nothing old, and reads the ledger anew`() async throws {
        let cluster = try EtcdCluster()
        let wire = try Wire(to: cluster.members[0].client)
        defer { wire.close() }
        let (old, new) = (Example.binding(owner: 1, address: 7), Example.binding(owner: 2, address: 8))
        let tenure = try EtcdTenure.open(cluster.configuration(), as: "test")
        try tenure.commit([.putPool(Example.pool), .putBinding(old)], revision: 1)
        var configuration = cluster.configuration()
        configuration.endpoints = [wire.endpoint]
        let client = try EtcdClient(configuration)
        let follower = LedgerFollower(client, keys, logger: quiet) {}
        follower.start()
        #expect(eventually { follower.isWhole })

        wire.cut()
        try tenure.commit([.removeBinding(old), .putBinding(new)], revision: 2)
        let reader = EtcdReader(client: try EtcdClient(cluster.configuration()), keys: keys)
        let image = try reader.read()
        #expect(follower.take(at: image.lastCommit, image.mark, timeout: .milliseconds(100)) == nil)
        try cluster.ctl("compact", String(image.revision))
        wire.mend()
        let warm = try #require(follower.take(at: image.lastCommit, image.mark, timeout: .seconds(60)))
        #expect(warm.ledger.snapshot.bindings == [new])
        #expect(warm.known.held[old.id] == [] && warm.known.held[new.id] == new.assignments.map(\.address))
        await client.close()
        await reader.client.close()
        tenure.close()
    }

    @Test func `says once that it cannot follow, and once that it does again`() async throws {
        let cluster = try EtcdCluster()
        let wire = try Wire(to: cluster.members[0].client)
        defer { wire.close() }
        let tenure = try EtcdTenure.open(cluster.configuration(), as: "test")
        var configuration = cluster.configuration()
        configuration.endpoints = [wire.endpoint]
        let client = try EtcdClient(configuration)
        let log = RecordedLog(.notice)
        let failures = Atomic(0)
        let follower = LedgerFollower(client, keys, logger: log.logger) { failures.add(1, ordering: .relaxed) }
        wire.cut()
        follower.start()
        #expect(eventually { failures.load(ordering: .relaxed) >= 4 })
        // However it is silent.
        let told = log.lines.filter { $0.contains("cannot be followed") }
        #expect(told.count == 1, "\(told)")
        wire.mend()
        #expect(eventually { follower.isWhole && log.lines.contains("the ledger in etcd is followed again") })
        follower.stop()
        await client.close()
        tenure.close()
    }

    @Test func `asks ever more rarely for what somebody must mend, and each second whoever is silent`() {
        var trouble = LedgerFollower.Trouble()
        let met = (0..<12).map { _ in trouble.met(StoreError(.damaged, "nonsense")) }
        #expect(met.map(\.isNews) == [true] + Array(repeating: false, count: 11))
        #expect(met.prefix(3).map(\.pause) == [.milliseconds(200), .milliseconds(400), .milliseconds(800)])
        #expect(met.last?.pause == .seconds(30))
        let silence = [RPCStatus(.unavailable, "no route to a"), RPCStatus(.deadlineExceeded, "b hangs")]
        let silent = silence.map { trouble.met($0) }
        #expect(silent.map(\.isNews) == [true, false] && silent.allSatisfy { $0.pause == .seconds(1) })
        #expect(trouble.met(RPCStatus(.permissionDenied, "not yours")).isNews)
    }

    /// A leader dies while it writes a journal out, and the next begins with the journal's first part: the third hears of
    /// some facts twice.
    @Test func `hears of a commit twice where two leaders write it out, and follows it`() async throws {
        let cluster = try EtcdCluster()
        let tenure = try EtcdTenure.open(cluster.configuration(), as: "test")
        let old = Example.binding(owner: 1, address: 7)
        try tenure.commit([.putPool(Example.pool), .putBinding(old)], revision: 1)
        let news = Mutex(0)
        let follower = LedgerFollower(tenure.client, keys, logger: quiet) { news.withLock { $0 += 1 } }
        follower.start()
        #expect(eventually { follower.isWhole })

        let changes: [Change] =
            [.removeBinding(old)] + (2..<200).map { .putBinding(Example.binding(owner: $0, address: $0)) }
        let plan = try CommitPlan(changes, keys: keys, before: HeldAddresses([old])).operations
        func write(_ operations: [EtcdOperation]) throws -> Int64 {
            try tenure.client.commit(EtcdTransaction(success: operations), timeout: .seconds(20)).revision
        }
        _ = try write([.put(keys.journal(1), EtcdJournal.bytes(of: plan))])
        let fact = EtcdMark(revision: 2, journalParts: 1)
        _ = try write([.put(keys.revision, fact.bytes)])
        _ = try write(Array(plan[..<90]) + [.put(keys.revision, EtcdMark(revision: 2, journalParts: 1, step: 1).bytes)])
        _ = try write(plan + [.put(keys.revision, fact.bytes)])
        let last = try write([.delete(keys.journal(1)), .put(keys.revision, EtcdMark(revision: 2).bytes)])
        let warm = follower.take(at: last, EtcdMark(revision: 2), timeout: .seconds(30))
        #expect(warm?.ledger.snapshot.bindings.count == 198)
        #expect(news.withLock { $0 } == 1, "it was never read anew")
        tenure.close()
    }

    /// A leader that has read the ledger itself would keep the follower's too.
    @Test func `has nothing once it is stopped, also where it was reading, and never a journal`() async throws {
        let cluster = try EtcdCluster()
        let tenure = try EtcdTenure.open(cluster.configuration(), as: "test")
        try tenure.commit([.putPool(Example.pool)], revision: 1)
        let follower = LedgerFollower(tenure.client, keys, logger: quiet) {}
        follower.start()
        #expect(eventually { follower.isWhole })
        // No sooner would one that waits give up than the run does.
        #expect(follower.take(at: 1, EtcdMark(revision: 2, journalParts: 1), timeout: .seconds(100_000)) == nil)
        follower.stop()
        #expect(!follower.isWhole)

        let wire = try Wire(to: cluster.members[0].client)
        defer { wire.close() }
        var configuration = cluster.configuration()
        configuration.endpoints = [wire.endpoint]
        let client = try EtcdClient(configuration)
        let reading = LedgerFollower(client, keys, logger: quiet) {}
        // It is connected.
        _ = try client.range(from: keys.prefix, timeout: .seconds(20))
        let first = wire.count(.requests)
        wire.hold(.answers)
        reading.start()
        #expect(eventually { wire.has(keys.revision, in: .requests, after: first) })
        reading.stop()
        let before = wire.count(.requests)
        wire.release(.answers)
        // It reads to the end, the leader's key last.
        #expect(eventually { wire.has(keys.leader, in: .requests, after: before) })
        #expect(stays(for: .milliseconds(500)) { !reading.isWhole })
        await client.close()
        tenure.close()
    }

    /// The ledger in memory is older than that in etcd, and stays so until somebody mends that.
    @Test func `is not ready for what it cannot read, and says when it can again who leads`() async throws {
        let cluster = try EtcdCluster()
        let tenure = try EtcdTenure.open(cluster.configuration(), as: "10.0.0.1:7440")
        try tenure.commit([.putPool(Example.pool)], revision: 1)
        let ledger = try EtcdLedger(cluster.configuration(), logger: quiet)
        ledger.start(advertising: "127.0.0.1:1")
        let roles = Roles(of: ledger)
        #expect(eventually { roles.last == "following 10.0.0.1:7440" }, "\(roles.last)")
        #expect(ledger.newestRevision == 1)
        let key = keys.binding(Example.binding(owner: 1, address: 7).owner.key)
        try cluster.ctl("put", key, "nonsense")
        #expect(eventually { roles.last.hasPrefix("failing") && roles.last.contains(key) }, "\(roles.last)")
        try cluster.ctl("del", key)
        #expect(eventually { roles.last == "following 10.0.0.1:7440" }, "\(roles.last)")
        ledger.close()
        tenure.close()
    }

    /// etcd accepts a watch of a revision that is still to come, and says nothing until then.
    @Test func `that was away while etcd was put back, and has come as far since, reads the ledger anew`() async throws
    {
        let cluster = try EtcdCluster()
        let wire = try Wire(to: cluster.members[0].client)
        defer { wire.close() }
        let snapshot = cluster.folder.appending(path: "snapshot").path
        let before = try EtcdTenure.open(cluster.configuration(), as: "test")
        try before.commit([.putPool(Example.pool)], revision: 1)
        before.close()
        try cluster.ctl("snapshot", "save", snapshot)
        var configuration = cluster.configuration()
        configuration.endpoints = [wire.endpoint]
        let client = try EtcdClient(configuration)
        let follower = LedgerFollower(client, keys, logger: quiet) {}
        follower.start()
        #expect(eventually { follower.isWhole })
        func commit(_ binding: Binding, seenBy follower: LedgerFollower?) throws {
            let tenure = try EtcdTenure.open(cluster.configuration(), as: "test")
            if let follower { #expect(eventually { follower.leader == .somebody("test") }) }
            try tenure.commit([.putBinding(binding)], revision: 2)
            tenure.close()
            if let follower { #expect(eventually { follower.leader == .nobody }) }
        }
        try commit(Example.binding(owner: 1, address: 7), seenBy: follower)

        wire.cut()
        try cluster.putBack(snapshot)
        let other = Example.binding(owner: 2, address: 8)
        try commit(other, seenBy: nil)
        let reader = EtcdReader(client: try EtcdClient(cluster.configuration()), keys: keys)
        let image = try reader.read()
        wire.mend()
        let warm = follower.take(at: image.lastCommit, image.mark, timeout: .seconds(60))
        #expect(warm?.ledger.snapshot.bindings == [other])
        await client.close()
        await reader.client.close()
    }

    /// Whoever has seen more knows that addresses were given that this ledger knows nothing of.
    @Test(arguments: [false, true])
    func `neither follows nor leads a ledger of before what it has seen, until it is started anew`(
        isEmptied: Bool
    ) async throws {
        let cluster = try EtcdCluster()
        let snapshot = cluster.folder.appending(path: "snapshot").path
        let configuration = cluster.configuration(lease: .seconds(4))
        let tenure = try EtcdTenure.open(configuration, as: "test")
        try tenure.commit([.putPool(Example.pool)], revision: 1)
        try cluster.ctl("snapshot", "save", snapshot)
        try tenure.commit([.putBinding(Example.binding(owner: 1, address: 7))], revision: 5)
        let ledger = try EtcdLedger(configuration, logger: quiet)
        ledger.start(advertising: "127.0.0.1:1")
        let roles = Roles(of: ledger)
        if isEmptied {
            tenure.close()
            #expect(eventually { roles.last == "leading" }, "\(roles.last)")
            try cluster.ctl("del", "--prefix", keys.prefix)
        } else {
            #expect(eventually { roles.last == "following test" }, "\(roles.last)")
            try cluster.putBack(snapshot)
            tenure.close()
        }
        let words = "went back from revision 5 to \(isEmptied ? "nothing" : "1"):"
        #expect(eventually { roles.last.hasPrefix("failing") && roles.last.contains(words) }, "\(roles.last)")
        ledger.close()

        let again = try LeadingStore(configuration)
        #expect(again.warm.snapshot.revision == (isEmptied ? 0 : 1))
        again.close()
    }

    @Test func `that etcd has not answered for long says so, and no more who led, until it answers`() async throws {
        let cluster = try EtcdCluster()
        let configuration = cluster.configuration(lease: .seconds(2))
        let tenure = try EtcdTenure.open(configuration, as: "test")
        let ledger = try EtcdLedger(configuration, logger: quiet)
        ledger.start(advertising: "127.0.0.1:1")
        let roles = Roles(of: ledger)
        #expect(eventually { roles.last == "following test" }, "\(roles.last)")
        cluster.kill(0)
        #expect(eventually { roles.last.hasPrefix("failing") }, "\(roles.last)")
        try cluster.start(0)
        #expect(eventually { ["following test", "leading"].contains(roles.last) }, "\(roles.last)")
        tenure.close()
        ledger.close()
    }

    @Test func `that a full etcd lets nobody elect says why, to all who ask, and rarely in the log`() async throws {
        let small = try EtcdCluster(flags: ["--quota-backend-bytes", "\(4 << 20)"])
        let configuration = small.configuration(lease: .seconds(2))
        let tenure = try EtcdTenure.open(configuration, as: "test")
        try tenure.commit([.putPool(Example.pool)], revision: 1)
        var revision = UInt64(1)
        #expect(
            eventually {
                revision += 1
                let changes = (10..<60).map { Change.putBinding(Example.binding(owner: $0, address: $0)) }
                return (try? tenure.commit(changes, revision: revision)) == nil
            })
        tenure.close()
        let log = CountingLog()
        let ledger = try EtcdLedger(configuration, logger: Logger(label: "test") { _ in log })
        ledger.start(advertising: "127.0.0.1:1")
        let roles = Roles(of: ledger)
        #expect(eventually { roles.last.contains("etcd's database is full") }, "\(roles.last)")
        #expect(stays(for: .seconds(2)) { roles.last.hasPrefix("failing") }, "\(roles.last)")
        #expect(log.warnings.value == 1)
        ledger.close()
    }

    /// Such a member hears of no change, and would be silent for ever.
    @Test(.timeLimit(.minutes(3))) func `stays with no member of etcd that has lost the others`() async throws {
        let cluster = try EtcdCluster(members: 3)
        let client = try EtcdClient(cluster.configuration())
        let watch = try client.watch(from: keys.prefix, to: EtcdKeys.end(of: keys.prefix), since: 0)
        for member in cluster.members.indices where member != watch.member { cluster.kill(member) }
        await #expect {
            for try await _ in watch.responses {}
        } throws: {
            ($0 as? RPCStatus)?.message.contains("no leader") == true
        }
        await client.close()
    }
}

private struct CountingLog: LogHandler {
    final class Count: Sendable {
        private let count = Mutex(0)
        var value: Int { count.withLock { $0 } }
        func add() { count.withLock { $0 += 1 } }
    }

    let warnings = Count()
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.warning
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { warnings.add() }
}
