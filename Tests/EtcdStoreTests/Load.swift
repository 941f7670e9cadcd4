import Addresses
import Foundation
import IPAMAPI
import IPAMModel
import StoreConformance
import Synchronization

/// Workers that allocate, release and transfer for VMs of their own, without end, and write down what they were told.
///
/// From an answer that says that an owner has an address until a call is made that may take it away, it surely has it:
/// during that time the owner is told no other address (promises 2, 3 and 4), and nobody else is told this one (promise
/// 1).
final class Load: Sendable {
    struct Holding: Sendable {
        var owner: String
        var address: IPAddress
        var from: ContinuousClock.Instant
        /// Nil: to the end.
        var until: ContinuousClock.Instant?
    }

    private struct State: Sendable {
        var isStopped = false
        var holdings: [Holding] = []
        var faults: [String] = []
        var answers = 0
    }

    private let state = Mutex(State())
    private let tasks: Mutex<[Task<Void, Never>]> = Mutex([])

    /// `firstPod`: beyond all of an earlier load's on the same ledger, whose pods are older.
    init(_ servers: String, workers: Int = 4, firstPod: Int = 0, seed: UInt64) throws {
        for worker in 0..<workers {
            let client = try IPAMClient(server: servers)
            let task = Task { [self] in
                await work(worker, client, firstPod: firstPod, seed: seed &+ UInt64(worker))
                await client.close()
            }
            tasks.withLock { $0.append(task) }
        }
    }

    /// Who was told to have which address so far, and surely had it; once it has finished.
    var holdings: [Holding] { state.withLock(\.holdings) }

    /// Calls that were answered so far.
    var answers: Int { state.withLock(\.answers) }

    /// Stops, and returns what broke a promise.
    func finish(servers: String) async throws -> [String] {
        state.withLock { $0.isStopped = true }
        for task in tasks.withLock({ $0 }) { await task.value }
        let (holdings, faults) = state.withLock { ($0.holdings, $0.faults) }
        var found = faults + Self.overlaps(holdings)
        // What was told last is what the ledger has in the end.
        let client = try IPAMClient(server: servers)
        for holding in holdings where holding.until == nil {
            let binding = try await client.binding(holding: holding.address, timeout: .seconds(60))
            if binding.binding.owner.name != holding.owner {
                found.append("\(holding.address) was \(holding.owner)'s and is \(binding.binding.owner.name)'s")
            }
        }
        await client.close()
        return found
    }

    private static func overlaps(_ holdings: [Holding]) -> [String] {
        var found: [String] = []
        for holdings in Dictionary(grouping: holdings, by: \.address).values {
            let sorted = holdings.sorted { $0.from < $1.from }
            for (earlier, later) in zip(sorted, sorted.dropFirst()) {
                if let until = earlier.until, until <= later.from { continue }
                found.append("\(earlier.address): \(earlier.owner) and \(later.owner) had it at once")
            }
        }
        return found
    }

    private func work(_ worker: Int, _ client: IPAMClient, firstPod: Int, seed: UInt64) async {
        var random = SeededGenerator(seed: seed)
        var held: [Int: Holding] = [:]
        var pods = firstPod
        while !state.withLock(\.isStopped) {
            let number = Int.random(in: 0..<12, using: &random)
            let name = "vm-\(worker)-\(number)"
            let owner = Owner(
                kind: .virtualMachine, namespace: "load", name: name, uid: "uid-\(name)", network: "vm-net/eth0")
            pods += 1
            let pod = Attachment(
                node: "node-\(worker)", pod: "pod-\(pods)", podUID: "uid-\(worker)-\(pods)",
                containerID: "c-\(worker)-\(pods)", createdAt: Timestamp(seconds: 1_800_000_000 + Int64(pods)))
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<6:
                guard
                    let binding = await told({
                        try await client.allocate(AllocateRequest(owner: owner, attachment: pod), timeout: $0).binding
                    })
                else { continue }
                note(binding, name, &held[number])
            case 6..<8:
                // From here on it may be gone.
                if let holding = held.removeValue(forKey: number) { end(holding) }
                _ = await told { try await client.release(.binding(owner), timeout: $0) }
            default:
                guard held[number] != nil else { continue }
                let uid = "migration-\(worker)-\(pods)"
                for phase in [TransferPhase.prepare(target: pod), pods % 2 == 0 ? .commit(targetOwner: nil) : .abort] {
                    guard
                        let binding = await told({
                            try await client.transfer(
                                TransferRequest(owner: owner, migrationUID: uid, phase: phase), timeout: $0)
                        })
                    else { break }
                    note(binding, name, &held[number])
                }
            }
        }
        for holding in held.values { state.withLock { $0.holdings.append(holding) } }
    }

    /// The answer, however often it takes; nil when the load is stopped, or where the call is refused for good.
    private func told<Answer: Sendable>(_ call: (Duration) async throws -> Answer) async -> Answer? {
        while true {
            do {
                let answer = try await call(.seconds(5))
                state.withLock { $0.answers += 1 }
                return answer
            } catch {
                guard (error as? IPAMError)?.isRetryable == true else {
                    state.withLock { $0.faults.append("refused: \(error)") }
                    return nil
                }
                // What was never answered may have happened: the same is asked again.
                if state.withLock(\.isStopped) { return nil }
                try? await Task.sleep(for: .milliseconds(20))
            }
        }
    }

    private func note(_ binding: DescribedBinding, _ name: String, _ holding: inout Holding?) {
        guard let address = binding.binding.assignments.first?.address else { return }
        if let holding, holding.address != address {
            state.withLock { $0.faults.append("\(name) had \(holding.address), and then \(address)") }
        }
        if holding == nil { holding = Holding(owner: name, address: address, from: .now) }
    }

    private func end(_ holding: Holding) {
        var holding = holding
        holding.until = .now
        state.withLock { $0.holdings.append(holding) }
    }
}
