import Addresses
import Foundation
import IPAMAPI
import IPAMModel
import Synchronization
import Testing

/// Promise 3, and 1, 2 and 4 with it: the server is killed at random moments under load; every change that it
/// acknowledged is there after the restart, and a call that it did not answer can be repeated.
@Suite(.serialized)
struct CrashTests {
    static let rounds = 50
    static let workers = 16
    static let timeout = Duration.seconds(60)

    /// What one worker knows of one VM. Only its worker calls for it, one call at a time.
    struct Known {
        var owner: Owner
        /// The last acknowledged binding; nil while the VM has none.
        var acknowledged: Binding?
        /// The call that the crash left without an answer.
        var unanswered: Call?
        var pods = 0
        var migrations = 0
    }

    enum Call {
        case allocate(AllocateRequest)
        case release(ReleaseRequest)
        case transfer(TransferRequest)
    }

    @Test("every acknowledged change survives SIGKILL under load, 50 times")
    func everyAcknowledgedChangeSurvivesSIGKILL() async throws {
        let seed =
            ProcessInfo.processInfo.environment["HOLDFAST_SEED"].flatMap { UInt64($0) } ?? .random(in: 0...UInt64.max)
        print("crash test: HOLDFAST_SEED=\(seed)")
        var random = SplitMix(state: seed)
        let server = try ServerProcess(
            pools: """
                - name: vm-net
                  is_default: true
                  reuse_delay: 0s
                  prefixes:
                    - {prefix: 10.16.0.0/22, gateway: 10.16.0.1}
                    - {prefix: "fd00:10:16::/64", gateway: "fd00:10:16::1"}
                """)
        var fleets = (0..<Self.workers).map { worker in
            (0..<20).map {
                Known(
                    owner: Owner(
                        kind: .virtualMachine, namespace: "ns-\(worker)", name: "vm-\($0)", uid: "uid-\(worker)-\($0)",
                        network: "vm-net/eth0"))
            }
        }
        var acknowledged = 0
        for round in 0..<Self.rounds {
            try server.start()
            let client = try IPAMClient(server: server.socket)
            try await verify(&fleets, client, round: round)
            let seeds = fleets.indices.map { _ in random.next() }
            let stop = Stop()
            let moment = Duration.milliseconds(Int64.random(in: 5...150, using: &random))
            acknowledged += try await withThrowingTaskGroup(of: (Int, [Known], Int).self) { group in
                for (index, fleet) in fleets.enumerated() {
                    group.addTask {
                        var fleet = fleet
                        let count = await Self.work(&fleet, client, seed: seeds[index], until: stop)
                        return (index, fleet, count)
                    }
                }
                try await Task.sleep(for: moment)
                server.kill(SIGKILL)
                stop.isSet.store(true, ordering: .releasing)
                var total = 0
                for try await (index, fleet, count) in group {
                    fleets[index] = fleet
                    total += count
                }
                return total
            }
            await client.close()
        }
        try server.start()
        let client = try IPAMClient(server: server.socket)
        try await verify(&fleets, client, round: Self.rounds)
        await client.close()
        #expect(server.kill(SIGTERM) == 0)
        print("crash test: \(acknowledged) acknowledged changes over \(Self.rounds) kills")
        #expect(acknowledged > Self.rounds)
    }

    /// Calls at random until the server is gone; returns how many changes were acknowledged.
    private static func work(
        _ fleet: inout [Known], _ client: IPAMClient, seed: UInt64, until stop: Stop
    ) async -> Int {
        var random = SplitMix(state: seed)
        var count = 0
        while !stop.isSet.load(ordering: .acquiring) {
            let index = Int.random(in: fleet.indices, using: &random)
            let call = next(&fleet[index], random: &random)
            fleet[index].unanswered = call
            do throws(IPAMError) {
                fleet[index].acknowledged = try await perform(call, client)
                fleet[index].unanswered = nil
                count += 1
            } catch {
                if error.code != .unavailable {
                    Issue.record("\(call) was refused: \(error)")
                    fleet[index].unanswered = nil
                }
                return count
            }
        }
        return count
    }

