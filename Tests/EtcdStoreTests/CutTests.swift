import Foundation
import IPAMAPI
import IPAMModel
import Testing

/// Servers in network namespaces, and cables that are cut.
@Suite(
    .serialized, .enabled(if: EtcdCluster.isInstalled),
    .enabled(if: Networks.obstacle == nil, "\(Networks.obstacle ?? "")"))
struct `Servers that are cut off` {
    private static let port = 7440

    private let networks: Networks
    private let cluster: EtcdCluster

    init() throws {
        networks = try Networks(servers: 3)
        cluster = try EtcdCluster(members: 3, host: networks.host(.etcd))
    }

    private func trial(lease: Int) throws -> Trial {
        let places = (0..<3).map { index in
            Servers.Place(
                address: "\(networks.address(.clients, index)):\(Self.port)", launcher: networks.launcher(index))
        }
        return Trial(cluster, try Servers(cluster, places: places, lease: lease))
    }

    /// So often in each direction; `make chaos` asks for more.
    private static let rounds =
        ProcessInfo.processInfo.environment["HOLDFAST_CHAOS_CUTS"].flatMap { Int($0) } ?? 1

    @Test(arguments: Networks.Direction.allCases)
    func `from etcd lead no longer, say nothing old, and come back`(direction: Networks.Direction) async throws {
        var pauses: [Duration] = []
        let trial = try trial(lease: 2)
        let servers = trial.servers
        try await trial.underLoad { load in
            for round in 0..<Self.rounds {
                let leader = try servers.waitForLeader()
                let pause = try trial.pause(load) { try networks.cut(leader, from: .etcd, direction) }
                pauses.append(pause)
                let next = try servers.waitForLeader(other: leader)
                // It is asked itself, after others have moved on: never what was true when it was cut off.
                let owner = Owner(
                    kind: .virtualMachine, namespace: "cut", name: "vm-\(round)", uid: "u", network: "vm-net/eth0")
                let client = try IPAMClient(server: servers.address(next))
                let (binding, _) = try await insist { () throws(IPAMError) in
                    try await client.allocate(AllocateRequest(owner: owner), timeout: .seconds(60))
                }
                let alone = try IPAMClient(server: servers.address(leader))
                let told = try? await alone.binding(of: owner, timeout: .seconds(2))
                #expect(told == nil || told == binding)
                try trial.waitForAnswers(100, load)
                try networks.mend(leader, with: .etcd, direction)
                // It has the ledger again once it knows who leads.
                let found = try await alone.binding(of: owner, timeout: .seconds(60))
                #expect(found == binding)
                await client.close()
                await alone.close()
            }
        }
        print("the leader cut off from etcd (\(direction)), lease 2 s: next answer after", pauses)
    }

    @Test(arguments: Networks.Direction.allCases)
    func `from their clients only keep what they have, until the cable is mended`(
        direction: Networks.Direction
    ) async throws {
        var pauses: [Duration] = []
        // Longer than a busy machine may stop for: the leader would lose it then, without any cut.
        let trial = try trial(lease: 8)
        let servers = trial.servers
        try await trial.underLoad { load in
            for _ in 0..<Self.rounds {
                let leader = try servers.waitForLeader()
                try networks.cut(leader, from: .clients, direction)
                try trial.waitForSilence(load)
                let answers = load.answers
                // Longer than the lease: no other server takes its place.
                #expect(try stays(for: .seconds(9)) { try servers.leader() == leader && load.answers == answers })
                pauses.append(try trial.pause(load) { try networks.mend(leader, with: .clients, direction) })
                try trial.waitForAnswers(100, load)
            }
        }
        print("the leader cut off from its clients (\(direction)): answers", pauses, "after the mending")
    }
}
