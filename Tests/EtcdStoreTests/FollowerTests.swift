import IPAMModel
import Ledger
import LedgerStore
import RPC
import StoreConformance
import Synchronization
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
        #expect(follower.take(at: image.lastCommit, timeout: .milliseconds(100)) == nil)
        try cluster.ctl("compact", String(image.revision))
        wire.mend()
        let warm = try #require(follower.take(at: image.lastCommit, timeout: .seconds(60)))
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
        let log = RecordedLog()
        let failures = Atomic(0)
        let follower = LedgerFollower(client, keys, logger: log.logger) { failures.add(1, ordering: .relaxed) }
        wire.cut()
        follower.start()
        #expect(eventually { failures.load(ordering: .relaxed) >= 4 })
        // It may be refused at first, and then cut off: each is said.
        let told = log.lines.filter { $0.contains("cannot be followed") }
        #expect(!told.isEmpty && Set(told).count == told.count, "\(told)")
        wire.mend()
        #expect(eventually { follower.isWhole && log.lines.contains("the ledger in etcd is followed again") })
        follower.stop()
        await client.close()
        tenure.close()
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
