import Foundation
import IPAMAPI
import IPAMModel
import Testing

/// `--pools` of several real servers, each with a file of its own, as the kubelet writes it on each node at its own time.
@Suite(.serialized, .enabled(if: EtcdCluster.isInstalled)) struct `Pools of several servers` {
    @Test func `that one has changed stay so when another leads whose file is older`()
        async throws
    {
        let folder = FileManager.default.temporaryDirectory.appending(path: "holdfast-pools-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        func file(_ server: Int) -> URL { folder.appending(path: "\(server).yaml") }
        func write(quota: Int, for server: Int) throws {
            let pool = "[{name: a, namespace_quota: \(quota), prefixes: [{prefix: 10.1.0.0/24}]}]"
            try Data(pool.utf8).write(to: file(server))
        }
        for server in 0..<2 { try write(quota: 1, for: server) }
        let cluster = try EtcdCluster()
        let servers = try Servers(
            cluster, places: (0..<2).map { Servers.Place(environment: ["HOLDFAST_POOLS": file($0).path]) })
        let client = try IPAMClient(server: servers.list)
        func has(quota: UInt32) async -> Bool {
            (try? await client.pool(named: "a", timeout: .seconds(5)))?.pool.namespaceQuota == quota
        }
        let old = try servers.waitForLeader()
        #expect(await eventually { await has(quota: 1) }, "\(servers.logs)")
        try write(quota: 2, for: old)
        #expect(await eventually { await has(quota: 2) }, "\(servers.logs)")

        servers.send(SIGSTOP, to: old)
        let new = try servers.waitForLeader(other: old)
        servers.send(SIGCONT, to: old)
        try write(quota: 3, for: new)
        #expect(await eventually { await has(quota: 3) }, "\(servers.logs)")

        servers.kill(new, SIGTERM)
        #expect(eventually { servers.log(of: old).contains("pool kept") }, "\(servers.logs)")
        #expect(await eventually { await has(quota: 3) }, "\(servers.logs)")
        try write(quota: 4, for: old)
        #expect(await eventually { await has(quota: 4) }, "\(servers.logs)")
        await client.close()
    }
}