    private static func next(_ known: inout Known, random: inout SplitMix) -> Call {
        func attachment() -> Attachment {
            known.pods += 1
            let pod = "\(known.owner.name)-\(known.pods)"
            return Attachment(
                node: "node-\(known.pods % 3)", pod: pod, podUID: "\(known.owner.uid)/\(pod)",
                containerID: "\(known.owner.uid)/c\(known.pods)",
                createdAt: Timestamp(seconds: 1_800_000_000 + Int64(known.pods)))
        }
        let owner = known.owner
        guard let binding = known.acknowledged else {
            return .allocate(AllocateRequest(owner: owner, attachment: attachment()))
        }
        switch (binding.state, Int.random(in: 0..<10, using: &random)) {
        case (_, 0): return .release(.binding(owner))
        case (.migrating, 1...5):
            return .transfer(
                TransferRequest(owner: owner, migrationUID: binding.migrationUID, phase: .commit(targetOwner: nil)))
        case (.migrating, _):
            return .transfer(TransferRequest(owner: owner, migrationUID: binding.migrationUID, phase: .abort))
        case (.bound, 1...4):
            known.migrations += 1
            return .transfer(
                TransferRequest(
                    owner: owner, migrationUID: "\(owner.uid)/m\(known.migrations)",
                    phase: .prepare(target: attachment())))
        case (.bound, 5...6):
            guard let active = binding.active else { fallthrough }
            return .release(.attachment(active.id, owner: owner, network: owner.network))
        default: return .allocate(AllocateRequest(owner: owner, attachment: attachment()))
        }
    }

    private static func perform(_ call: Call, _ client: IPAMClient) async throws(IPAMError) -> Binding? {
        switch call {
        case .allocate(let request): try await client.allocate(request, timeout: timeout).binding.binding
        case .release(let request): try await client.release(request, timeout: timeout)?.binding
        case .transfer(let request): try await client.transfer(request, timeout: timeout).binding
        }
    }

    /// Promises 1 to 4 after a restart.
    private func verify(_ fleets: inout [[Known]], _ client: IPAMClient, round: Int) async throws {
        var found: [OwnerKey: Binding] = [:]
        var token: String?
        repeat {
            let page = try await client.bindings(
                matching: BindingFilter(), pageSize: 1000, pageToken: token, timeout: Self.timeout)
            for described in page.bindings { found[described.binding.owner.key] = described.binding }
            token = page.nextPageToken
        } while token != nil

        let addresses = found.values.flatMap(\.assignments).map(\.address)
        #expect(Set(addresses).count == addresses.count, "round \(round): an address is in two bindings")
        #expect(Set(found.values.map(\.mac)).count == found.count, "round \(round): a MAC is in two bindings")

        for worker in fleets.indices {
            for index in fleets[worker].indices {
                let known = fleets[worker][index]
                let now = found[known.owner.key]
                guard let call = known.unanswered else {
                    #expect(now == known.acknowledged, "round \(round): an acknowledged change is gone or undone")
                    continue
                }
                // In or out, but never in part; and said again it has its effect, once.
                if let before = known.acknowledged, let now {
                    #expect(now.assignments == before.assignments && now.mac == before.mac, "round \(round): promise 2")
                }
                let (again, twice) = (
                    try await Self.perform(call, client), try await Self.perform(call, client)
                )
                #expect(again == twice, "round \(round): the second reply says something else")
                if let now, let again {
                    #expect(again.assignments == now.assignments && again.mac == now.mac, "round \(round): promise 2")
                }
                fleets[worker][index].acknowledged = again
                fleets[worker][index].unanswered = nil
            }
        }
    }
}

/// Tells the workers that the server is gone.
private final class Stop: Sendable {
    let isSet = Atomic(false)
}

/// The same numbers for the same seed.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }
}
