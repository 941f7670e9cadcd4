import Addresses
import IPAMModel
import Testing

@testable import Ledger

/// While a node may use its copy of a binding, the binding's addresses go to nobody else (promise 1), and its VM gets no
/// others elsewhere.
struct CopyTests {
    private var bench: Bench
    private let here = sandbox("web-1", at: 100, node: "node-a")

    init() throws {
        bench = try Bench(pool("net", poolPrefix("10.0.0.0/24"), isDefault: true))
    }

    @discardableResult
    private mutating func copy(_ owner: Owner, _ attachment: Attachment) throws -> Binding {
        guard
            case .allocated(let binding, created: _) = try bench.run(
                .allocate(AllocateRequest(owner: owner, attachment: attachment, keepsCopy: true)))
        else { throw WrongOutcome() }
        return binding
    }

    private mutating func renew(
        _ node: String, _ owners: Owner..., dropped: [DroppedCopy] = []
    ) throws -> [CopyStanding] {
        let request = RenewCopiesRequest(
            node: node, copies: owners.map { BindingCopy(owner: $0, revision: 0) }, dropped: dropped)
        guard case .copiesRenewed(let standings) = try bench.run(.renewCopies(request)) else { throw WrongOutcome() }
        return standings
    }

    private mutating func expectNobodyElse(has freed: String, for seconds: Int64) throws {
        bench.seconds += seconds - 1
        #expect(bench.refusal { try $0.allocate(vm("other"), nil, addresses: [freed]) }?.reason == .addressQuarantined)
        bench.seconds += 1
        #expect(try bench.allocate(vm("other"), addresses: [freed]).addresses == [freed])
    }

    @Test mutating func `a stopped VM's new address waits for the node that has a copy, and for no longer`() throws {
        let owner = vm("web", uid: "u1")
        let old = try copy(owner, here)
        try bench.release(here, of: owner)
        bench.seconds += 50
        let there = sandbox("web-2", at: 200, node: "node-b")
        let refusal = bench.refusal { try $0.allocate(owner, there, addresses: ["10.0.0.77"]) }
        #expect(refusal?.code == .unavailable && refusal?.reason == .copiesOutstanding)
        #expect(refusal?.metadata["nodes"] == "node-a")
        #expect(refusal?.message.contains("for 10 s more at most") == true, "\(refusal?.message ?? "")")
        // The same addresses are no move, and on its own node it may have others.
        #expect(try bench.allocate(owner, there).addresses == old.addresses)
        try bench.release(there, of: owner)
        bench.seconds += 10
        #expect(try bench.allocate(owner, there, addresses: ["10.0.0.77"]).addresses == ["10.0.0.77"])
    }

    @Test mutating func `on the node that has the copy the VM gets other addresses at once`() throws {
        let owner = vm("web", uid: "u1")
        try copy(owner, here)
        try bench.release(here, of: owner)
        let again = sandbox("web-2", at: 200, node: "node-a")
        #expect(try bench.allocate(owner, again, addresses: ["10.0.0.77"]).addresses == ["10.0.0.77"])
    }

    @Test mutating func `once a move is wanted no copy is renewed, and what is dropped lets it through`() throws {
        let owner = vm("web", uid: "u1")
        try copy(owner, here)
        try bench.release(here, of: owner)
        #expect(try renew("node-a", owner).first?.validFor == .seconds(60))
        #expect(bench.refusal { try $0.allocate(owner, nil, addresses: ["10.0.0.77"]) } != nil)
        let gone = try #require(try renew("node-a", owner).first)
        #expect(gone.validFor == nil && gone.ticket != 0)
        let binding = try #require(bench.ledger.binding(of: owner.key))
        #expect(bench.ledger.grantedCopy(of: binding, to: "node-a", at: bench.now) == nil)
        // Another ticket, another node: no word of this copy.
        _ = try renew("node-a", dropped: [DroppedCopy(owner: owner, ticket: gone.ticket + 1)])
        _ = try renew("node-b", dropped: [DroppedCopy(owner: owner, ticket: gone.ticket)])
        #expect(bench.refusal { try $0.allocate(owner, nil, addresses: ["10.0.0.77"]) } != nil)
        _ = try renew("node-a", dropped: [DroppedCopy(owner: owner, ticket: gone.ticket)])
        #expect(try bench.allocate(owner, addresses: ["10.0.0.77"]).addresses == ["10.0.0.77"])
    }

