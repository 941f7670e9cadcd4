import Addresses
import Foundation
import IPAMAPI
import IPAMModel
import Ledger
import Logging
import NodeAgent
import Testing

/// Promise 1 with nodes that go on without their server: no node may give a VM an address that another owner has.
///
/// Random histories of nodes that allocate, renew, drop and restart, of messages that are late or lost, and of a server
/// that frees, moves, reuses and restarts with a wall clock set forward. After each step every copy that a node would use
/// is compared with the ledger.
struct CopySafetyTests {
    @Test func `no copy that may be used has another owner's address`() throws {
        let given = ProcessInfo.processInfo.environment["HOLDFAST_SEED"].flatMap(UInt64.init)
        var (used, moved) = (0, 0)
        for _ in 0..<(given == nil ? 20 : 1) {
            let seed = given ?? UInt64.random(in: 0 ... .max)
            var history = try History(seed: seed)
            defer { history.cleanUp() }
            for step in 0..<2_000 {
                history.step()
                if let fault = history.fault {
                    Issue.record("\(fault) after step \(step); play again with HOLDFAST_SEED=\(seed)")
                    return
                }
            }
            used += history.used
            moved += history.moved
        }
        guard given == nil else { return }
        #expect(used > 1_000 && moved > 15, "the histories try too little: \(used) uses, \(moved) moves")
    }
}

private struct History {
    private struct Node {
        var name: String
        var copies: CopyStore
    }

    /// What is on its way to a node.
    private enum Message {
        case answer(node: Int, DescribedBinding, sent: Int64)
        case renewal(node: Int, [(copy: Copy, answer: RenewedCopy)], sent: Int64)
    }

    private var random: Generator
    private var ledger = Ledger()
    private var bindings: [OwnerKey: Binding] = [:]
    /// Seconds of true time; the ledger's clock is `skew` ahead of it.
    private let time = StatedClock()
    private var skew: Int64 = 0
    private var nodes: [Node] = []
    private var messages: [Message] = []
    /// A move that was refused.
    private var wanted: Command?
    private let folder = "/tmp/holdfast-test-\(UUID().uuidString.prefix(8).lowercased())"
    private let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    /// Copies that would have been used, and bindings that moved.
    private(set) var used = 0
    private(set) var moved = 0

    init(seed: UInt64) throws {
        random = Generator(state: seed)
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let prefix = try #require(IPPrefix("10.0.0.0/29"))
        apply(.createPool(Pool(name: "net", prefixes: [PoolPrefix(prefix: prefix)], isDefault: true)))
        for index in 0..<3 {
            nodes.append(Node(name: "node-\(index)", copies: try store(index)))
        }
    }

    func cleanUp() { try? FileManager.default.removeItem(atPath: folder) }

    private func store(_ index: Int) throws -> CopyStore {
        try CopyStore(path: "\(folder)/copies-\(index)", clock: time.clock(), log: log)
    }

    private var now: Timestamp {
        Timestamp(nanoseconds: time.clock().now() + skew)
    }

    @discardableResult
    private mutating func apply(_ command: Command) -> Outcome? {
        let outcome = try? ledger.apply(command, at: now)
        if outcome == nil {
            ledger.rollback()
        } else {
            for change in ledger.pending {
                switch change {
                case .putBinding(let binding): bindings[binding.owner.key] = binding
                case .removeBinding(let binding): bindings[binding.owner.key] = nil
                default: break
                }
            }
            ledger.commit()
        }
        return outcome
    }

    private mutating func setReuseDelay(_ seconds: Int64) {
        guard var pool = ledger.pools.first else { return }
        pool.reuseDelay = .seconds(seconds)
        apply(.updatePool(pool))
    }

    private mutating func owner() -> Owner {
        Owner(
            kind: .virtualMachine, namespace: "default", name: "vm-\(Int.random(in: 0..<4, using: &random))", uid: "u",
            network: "net/eth0")
    }

    private mutating func describe(_ binding: Binding, keptBy node: String) -> DescribedBinding {
        DescribedBinding(binding: binding, copyValidFor: ledger.grantedCopy(of: binding, to: node, at: now))
    }

