import Addresses
import IPAMModel
import Ledger
import Testing

/// Batches, pages and restarts; random ones are in RandomHistoryTests.
@Suite struct BatchTests {
    private static let net = pool("net", poolPrefix("10.16.0.0/24", gateway: "10.16.0.1"), isDefault: true)

    private func allocate(_ name: String) -> Command { .allocate(AllocateRequest(owner: vm(name))) }

    @Test func `what an open batch did is not read before it is committed`() throws {
        var bench = try Bench(Self.net)
        let old = try bench.allocate(vm("a"))
        _ = try bench.ledger.apply(.release(.binding(vm("a"))), at: bench.now)
        _ = try bench.ledger.apply(allocate("b"), at: bench.now)
        _ = try bench.ledger.apply(.updatePool(pool("net", poolPrefix("10.16.0.0/16"), isDefault: true)), at: bench.now)
        #expect(bench.ledger.binding(of: vm("a").key) == old)
        #expect(bench.ledger.binding(holding: address("10.16.0.2")) == old)
        #expect(bench.ledger.binding(of: vm("b").key) == nil)
        #expect(bench.ledger.freed(address("10.16.0.2")) == nil)
        #expect(bench.ledger.pool(named: "net")?.prefixes == Self.net.prefixes)
        #expect(bench.ledger.usage(ofPool: "net", at: bench.now).map(\.reserved) == [1])
        #expect(bench.ledger.committedRevision == old.revision)
        #expect(bench.ledger.revision == old.revision + 3)
        bench.ledger.commit()
        #expect(bench.ledger.binding(of: vm("a").key) == nil)
        #expect(bench.ledger.binding(of: vm("b").key)?.addresses == ["10.16.0.3"])
        #expect(bench.ledger.committedRevision == bench.ledger.revision && bench.ledger.pending.isEmpty)
    }

    @Test func `a rollback leaves everything as it was, the order of freed addresses too`() throws {
        let small = pool("p", poolPrefix("10.0.0.0/29"), isDefault: true, reuseDelay: .seconds(0))
        var bench = try Bench(small)
        for name in ["a", "b", "c", "d", "e", "f"] { try bench.allocate(vm(name)) }
        for name in ["d", "a", "f"] { try bench.release(vm(name)) }
        let revision = bench.ledger.revision
        for command in [allocate("x"), .release(.binding(vm("b"))), allocate("y"), .release(.binding(vm("x")))] {
            _ = try bench.ledger.apply(command, at: bench.now)
        }
        bench.ledger.rollback()
        #expect(bench.ledger.revision == revision && bench.ledger.pending.isEmpty)
        #expect(bench.ledger.binding(of: vm("b").key)?.addresses == ["10.0.0.2"])
        let given = try (0..<3).flatMap { try bench.allocate(vm("new\($0)")).addresses }
        #expect(given == ["10.0.0.4", "10.0.0.1", "10.0.0.6"])
        #expect(bench.refusal { try $0.allocate(vm("more")) }?.reason == .poolExhausted)
    }

    @Test func `pages have every binding once, whatever comes and goes between them`() throws {
        var bench = try Bench(Self.net)
        for number in 0..<20 { try bench.allocate(vm("vm\(number)")) }
        var seen: [String] = []
        var token: String?
        repeat {
            let page = try bench.ledger.bindings(matching: BindingFilter(), after: token, limit: 7)
            #expect(page.bindings.count <= 7)
            seen += page.bindings.map(\.owner.name)
            token = page.token
            try bench.release(vm("vm0"))
            try bench.allocate(vm("vm19"), sandbox("p\(seen.count)"))
        } while token != nil
        #expect(seen.count == 20 && Set(seen).count == 20)
    }

    @Test func `filters choose by pool, namespace, name, node and state`() throws {
        var bench = try Bench(Self.net, pool("other", poolPrefix("10.17.0.0/24")))
        try bench.allocate(vm("a"), sandbox("a-1", node: "node-a"))
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2", node: "node-b")))
        try bench.allocate(vm("b"), sandbox("b-1", node: "node-b"))
        try bench.allocate(vm("b", namespace: "red"), pool: "other")
        func names(_ filter: BindingFilter) throws -> [String] {
            try bench.ledger.bindings(matching: filter, after: nil, limit: 10).bindings.map {
                "\($0.owner.namespace)/\($0.owner.name)"
            }
        }
        #expect(try names(BindingFilter(pool: "other")) == ["red/b"])
        #expect(try names(BindingFilter(namespace: "default")) == ["default/a", "default/b"])
        #expect(try names(BindingFilter(name: "b")) == ["default/b", "red/b"])
        #expect(try names(BindingFilter(namespace: "red", name: "b")) == ["red/b"])
        #expect(try names(BindingFilter(node: "node-b")) == ["default/a", "default/b"])
        #expect(try names(BindingFilter(state: .reserved)) == ["red/b"])
        #expect(try names(BindingFilter(namespace: "red", name: "a")).isEmpty)
    }