    @Test mutating func `a ticket says nothing of a copy that was granted later`() throws {
        let owner = vm("web", uid: "u1")
        try copy(owner, here)
        let elsewhere = sandbox("web-2", at: 200, node: "node-b")
        try bench.allocate(owner, elsewhere)
        let gone = try #require(try renew("node-a", owner).first)
        #expect(gone.validFor == nil && gone.ticket != 0, "it is carried elsewhere")
        try copy(owner, sandbox("web-3", at: 300, node: "node-a"))
        _ = try renew("node-a", dropped: [DroppedCopy(owner: owner, ticket: gone.ticket)])
        try bench.release(sandbox("web-3", at: 300, node: "node-a"), of: owner)
        #expect(bench.refusal { try $0.allocate(owner, nil, addresses: ["10.0.0.77"]) }?.metadata["nodes"] == "node-a")
    }

    @Test mutating func `a migration's target node has a copy from PREPARE on, and keeps it over COMMIT`() throws {
        let owner = vm("web", uid: "u1")
        try bench.allocate(owner, here)
        let there = sandbox("web-2", at: 200, node: "node-b")
        let prepare = TransferRequest(owner: owner, migrationUID: "m", phase: .prepare(target: there), keepsCopy: true)
        guard case .transferred(let open) = try bench.run(.transfer(prepare)) else { throw WrongOutcome() }
        #expect(bench.ledger.grantedCopy(of: open, to: "node-b", at: bench.now) == .seconds(60))
        #expect(try renew("node-b", owner).first?.validFor == .seconds(60))
        try bench.transfer(owner, "m", .commit(targetOwner: nil))
        #expect(try renew("node-b", owner).first?.validFor == .seconds(60))
        #expect(try renew("node-a", owner).first?.validFor == nil)
    }

    @Test mutating func `a binding of which nobody keeps copies moves at once`() throws {
        let owner = vm("web", uid: "u1")
        try bench.allocate(owner, here)
        #expect(try renew("node-a", owner).first?.validFor == nil)
        try bench.release(here, of: owner)
        #expect(try bench.allocate(owner, addresses: ["10.0.0.77"]).addresses == ["10.0.0.77"])
    }

    @Test mutating func `a pool without reuse delay has no copies`() throws {
        try bench.run(.createPool(pool("quick", poolPrefix("10.1.0.0/24"), reuseDelay: .seconds(0))))
        let request = AllocateRequest(
            owner: vm("web", uid: "u1"), attachment: here, pool: "quick", keepsCopy: true)
        guard case .allocated(let binding, created: _) = try bench.run(.allocate(request)) else { throw WrongOutcome() }
        #expect(bench.ledger.grantedCopy(of: binding, to: "node-a", at: bench.now) == nil)
    }

    @Test mutating func `a shorter reuse delay counts for an address only once its copies are too old`() throws {
        let owner = vm("web", uid: "u1")
        let freed = try #require(try copy(owner, here).addresses.first)
        let changed = pool("net", poolPrefix("10.0.0.0/24"), isDefault: true, reuseDelay: .seconds(1))
        try bench.run(.updatePool(changed))
        try bench.release(owner)
        try expectNobodyElse(has: freed, for: 60)
    }

    @Test mutating func `a renewal with a shorter reuse delay takes nothing back that was granted`() throws {
        let owner = vm("web", uid: "u1")
        let freed = try #require(try copy(owner, here).addresses.first)
        try bench.run(
            .updatePool(pool("net", poolPrefix("10.0.0.0/24"), isDefault: true, reuseDelay: .seconds(1))))
        // The answer may be lost: then the node goes by the one before.
        #expect(try renew("node-a", owner).first?.validFor == .seconds(1))
        try bench.release(owner)
        try expectNobodyElse(has: freed, for: 60)
    }

    /// A pool of six, with `names` after web, which has a copy that is good for an hour from now, in it; and all of them freed
    /// when the pool's delay is a minute.
    private mutating func freeBehindCopy(_ names: [String]) throws {
        func six(_ delay: Int64) -> Pool {
            pool("net", poolPrefix("10.0.0.0/29"), isDefault: true, reuseDelay: .seconds(delay))
        }
        bench = try Bench(six(3_600))
        try copy(vm("web", uid: "u1"), here)
        for name in names { try bench.allocate(pod(name)) }
        try bench.run(.updatePool(six(60)))
        try bench.release(vm("web", uid: "u1"))
        for name in names { try bench.release(pod(name)) }
    }