    mutating func step() {
        let node = Int.random(in: 0..<nodes.count, using: &random)
        let sent = time.clock().now()
        if let wanted, Bool.random(using: &random) { want(wanted) }
        // A message may be served much later than it was sent.
        if Int.random(in: 0..<8, using: &random) == 0 { time.advance(seconds: .random(in: 1..<10, using: &random)) }
        switch Int.random(in: 0..<13, using: &random) {
        case 0, 1, 2:
            let container = "c\(Int.random(in: 0..<1_000_000, using: &random))"
            let attachment = Attachment(
                node: nodes[node].name, pod: container, podUID: container, containerID: container)
            let addresses = Int.random(in: 0..<4, using: &random) == 0 ? [address()] : []
            let before = bindings
            // One in four is reserved ahead of any pod.
            let isCarried = Int.random(in: 0..<4, using: &random) != 0
            let request = AllocateRequest(
                owner: owner(), attachment: isCarried ? attachment : nil, addresses: addresses,
                mac: nil, keepsCopy: isCarried)
            if case .allocated(let binding, let created)? = apply(.allocate(request)) {
                if !created, before[binding.owner.key]?.assignments != binding.assignments { moved += 1 }
                if !isCarried { break }
                messages.append(.answer(node: node, describe(binding, keptBy: nodes[node].name), sent: sent))
            }
        case 3, 4, 5:
            let copies = nodes[node].copies.all
            let request = RenewCopiesRequest(
                node: nodes[node].name, copies: copies.map { BindingCopy(owner: $0.owner, revision: $0.revision) })
            if case .copiesRenewed(let standings)? = apply(.renewCopies(request)) {
                let answers = standings.map {
                    RenewedCopy(
                        validFor: $0.validFor, binding: $0.binding.map { DescribedBinding(binding: $0) },
                        ticket: $0.ticket)
                }
                messages.append(.renewal(node: node, Array(zip(copies, answers)), sent: sent))
            }
        case 6: apply(.release(.binding(owner())))
        case 7:
            if let active = bindings[owner().key]?.active {
                apply(.release(.attachment(active.id, owner: nil, network: "net/eth0")))
            }
        case 8:
            var other = owner()
            other.name += "-moved"
            let source = bindings.values.map(\.owner).min { $0.name < $1.name } ?? owner()
            let target = Attachment(node: nodes[node].name, pod: "t", podUID: "t", containerID: "t")
            let uid = "m\(Int.random(in: 0..<1_000_000, using: &random))"
            apply(.release(.binding(other)))
            apply(.transfer(TransferRequest(owner: source, migrationUID: uid, phase: .prepare(target: target))))
            let commit = TransferRequest(owner: source, migrationUID: uid, phase: .commit(targetOwner: other))
            want(.transfer(commit))
        case 9: time.advance(seconds: .random(in: 0..<15, using: &random))
        case 10: deliver()
        case 11: setReuseDelay([0, 1, 20, 60].randomElement(using: &random) ?? 60)
        default: if Int.random(in: 0..<6, using: &random) == 0 { restart(node) } else { deliver() }
        }
    }

    /// Asks for a move, and if need be again later.
    private mutating func want(_ move: Command) {
        wanted = move
        guard apply(move) != nil else { return }
        moved += 1
        wanted = nil
    }

    private mutating func address() -> IPAddress {
        IPAddress(family: .ipv4, bits: 0x0a00_0000 + UInt128(Int.random(in: 1..<7, using: &random)))
    }

    private mutating func deliver() {
        guard let index = messages.indices.randomElement(using: &random) else { return }
        switch messages.remove(at: index) {
        case _ where Int.random(in: 0..<6, using: &random) == 0: break
        case .answer(let node, let described, let sent):
            nodes[node].copies.keep(described, sent: sent)
            // Else the agent may be killed before it has written it.
            if Bool.random(using: &random) { nodes[node].copies.save() }
        case .renewal(let node, let answers, let sent):
            nodes[node].copies.renew(answers, sent: sent)
            let dropped = nodes[node].copies.dropped
            nodes[node].copies.told(of: dropped)
            if Int.random(in: 0..<4, using: &random) != 0 {
                apply(.renewCopies(RenewCopiesRequest(node: nodes[node].name, dropped: dropped)))
            }
        }
    }

    /// The server, whose wall clock may be wrong by hours, or an agent, whose answers under way are lost.
    private mutating func restart(_ node: Int) {
        if Bool.random(using: &random) {
            // A server that starts knows of no longer one.
            setReuseDelay(60)
            skew += .random(in: 0..<4 * 3_600, using: &random) * 1_000_000_000
            let freed = (0..<8).compactMap { ledger.freed(IPAddress(family: .ipv4, bits: 0x0a00_0000 + UInt128($0))) }
            let snapshot = Snapshot(
                revision: ledger.revision, pools: ledger.pools, bindings: Array(bindings.values), freed: freed)
            do {
                ledger = try Ledger(snapshot, startedAt: now)
            } catch {
                Issue.record(error)
            }
        } else if let copies = try? store(node) {
            nodes[node].copies = copies
            messages.removeAll {
                switch $0 {
                case .answer(let other, _, _), .renewal(let other, _, _): other == node
                }
            }
        }
    }

    /// A copy that a node would use, of an address that another owner has.
    var fault: String? {
        mutating get {
            for node in nodes {
                for copy in node.copies.all where copy.isFresh(at: time.clock().now()) {
                    used += 1
                    for address in copy.assignments.map(\.address) {
                        guard let holder = ledger.binding(holding: address), holder.owner.key != copy.owner.key else {
                            continue
                        }
                        return
                            "\(node.name) would give \(address), which is \(holder.owner.key)'s, to \(copy.owner.key)"
                    }
                }
            }
            return nil
        }
    }
}

/// SplitMix64.
private struct Generator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = (state ^ state >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}
