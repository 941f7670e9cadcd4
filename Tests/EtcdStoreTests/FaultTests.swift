import Foundation
import IPAMAPI
import IPAMModel
import Testing

/// Three servers on three etcd members, under a load whose history is checked. Processes are killed and stopped for real.
@Suite(.serialized, .enabled(if: EtcdCluster.isInstalled)) struct `Several servers` {
    private let trial: Trial
    private var cluster: EtcdCluster { trial.cluster }
    private var servers: Servers { trial.servers }

    init() throws {
        let cluster = try EtcdCluster(members: 3)
        trial = Trial(cluster, try Servers(cluster))
    }

    @Test func `are one leader, and others that name it`() async throws {
        try await servers.waitUntilServing()
        let leader = try servers.waitForLeader()
        let follower = (leader + 1) % 3
        let owner = Owner(kind: .virtualMachine, namespace: "a", name: "vm", uid: "u", network: "vm-net/eth0")
        // A client that knows only a follower is sent to the leader.
        let client = try IPAMClient(server: servers.address(follower))
        let (binding, _) = try await insist { () throws(IPAMError) in
            try await client.allocate(AllocateRequest(owner: owner), timeout: .seconds(60))
        }
        await client.close()
        let others = try IPAMClient(server: servers.list)
        #expect(try await others.binding(of: owner, timeout: .seconds(60)) == binding)
        await others.close()
    }

    /// `make chaos` kills 200.
    @Test func `lose nothing and give nothing twice when leaders are killed`() async throws {
        let kills = ProcessInfo.processInfo.environment["HOLDFAST_CHAOS_KILLS"].flatMap { Int($0) } ?? 3
        var pauses: [Duration] = []
        try await trial.underLoad { load in
            for _ in 0..<kills {
                let leader = try servers.waitForLeader()
                let killed = ContinuousClock.now
                servers.kill(leader)
                // What it had said before still arrives.
                usleep(50_000)
                try trial.waitForAnswers(1, load)
                pauses.append(.now - killed)
                try servers.start(leader)
                try trial.waitForAnswers(50, load)
            }
        }
        pauses.sort()
        print(
            "\(kills) leaders killed, lease 2 s: next answer after", pauses[kills / 2], "(median),",
            pauses[kills * 95 / 100], "(95 of 100),", pauses[kills - 1], "(most)")
    }

    @Test func `give nothing twice when a leader sleeps for longer than its lease, which then says nothing old`()
        async throws
    {
        let leader = try servers.waitForLeader()
        try await trial.underLoad { load in
            servers.send(SIGSTOP, to: leader)
            _ = try servers.waitForLeader(other: leader)
            try trial.waitForAnswers(100, load)
            servers.send(SIGCONT, to: leader)
            try trial.waitForAnswers(100, load)
        }
        // Again, without a load: what was changed meanwhile is known to whoever asks the one that wakes up.
        let sleeper = try servers.waitForLeader()
        servers.send(SIGSTOP, to: sleeper)
        _ = try servers.waitForLeader(other: sleeper)
        let owner = Owner(kind: .virtualMachine, namespace: "a", name: "vm", uid: "u", network: "vm-net/eth0")
        let (others, waking) = (try IPAMClient(server: servers.list), try IPAMClient(server: servers.address(sleeper)))
        let binding = try await insist { () throws(IPAMError) in
            try await others.allocate(AllocateRequest(owner: owner), timeout: .seconds(60))
        }.binding
        // Given up by now, and yet the first that it reads.
        await #expect(throws: IPAMError.self) { try await waking.binding(of: owner, timeout: .milliseconds(500)) }
        async let first = try? waking.binding(of: owner, timeout: .seconds(60))
        servers.send(SIGCONT, to: sleeper)
        var told = await first
        // The connection that was tried while it slept may have come to nothing by now: that says nothing old either.
        _ = await eventually {
            if told == nil { told = try? await waking.binding(of: owner, timeout: .seconds(60)) }
            return told != nil
        }
        #expect(told == binding)
        await others.close()
        await waking.close()
    }

    @Test func `go on without one etcd member, and after two were away`() async throws {
        try await trial.underLoad { load in
            cluster.kill(0)
            try trial.waitForAnswers(100, load)
            cluster.kill(1)
            try trial.waitForSilence(load)
            try cluster.start(0)
            try cluster.start(1)
            try trial.waitForAnswers(100, load)
        }
    }

    @Test func `are followed through a compaction, and by a leader that ends in order`() async throws {
        try await trial.underLoad { load in
            let leader = try servers.waitForLeader()
            let status = try cluster.ctl("get", "nothing", "-w", "json")
            let revision = status.split(separator: "\"revision\":").last?.prefix { $0.isNumber } ?? ""
            try cluster.ctl("compact", String(revision))
            try trial.waitForAnswers(50, load)
            servers.kill(leader, SIGTERM)
            _ = try servers.waitForLeader(other: leader)
            try trial.waitForAnswers(50, load)
            try servers.start(leader)
        }
    }
}