    @Test(arguments: ["", "x", "0", "0-", "-1", "0--1", "0-99999999999999999999", "0-500", "7-1", "0-1-2"])
    func `a page token that is none is refused`(token: String) throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"))
        let ledger = bench.ledger
        let refusal = bench.refusal { _ in
            _ = try ledger.bindings(matching: BindingFilter(), after: token, limit: 5)
        }
        #expect(refusal?.code == .invalidArgument && refusal?.metadata["field"] == "page_token")
    }

    // MARK: Restarts

    private static let binding = Binding(
        owner: vm("a"), pool: "net",
        assignments: [Assignment(address: address("10.16.0.9"), prefixLength: 24, gateway: address("10.16.0.1"))],
        mac: MACAddress(bits: 0x02_0000_0000_01), revision: 2, createdAt: Timestamp(seconds: 1),
        updatedAt: Timestamp(seconds: 1))

    private static func changed(_ change: (inout Binding) -> Void) -> Binding {
        var copy = binding
        change(&copy)
        return copy
    }

    @Test(arguments: [
        [changed { $0.owner.name = "b" }],
        [
            changed {
                $0.owner.name = "b"; $0.assignments[0].address = address("10.16.0.8")
            }
        ],
        [
            changed {
                $0.mac = MACAddress(bits: 2); $0.assignments[0].address = address("10.16.0.8")
            }
        ],
        [
            changed {
                $0.owner.name = "b"; $0.pool = "nope"
            }
        ],
    ])
    func `promise 1: a snapshot that has an owner, an address or a MAC twice is refused`(others: [Binding]) throws {
        let snapshot = Snapshot(revision: 5, pools: [Self.net], bindings: [Self.binding] + others)
        let refusal = refusal { try Ledger(snapshot) }
        #expect(refusal?.reason == .ledgerInconsistent)
    }

    @Test(arguments: [
        changed { $0.assignments = [] }, changed { $0.assignments[0].address = address("10.17.0.1") },
        changed { $0.assignments[0].address = address("10.16.0.1") }, changed { $0.migrationUID = "m" },
        changed { $0.target = sandbox("x") }, changed { $0.revision = 6 },
        changed { $0.assignments.append($0.assignments[0]) }, changed { $0.assignments[0].prefixLength = 16 },
    ])
    func `a snapshot with a binding that cannot be is refused`(binding: Binding) throws {
        let refusal = refusal { try Ledger(Snapshot(revision: 5, pools: [Self.net], bindings: [binding])) }
        #expect(refusal?.reason == .ledgerInconsistent)
        _ = try Ledger(Snapshot(revision: 5, pools: [Self.net], bindings: [Self.binding]))
    }

    @Test(arguments: [("10.16.0.9", "net"), ("10.17.0.9", "net"), ("10.16.0.8", "nope")])
    func `a snapshot with a freed address that is held or of no pool is refused`(text: String, pool: String) throws {
        let freed = FreedAddress(
            address: address(text), pool: pool, lastOwner: vm("z"), freedAt: Timestamp(seconds: 1), revision: 3)
        let snapshot = Snapshot(revision: 5, pools: [Self.net], bindings: [Self.binding], freed: [freed])
        #expect(refusal { try Ledger(snapshot) }?.reason == .ledgerInconsistent)
    }

    @Test func `a page token from before a restart is refused`() throws {
        var bench = try Bench(Self.net)
        for name in ["a", "b", "c"] { try bench.allocate(vm(name)) }
        let page = try bench.ledger.bindings(matching: BindingFilter(), after: nil, limit: 1)
        let all = try bench.ledger.bindings(matching: BindingFilter(), after: nil, limit: 9).bindings
        let restarted = try Ledger(
            Snapshot(revision: bench.ledger.revision, pools: bench.ledger.pools, bindings: all))
        let refusal = refusal { try restarted.bindings(matching: BindingFilter(), after: page.token, limit: 1) }
        #expect(refusal?.metadata["field"] == "page_token")
    }

    private func refusal<T>(_ body: () throws -> T) -> IPAMError? {
        do { _ = try body() } catch { return error as? IPAMError }
        return nil
    }
}
