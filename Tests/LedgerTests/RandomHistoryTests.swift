import Addresses
import IPAMModel
import Ledger
import Testing

/// The promises of DESIGN.md under long random histories, against a plain model.
@Suite struct RandomHistoryTests {
    @Test(arguments: 0..<6)
    func `a ledger does as the plain model does, keeps its promises, and survives rollbacks and restarts`(
        number: Int
    ) throws {
        var history = RandomHistory(seededGenerator("random history \(number)"))
        var run = Run()
        for pools in RandomHistory.poolVariants.prefix(2) where !run.hasFailed {
            try run.apply(.createPool(pools[0]))
        }
        var left = 1
        for _ in 0..<4_000 where !run.hasFailed {
            run.seconds += Int64(history.number(0...3))
            try run.apply(history.next())
            if history.chance(20) { try run.checkReads(history.number(1...5)) }
            left -= 1
            if left > 0 { continue }
            left = history.number(1...8)
            if history.chance(30) { run.rollback() } else { run.commit() }
            if history.chance(50) { try run.checkReads(history.number(1...5)) }
            run.checkPromises()
            if history.chance(3) { try run.restart { history.shuffled($0) } }
        }
        run.commit()
        #expect(run.refusals.count > 15, "the history met most refusals: \(run.refusals)")
    }
}

/// A ledger and the model beside it.
struct Run {
    var ledger = Ledger()
    var seconds: Int64 = 1_000
    private var model = Model()
    /// The model as of the last commit.
    private var committed = Model()
    /// What a store would hold.
    private var stored = Snapshot()
    private(set) var refusals: Set<String> = []
    private let verdict = Verdict()

    var hasFailed: Bool { verdict.hasFailed }

    private var now: Timestamp { Timestamp(seconds: seconds) }

    mutating func apply(_ command: Command) throws {
        if case .release(.attachment(let id, owner: nil, let network)) = command,
            model.count(carriedBy: id, network: network) > 1
        {
            return
        }
        let result = Result { try ledger.apply(command, at: now) }
        var chosenMAC: MACAddress?
        if case .success(.allocated(let binding, created: true)) = result {
            chosenMAC = binding.mac
            check(binding.mac.bytes[0] == 2, "\(binding.mac) is locally administered")
        }
        let expected = Result { try model.apply(command, at: now, chosenMAC: chosenMAC) }
        switch (result, expected) {
        case (.success(let outcome), .success(let expected)):
            check(outcome.plain == expected, "\(command)\n gave \(outcome.plain)\n not  \(expected)")
        case (.failure(let error as IPAMError), .failure(let refused as Model.Refused)):
            check(error.reason == refused.reason, "\(command)\n refused for \(error), not \(refused.reason)")
            refusals.insert(error.reason.rawValue)
        default:
            check(false, "\(command)\n gave \(result)\n not  \(expected)")
        }
        check(ledger.revision == model.revision, "\(command)\n revision \(ledger.revision), not \(model.revision)")
    }

    mutating func commit() {
        for change in ledger.pending { stored.apply(change) }
        stored.revision = ledger.revision
        ledger.commit()
        committed = model
    }

    mutating func rollback() {
        ledger.rollback()
        model = committed
        check(ledger.revision == model.revision && ledger.pending.isEmpty, "a rollback leaves nothing")
    }

    /// Goes on with a ledger made from what a store holds, in whatever order the store gives it.
    mutating func restart(_ shuffle: ([Binding]) -> [Binding]) throws {
        stored.bindings = shuffle(stored.bindings)
        ledger = try Ledger(stored)
        check(ledger.revision == model.revision && ledger.committedRevision == model.revision, "restarted")
    }