    @Test(arguments: [false, true])
    mutating func `an address that waits for copies of before a shorter delay keeps no other`(isRolledBack: Bool) throws
    {
        try freeBehindCopy(["b", "c", "d", "e", "f"])
        let end = bench.now.advanced(by: .seconds(3_600))
        bench.seconds += 59
        let early = bench.refusal { try $0.allocate(vm("early")) }
        #expect(early?.metadata["availableAt"] == "\(bench.now.advanced(by: .seconds(1)))")
        bench.seconds += 1
        let usage = try #require(bench.ledger.usage(ofPool: "net", at: bench.now).first)
        #expect(usage.quarantined == 1 && usage.free == 5)
        if isRolledBack {
            for name in ["x", "y"] {
                _ = try bench.ledger.apply(.allocate(AllocateRequest(owner: vm(name))), at: bench.now)
            }
            _ = try bench.ledger.apply(.release(.binding(vm("x"))), at: bench.now)
            bench.ledger.rollback()
        }
        for number in 2...6 { #expect(try bench.allocate(vm("vm\(number)")).addresses == ["10.0.0.\(number)"]) }
        #expect(bench.refusal { try $0.allocate(vm("late")) }?.metadata["availableAt"] == "\(end)")
        bench.seconds += 3_539
        #expect(bench.refusal { try $0.allocate(vm("late")) }?.reason == .poolExhausted)
        bench.seconds += 1
        #expect(try bench.allocate(vm("late")).addresses == ["10.0.0.1"])
    }

    @Test mutating func `a pool that is to go waits for the last copy, whatever was freed after it`() throws {
        try freeBehindCopy(["b"])
        let refusal = bench.refusal { try $0.run(.deletePool(name: "net")) }
        #expect(refusal?.metadata["address"] == "10.0.0.1")
        #expect(refusal?.metadata["availableAt"] == "\(bench.now.advanced(by: .seconds(3_600)))")
    }

    @Test mutating func `an address that waits for copies of another pool keeps no other of its own`() throws {
        bench = try Bench(
            pool("slow", poolPrefix("10.0.0.0/30"), reuseDelay: .seconds(3_600)),
            pool("quick", poolPrefix("10.1.0.0/30")))
        let owner = vm("web", uid: "u1")
        try bench.run(.allocate(AllocateRequest(owner: owner, attachment: here, pool: "slow", keepsCopy: true)))
        try bench.release(here, of: owner)
        let moved = try bench.allocate(owner, sandbox("web-2", at: 200, node: "node-a"), pool: "quick")
        #expect(moved.addresses == ["10.1.0.1"])
        try bench.allocate(pod("b"), pool: "quick")
        try bench.release(owner)
        try bench.release(pod("b"))
        bench.seconds += 60
        #expect(bench.ledger.usage(ofPool: "quick", at: bench.now).map(\.quarantined) == [1])
        #expect(try bench.allocate(vm("c"), pool: "quick").addresses == ["10.1.0.2"])
    }

    @Test mutating func `an address that a VM has moved to is copied like any other`() throws {
        let owner = vm("web", uid: "u1")
        try copy(owner, here)
        try bench.release(here, of: owner)
        let again = sandbox("web-2", at: 200, node: "node-a")
        let request = AllocateRequest(
            owner: owner, attachment: again, addresses: [try #require(IPAddress("10.0.0.77"))], keepsCopy: true)
        guard case .allocated(let moved, created: _) = try bench.run(.allocate(request)) else { throw WrongOutcome() }
        #expect(moved.addresses == ["10.0.0.77"])
        #expect(bench.ledger.grantedCopy(of: moved, to: "node-a", at: bench.now) == .seconds(60))
        #expect(bench.ledger.grantedCopy(of: moved, to: "node-b", at: bench.now) == nil)
    }

    @Test mutating func `a ledger that starts waits as if everything had happened just then`() throws {
        let owner = vm("web", uid: "u1")
        try copy(owner, here)
        try bench.release(here, of: owner)
        let freed = try #require(try bench.allocate(vm("gone")).addresses.first)
        try bench.release(vm("gone"))
        let snapshot = Snapshot(
            revision: bench.ledger.revision, pools: bench.ledger.pools,
            bindings: [try #require(bench.ledger.binding(of: owner.key))],
            freed: [try #require(bench.ledger.freed(address(freed)))])
        // The wall clock says that two hours have gone by; it may have been set.
        bench.seconds += 7_200
        bench.ledger = try Ledger(snapshot, startedAt: bench.now)
        bench.seconds += 59
        #expect(bench.refusal { try $0.allocate(vm("other"), nil, addresses: [freed]) }?.reason == .addressQuarantined)
        #expect(
            bench.refusal { try $0.allocate(owner, nil, addresses: ["10.0.0.77"]) }?.message.contains(
                "before the server started") == true)
        bench.seconds += 1
        #expect(try bench.allocate(vm("other"), addresses: [freed]).addresses == [freed])
        #expect(try bench.allocate(owner, addresses: ["10.0.0.77"]).addresses == ["10.0.0.77"])
    }

    /// Another process goes on with what the store has.
    private mutating func restart() throws {
        bench.ledger = try Ledger(bench.ledger.snapshot, startedAt: bench.now)
    }

    private mutating func setReuseDelay(_ seconds: Int64, prefix: String = "10.0.0.0/24") throws {
        let changed = pool("net", poolPrefix(prefix), isDefault: true, reuseDelay: .seconds(seconds))
        try bench.run(.updatePool(changed))
    }

    /// Tries to give the binding of `owner` to another VM; the reason why not.
    private mutating func refusalToPass(_ owner: Owner) throws -> IPAMError? {
        let there = sandbox("web-9", at: 900, node: "node-b")
        try bench.transfer(owner, "m", .prepare(target: there))
        return bench.refusal { try $0.transfer(owner, "m", .commit(targetOwner: vm("other", uid: "o"))) }
    }

    private mutating func expectItPasses(_ owner: Owner, with addresses: [String]) throws {
        let given = try bench.transfer(owner, "m", .commit(targetOwner: vm("other", uid: "o")))
        #expect(given.owner.name == "other" && given.addresses == addresses)
    }

    @Test(arguments: ["at once", "after another address", "after a restart", "before a restart", "between restarts"])
    mutating func `what a name gets back passes to nobody while a node has a copy of before`(when: String) throws {
        let addresses = try copy(vm("web", uid: "u1"), here).addresses
        if when == "between restarts" { try restart() }
        try bench.release(vm("web", uid: "u1"))
        let again = vm("web", uid: "u2")
        if when == "after another address" { try bench.allocate(again, addresses: ["10.0.0.77"]) }
        if when == "after a restart" { try restart() }
        #expect(try bench.allocate(again, addresses: addresses).addresses == addresses)
        if when == "before a restart" || when == "between restarts" { try restart() }
        bench.seconds += 59
        #expect(try refusalToPass(again)?.reason == .copiesOutstanding)
        bench.seconds += 1
        try expectItPasses(again, with: addresses)
    }

    @Test mutating func `what a name gets back passes on once the copies of before are dropped`() throws {
        let addresses = try copy(vm("web", uid: "u1"), here).addresses
        try bench.release(vm("web", uid: "u1"))
        let again = vm("web", uid: "u2")
        try bench.allocate(again)
        #expect(try refusalToPass(again)?.metadata["nodes"] == "node-a")
        let gone = try #require(try renew("node-a", vm("web", uid: "u1")).first)
        #expect(gone.validFor == nil)
        _ = try renew("node-a", dropped: [DroppedCopy(owner: again, ticket: gone.ticket)])
        try expectItPasses(again, with: addresses)
    }

    @Test mutating func `what a name gets back, and nobody has a copy of, passes on at once`() throws {
        let addresses = try bench.allocate(vm("web", uid: "u1"), here).addresses
        try bench.release(vm("web", uid: "u1"))
        let again = vm("web", uid: "u2")
        try bench.allocate(again)
        try bench.transfer(again, "m", .prepare(target: sandbox("web-9", at: 900, node: "node-b")))
        try expectItPasses(again, with: addresses)
    }

    @Test(arguments: ["10.0.0.0/24", "10.0.0.0/23"])
    mutating func `a reuse delay shortened after a restart takes nothing back that was granted before`(
        prefix: String
    ) throws {
        let freed = try #require(try copy(vm("web", uid: "u1"), here).addresses.first)
        let addresses = try copy(vm("passed", uid: "u1"), sandbox("passed-1", at: 100, node: "node-a")).addresses
        try restart()
        try setReuseDelay(0, prefix: prefix)
        try bench.release(vm("web", uid: "u1"))
        #expect(try refusalToPass(vm("passed", uid: "u1"))?.reason == .copiesOutstanding)
        try expectNobodyElse(has: freed, for: 60)
        try bench.release(vm("other"))
        try expectItPasses(vm("passed", uid: "u1"), with: addresses)
    }

    @Test mutating func `what a VM moved away from waits for its node's copy, whatever the reuse delay`() throws {
        let owner = vm("web", uid: "u1")
        let old = try #require(try copy(owner, here).addresses.first)
        try bench.release(here, of: owner)
        try setReuseDelay(0)
        let again = sandbox("web-2", at: 200, node: "node-a")
        #expect(try bench.allocate(owner, again, addresses: ["10.0.0.77"]).addresses == ["10.0.0.77"])
        try expectNobodyElse(has: old, for: 60)
    }

    @Test mutating func `a binding of after the start waits for no copies of before`() throws {
        try restart()
        let owner = vm("web", uid: "u1")
        try copy(owner, here)
        try bench.release(here, of: owner)
        let again = sandbox("web-2", at: 200, node: "node-a")
        #expect(try bench.allocate(owner, again, addresses: ["10.0.0.77"]).addresses == ["10.0.0.77"])
    }
}