    /// Every read answers as the committed model does.
    mutating func checkReads(_ limit: Int) throws {
        check(ledger.committedRevision == committed.revision, "committed revision")
        var read: [Binding] = []
        var token: String?
        repeat {
            let page = try ledger.bindings(matching: BindingFilter(), after: token, limit: limit)
            check(page.bindings.count <= limit, "page size")
            read += page.bindings
            token = page.token
        } while token != nil
        let expected = committed.entries.map(\.binding)
        check(
            read.count == expected.count && Set(read.map(\.plain)) == Set(expected), "pages: \(read)\n not \(expected)")
        for binding in expected {
            let owner = binding.owner
            check(ledger.binding(of: owner.key)?.plain == binding, "by owner \(owner.key)")
            for assignment in binding.assignments {
                check(ledger.binding(holding: assignment.address)?.plain == binding, "by \(assignment.address)")
            }
            let filter = BindingFilter(namespace: owner.namespace, name: owner.name, state: binding.state)
            let page = try ledger.bindings(matching: filter, after: nil, limit: 100)
            check(Set(page.bindings.map(\.plain)) == Set(expected.filter(filter.matches)), "filtered by \(filter)")
        }
        check(
            Set(ledger.migrating.map(\.plain)) == Set(expected.filter { $0.state == .migrating }), "open migrations")
        for node in ["node1", "node2", "node3", "elsewhere"] {
            let filter = BindingFilter(node: node)
            let page = try ledger.bindings(matching: filter, after: nil, limit: 100)
            check(Set(page.bindings.map(\.plain)) == Set(expected.filter(filter.matches)), "on \(node)")
        }
        check(ledger.pools == committed.pools.sorted { $0.name < $1.name }, "pools")
        for pool in committed.pools {
            check(ledger.pool(named: pool.name) == pool, "pool \(pool.name)")
            let usage = ledger.usage(ofPool: pool.name, at: now)
            let expected = committed.usage(of: pool.name, at: now)
            check(usage == expected, "usage of \(pool.name): \(usage)\n not \(expected)")
            for address in pool.prefixes.flatMap(Model.members) {
                check(ledger.freed(address) == committed.freed.first { $0.address == address }, "freed \(address)")
                if committed.holder(of: address) == nil {
                    check(ledger.binding(holding: address) == nil, "\(address) is nobody's")
                }
            }
        }
    }

    /// Promises 1 and 6 on what a store would hold; 2 to 5 are the model's, which every answer is compared with.
    mutating func checkPromises() {
        let bindings = stored.bindings
        let addresses = bindings.flatMap { $0.assignments.map(\.address) } + stored.freed.map(\.address)
        check(Set(addresses).count == addresses.count, "1: no address is in two bindings, or freed and held")
        let macs = bindings.map { "\($0.pool) \($0.mac)" }
        check(Set(macs).count == macs.count, "1: no MAC is in two bindings of a pool")
        check(Set(bindings.map(\.owner.key)).count == bindings.count, "2: an owner has one binding")
        for binding in bindings {
            check((binding.target == nil) == binding.migrationUID.isEmpty, "6: a target only in a migration")
            check(binding.target == nil || binding.target?.podUID != binding.active?.podUID, "6: two pods, not one")
            check(binding.superseded.count <= 32, "5: a few superseded attachments")
            for attachment in [binding.active, binding.target].compactMap({ $0 }) {
                let isSuperseded = binding.superseded.contains {
                    $0 == attachment.id || $0 == AttachmentID(podUID: attachment.podUID, containerID: "")
                }
                check(!isSuperseded, "5: who carries it is not superseded")
            }
        }
        check(stored.bindings.count == committed.entries.count, "3: the changes tell all")
        let revisions = stored.freed.map(\.revision)
        check(revisions == revisions.sorted(), "freed addresses are stored in their order")
    }

    private func check(_ holds: Bool, _ message: @autoclosure () -> String) {
        guard !holds, !verdict.hasFailed else { return }
        verdict.hasFailed = true
        Issue.record("\(message())")
    }
}

/// The first failure says what is wrong; what follows only says it again.
private final class Verdict {
    var hasFailed = false
}

extension Snapshot {
    /// What a store does with a change.
    mutating func apply(_ change: Change) {
        switch change {
        case .putBinding(let binding):
            bindings.removeAll { $0.owner.key == binding.owner.key }
            bindings.append(binding)
        case .removeBinding(let binding): bindings.removeAll { $0.owner.key == binding.owner.key }
        case .putFreed(let address): freed.append(address)
        case .removeFreed(let address): freed.removeAll { $0.address == address }
        case .putPool(let pool):
            pools.removeAll { $0.name == pool.name }
            pools.append(pool)
        case .removePool(let name): pools.removeAll { $0.name == name }
        case .putHistory(let entry): history.append(entry)
        case .removeHistory(let entry): history.removeAll { $0.revision == entry.revision }
        }
    }
}

extension Binding {
    /// As the model has it.
    fileprivate var plain: Binding {
        var copy = self
        copy.superseded = []
        // `HistoryTests` has these.
        (copy.heldSince, copy.heldBy) = (createdAt, "")
        return copy
    }
}

extension Outcome {
    fileprivate var plain: Outcome {
        switch self {
        case .allocated(let binding, let created): .allocated(binding.plain, created: created)
        case .released(let binding): .released(binding?.plain)
        case .copiesRenewed: self
        case .transferred(let binding): .transferred(binding.plain)
        case .pool, .poolDeleted: self
        }
    }
}
