import Addresses
import IPAMModel
import Testing

@testable import Ledger

@Suite struct PoolTests {
    private static let net = pool("net", poolPrefix("10.16.0.0/24", gateway: "10.16.0.1"), isDefault: true)

    @Test func `a pool is made once, and an identical repeat says the same`() throws {
        var bench = try Bench(Self.net)
        let revision = bench.ledger.revision
        guard case .pool(let again) = try bench.run(.createPool(Self.net)) else { throw WrongOutcome() }
        #expect(again == bench.ledger.pool(named: "net") && again.revision == revision)
        #expect(bench.ledger.revision == revision)
        let other = pool("net", poolPrefix("10.17.0.0/24"))
        let refusal = bench.refusal { try $0.run(.createPool(other)) }
        #expect(refusal?.code == .alreadyExists && refusal?.reason == .poolExists)
    }

    @Test func `other routes or DNS of a pool are another revision of its bindings, another quota is none`() throws {
        var bench = try Bench(Self.net)
        var changed = try #require(bench.ledger.pool(named: "net"))
        let first = try bench.allocate(vm("a"), sandbox("a-1"))
        bench.seconds += 5
        changed.dns = DNS(nameservers: [address("10.16.0.53")])
        try bench.run(.updatePool(changed))
        let second = try #require(bench.ledger.binding(of: vm("a").key))
        #expect(second.revision == bench.ledger.revision && second.updatedAt == first.updatedAt)
        #expect(second.heldSince == first.heldSince && second.active == sandbox("a-1"))
        changed.revision = 0
        changed.routes = [Route(destination: try #require(IPPrefix("10.96.0.0/12")))]
        try bench.run(.updatePool(changed))
        let third = try #require(bench.ledger.binding(of: vm("a").key))
        #expect(third.revision > second.revision)
        changed.namespaceQuota = 7
        try bench.run(.updatePool(changed))
        #expect(bench.ledger.binding(of: vm("a").key) == third)
    }

    @Test(arguments: [
        (pool("p"), "pool.prefixes"), (pool("", poolPrefix("10.0.0.0/24")), "pool.name"),
        (pool("p", poolPrefix("10.0.0.0/24", gateway: "10.0.1.1")), "pool.prefixes[0].gateway"),
        (pool("p", poolPrefix("10.0.0.0/24", gateway: "fd00::1")), "pool.prefixes[0].gateway"),
        (
            pool("p", poolPrefix("fd00::/64"), poolPrefix("10.0.0.0/24", gateway: "10.0.0.0")),
            "pool.prefixes[1].gateway"
        ),
        (pool("p", poolPrefix("10.0.0.0/24", excluded: ["10.0.0.250..10.0.1.3"])), "pool.prefixes[0].excluded"),
        (pool("p", poolPrefix("10.0.0.0/24", excluded: ["fd00::1"])), "pool.prefixes[0].excluded"),
    ])
    func `a pool that makes no sense is refused, naming the field`(pool: Pool, field: String) throws {
        var bench = try Bench()
        let refusal = bench.refusal { try $0.run(.createPool(pool)) }
        #expect(refusal?.code == .invalidArgument && refusal?.metadata["field"] == field)
    }

    @Test func `promise 1: prefixes overlap neither within a pool nor between pools`() throws {
        var bench = try Bench(Self.net)
        let within = pool("p", poolPrefix("10.0.0.0/24"), poolPrefix("10.0.0.128/25"))
        #expect(bench.refusal { try $0.run(.createPool(within)) }?.reason == .poolOverlap)
        let between = pool("p", poolPrefix("fd00::/64"), poolPrefix("10.0.0.0/8"))
        let refusal = bench.refusal { try $0.run(.createPool(between)) }
        #expect(refusal?.code == .alreadyExists && refusal?.reason == .poolOverlap)
        #expect(refusal?.metadata["pool"] == "net" && refusal?.metadata["prefix"] == "10.0.0.0/8")
        try bench.run(.createPool(pool("p", poolPrefix("10.17.0.0/16"))))
        let grown = pool("p", poolPrefix("10.16.0.0/15"))
        #expect(bench.refusal { try $0.run(.updatePool(grown)) }?.reason == .poolOverlap)
    }

    @Test func `1024 pools are as many as there may be; a ledger that has more is read all the same`() throws {
        func numbered(_ number: Int) -> Pool {
            pool("p\(number)", poolPrefix("10.\(number / 256).\(number % 256).0/24"))
        }
        var bench = try Bench()
        for number in 0..<Ledger.mostPools { try bench.run(.createPool(numbered(number))) }
        let refusal = bench.refusal { try $0.run(.createPool(numbered(2000))) }
        #expect(refusal?.code == .resourceExhausted && refusal?.reason == .tooManyPools)
        #expect(refusal?.isRetryable == false)
        let inline = pool("10.99.0.0-24", poolPrefix("10.99.0.0/24"))
        let agent = Caller(name: "agent", roles: .agent, node: "node-a")
        let ofAgent = bench.refusal { _ = try $0.ledger.apply(.createPool(inline), by: agent, at: $0.now) }
        #expect(ofAgent?.reason == .tooManyPools)
        try bench.run(.createPool(numbered(7)))
        try bench.run(.updatePool(pool("p7", poolPrefix("10.0.7.0/24", gateway: "10.0.7.1"))))
        try bench.run(.deletePool(name: "p8"))
        try bench.run(.createPool(numbered(2000)))
        var snapshot = bench.ledger.snapshot
        snapshot.pools.append(numbered(2001))
        #expect(try Ledger(snapshot).pools.count == Ledger.mostPools + 1)
    }

    @Test func `a prefix among others is found in whatever order they are`() throws {
        let many = pool(
            "many", poolPrefix("10.3.0.0/16"), poolPrefix("fd00:1::/64"), poolPrefix("10.1.0.0/16"),
            poolPrefix("10.200.0.0/13"))
        var bench = try Bench(many)
        for (text, isIn) in [
            ("10.0.0.0/16", false), ("10.1.0.0/24", true), ("10.1.255.255/32", true), ("10.2.0.0/16", false),
            ("10.3.4.0/30", true), ("10.4.0.0/14", false), ("10.2.0.0/15", true), ("10.207.255.0/24", true),
            ("10.208.0.0/16", false), ("0.0.0.0/0", true), ("fd00::/64", false), ("fd00::/15", true),
            ("fd00:1:0:1::/64", false), ("::/1", false),
        ] {
            let refusal = bench.refusal { try $0.run(.createPool(pool("one", poolPrefix(text)))) }
            #expect((refusal?.reason == .poolOverlap) == isIn, "\(text)")
            try bench.run(.deletePool(name: "one"))
        }
        // And the other way round.
        bench = try Bench(pool("one", poolPrefix("10.2.0.0/16")))
        try bench.run(.createPool(many))
        try bench.run(.deletePool(name: "many"))
        bench = try Bench(pool("one", poolPrefix("10.1.7.0/24")))
        #expect(bench.refusal { try $0.run(.createPool(many)) }?.reason == .poolOverlap)
    }

    @Test func `two pools may be parts of one network, each with its length and gateway`() throws {
        let rest = poolPrefix("10.16.0.0/24", gateway: "10.16.0.1", excluded: ["10.16.0.8/29"])
        let part = poolPrefix(
            "10.16.0.0/24", gateway: "10.16.0.1", excluded: ["10.16.0.0/29", "10.16.0.16..10.16.0.255"])
        var bench = try Bench(pool("net", rest, isDefault: true), pool("part", part))
        #expect(try bench.allocate(vm("a")).addresses == ["10.16.0.2"])
        let assignment = Assignment(address: address("10.16.0.8"), prefixLength: 24, gateway: address("10.16.0.1"))
        #expect(try bench.allocate(vm("b"), pool: "part").assignments == [assignment])
        #expect(try bench.allocate(vm("c"), addresses: ["10.16.0.9"]).pool == "part", "without its name as well")
        let elsewhere = bench.refusal { try $0.allocate(vm("d"), pool: "net", addresses: ["10.16.0.10"]) }
        #expect(elsewhere?.reason == .addressExcluded)
        #expect(["net", "part"].map { bench.ledger.usage(ofPool: $0, at: bench.now).map(\.total) } == [[245], [8]])
        #expect(try bench.release(vm("b")) == nil && bench.ledger.freed(address("10.16.0.8"))?.pool == "part")
        let restarted = try Ledger(bench.ledger.snapshot)
        #expect(restarted.freed(address("10.16.0.8"))?.pool == "part")
    }

    @Test(arguments: [
        // An address too many; a gateway that the other gives; the other's gateway; a network of another length.
        poolPrefix("10.16.0.0/24", excluded: ["10.16.0.0..10.16.0.8", "10.16.0.17..10.16.0.255"]),
        poolPrefix(
            "10.16.0.0/24", gateway: "10.16.0.20",
            excluded: ["10.16.0.0..10.16.0.8", "10.16.0.16/28", "10.16.0.32..10.16.0.255"]),
        poolPrefix("10.16.0.0/24", excluded: ["10.16.0.0..10.16.0.7", "10.16.0.9..10.16.0.255"]),
        poolPrefix("10.16.0.8/29", usesEdgeAddresses: true),
    ])
    func `promise 1: but no address of one may be the other's`(part: PoolPrefix) throws {
        let rest = poolPrefix("10.16.0.0/24", gateway: "10.16.0.8", excluded: ["10.16.0.9..10.16.0.15"])
        var bench = try Bench(pool("net", rest, isDefault: true))
        #expect(bench.refusal { try $0.run(.createPool(pool("part", part))) }?.reason == .poolOverlap)
        try bench.run(.createPool(pool("part", poolPrefix("10.17.0.0/24"))))
        #expect(bench.refusal { try $0.run(.updatePool(pool("part", part))) }?.reason == .poolOverlap)
    }

    @Test func `promise 1: an address that goes to another pool of its network has waited before`() throws {
        var bench = try Bench(pool("net", poolPrefix("10.16.0.0/29")))
        let (freed, name) = (address("10.16.0.1"), "part")
        try bench.allocate(vm("a"), pool: "net")
        try bench.release(vm("a"))
        try bench.run(.updatePool(pool("net", poolPrefix("10.16.0.0/29", excluded: ["10.16.0.1..10.16.0.2"]))))
        let part = pool(name, poolPrefix("10.16.0.0/29", excluded: ["10.16.0.2..10.16.0.7"]))
        let early = bench.refusal { try $0.run(.createPool(part)) }
        #expect(early?.reason == .poolInUse && early?.metadata["pool"] == "net")
        #expect(early?.metadata["address"] == "10.16.0.1" && early?.metadata["availableAt"] != nil)
        try bench.run(.createPool(pool(name, poolPrefix("10.17.0.0/29"))))
        #expect(bench.refusal { try $0.run(.updatePool(part)) }?.reason == .poolInUse)
        bench.seconds += 60
        _ = try bench.ledger.apply(.updatePool(part), at: bench.now)
        #expect(bench.ledger.pending.contains(.removeFreed(freed)))
        bench.ledger.rollback()
        #expect(bench.ledger.freed(freed)?.pool == "net")
        try bench.run(.updatePool(part))
        #expect(bench.ledger.freed(freed) == nil)
        #expect(try bench.allocate(vm("b"), pool: name).addresses == ["10.16.0.1"])
        try bench.release(vm("b"))
        #expect(try Ledger(bench.ledger.snapshot).freed(freed)?.pool == name, "one pool's only")
    }

    @Test func `there is one default pool at most`() throws {
        var bench = try Bench(Self.net)
        let second = pool("p", poolPrefix("10.0.0.0/24"), isDefault: true)
        let refusal = bench.refusal { try $0.run(.createPool(second)) }
        #expect(refusal?.code == .failedPrecondition && refusal?.metadata["pool"] == "net")
        try bench.run(.updatePool(pool("net", poolPrefix("10.16.0.0/24", gateway: "10.16.0.1"))))
        try bench.run(.createPool(second))
        #expect(try bench.allocate(vm("a")).pool == "p")
    }

    @Test func `an update is based on the revision it names, and its repeat is no change`() throws {
        var bench = try Bench(Self.net)
        let first = try #require(bench.ledger.pool(named: "net")).revision
        let changed = pool("net", poolPrefix("10.16.0.0/16", gateway: "10.16.0.1"), isDefault: true, revision: first)
        guard case .pool(let updated) = try bench.run(.updatePool(changed)) else { throw WrongOutcome() }
        #expect(updated.revision == first + 1)
        #expect(try bench.run(.updatePool(changed)) == .pool(updated))
        var stale = changed
        stale.namespaceQuota = 7
        let refusal = bench.refusal { try $0.run(.updatePool(stale)) }
        #expect(refusal?.code == .aborted && refusal?.reason == .poolChanged)
        stale.revision = 0
        try bench.run(.updatePool(stale))
        let missing = bench.refusal { try $0.run(.updatePool(pool("nope", poolPrefix("10.0.0.0/24")))) }
        #expect(missing?.code == .notFound && missing?.reason == .poolNotFound)
    }

    @Test func `bindings follow their pool's new prefix and gateway`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"), sandbox("a-1"))
        try bench.run(.updatePool(pool("net", poolPrefix("10.16.0.0/16", gateway: "10.16.9.9"), isDefault: true)))
        let binding = try #require(bench.ledger.binding(of: vm("a").key))
        #expect(
            binding.assignments == [
                Assignment(address: address("10.16.0.2"), prefixLength: 16, gateway: address("10.16.9.9"))
            ])
        #expect(binding.revision == bench.ledger.revision && binding.active == sandbox("a-1"))
        #expect(try bench.allocate(vm("b")).addresses == ["10.16.0.1"], "the old gateway is free now")
        #expect(try bench.allocate(vm("c")).addresses == ["10.16.0.3"])
    }

    @Test(arguments: [
        poolPrefix("10.16.0.128/25"), poolPrefix("10.16.0.0/24", gateway: "10.16.0.2"),
        poolPrefix("10.16.0.0/24", gateway: "10.16.0.1", excluded: ["10.16.0.0/30"]),
    ])
    func `an update that takes a held address out of the pool is refused, naming the holder`(prefix: PoolPrefix) throws
    {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"))
        let refusal = bench.refusal { try $0.run(.updatePool(pool("net", prefix, isDefault: true))) }
        #expect(refusal?.code == .failedPrecondition && refusal?.reason == .poolInUse)
        #expect(refusal?.metadata["holder"] == "vm default/a" && refusal?.metadata["address"] == "10.16.0.2")
    }

    @Test func `promise 1: a freed address waits its time, whatever an update excludes meanwhile`() throws {
        var bench = try Bench(Self.net)
        for name in ["a", "b", "c"] { try bench.allocate(vm(name)) }
        for name in ["a", "b", "c"] { try bench.release(vm(name)) }
        let excluding = pool(
            "net", poolPrefix("10.16.0.0/28", gateway: "10.16.0.1", excluded: ["10.16.0.3"]), isDefault: true)
        try bench.run(.updatePool(excluding))
        #expect(bench.ledger.freed(address("10.16.0.3"))?.lastOwner == vm("b"))
        #expect(bench.ledger.usage(ofPool: "net", at: bench.now).map(\.quarantined) == [2])
        #expect(try bench.allocate(vm("d")).addresses == ["10.16.0.5"])
        let excluded = bench.refusal { try $0.allocate(vm("b"), addresses: ["10.16.0.3"]) }
        #expect(excluded?.reason == .addressExcluded)
        try bench.run(.updatePool(Self.net))
        let early = bench.refusal { try $0.allocate(vm("e"), addresses: ["10.16.0.3"]) }
        #expect(early?.reason == .addressQuarantined, "and taken back it is still not ready")
        #expect(try bench.allocate(vm("e")).addresses == ["10.16.0.6"])
    }

    @Test func `an excluded freed address is never proposed, also when it is ready`() throws {
        let wide = pool("p", poolPrefix("10.0.0.0/30", usesEdgeAddresses: true), isDefault: true)
        var bench = try Bench(wide)
        for name in ["a", "b", "c", "d"] { try bench.allocate(vm(name)) }
        try bench.release(vm("a"))
        try bench.release(vm("b"))
        try bench.run(
            .updatePool(
                pool(
                    "p", poolPrefix("10.0.0.0/30", excluded: ["10.0.0.0"], usesEdgeAddresses: true), isDefault: true)))
        bench.seconds += 60
        #expect(try bench.allocate(vm("e")).addresses == ["10.0.0.1"])
        #expect(bench.refusal { try $0.allocate(vm("f")) }?.reason == .poolExhausted)
        try bench.run(.updatePool(wide))
        #expect(try bench.allocate(vm("f")).addresses == ["10.0.0.0"])
    }

    @Test func `promise 1: no freed address leaves its pool before its time`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"))
        try bench.release(vm("a"))
        let smaller = Command.updatePool(pool("net", poolPrefix("10.16.0.128/25"), isDefault: true))
        for command in [smaller, .deletePool(name: "net")] {
            let refusal = bench.refusal { try $0.run(command) }
            #expect(refusal?.code == .failedPrecondition && refusal?.reason == .poolInUse)
            #expect(refusal?.metadata["address"] == "10.16.0.2" && refusal?.metadata["availableAt"] != nil)
        }
        bench.seconds += 60
        _ = try bench.ledger.apply(smaller, at: bench.now)
        #expect(bench.ledger.pending.contains(.removeFreed(address("10.16.0.2"))))
        bench.ledger.commit()
        #expect(bench.ledger.freed(address("10.16.0.2")) == nil)
    }

    @Test func `a pool is deleted once it has no bindings, and a missing one is deleted already`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"))
        let refusal = bench.refusal { try $0.run(.deletePool(name: "net")) }
        #expect(refusal?.code == .failedPrecondition && refusal?.reason == .poolInUse)
        #expect(refusal?.metadata["holder"] == "vm default/a")
        try bench.release(vm("a"))
        bench.seconds += 60
        #expect(try bench.run(.deletePool(name: "net")) == .poolDeleted)
        #expect(bench.ledger.pool(named: "net") == nil && bench.ledger.pools.isEmpty)
        #expect(bench.ledger.freed(address("10.16.0.2")) == nil)
        let revision = bench.ledger.revision
        #expect(try bench.run(.deletePool(name: "net")) == .poolDeleted)
        #expect(bench.ledger.revision == revision)
        #expect(bench.refusal { try $0.allocate(vm("a")) }?.reason == .noDefaultPool)
    }

    @Test func `a pool that is deleted leaves nothing behind, and its place to the next`() throws {
        var bench = try Bench(Self.net)
        for number in 1...9 {
            try bench.run(.createPool(pool("p\(number)", poolPrefix("10.0.0.0/24"))))
            try bench.run(.deletePool(name: "p\(number)"))
        }
        #expect(bench.ledger.spaces.count == 2)
        try bench.run(.createPool(pool("p", poolPrefix("10.0.0.0/24"))))
        _ = try bench.ledger.apply(.deletePool(name: "p"), at: bench.now)
        _ = try bench.ledger.apply(.createPool(pool("q", poolPrefix("10.0.0.0/24"))), at: bench.now)
        #expect(bench.ledger.pools.map(\.name) == ["net", "p"], "until the commit")
        bench.ledger.rollback()
        #expect(bench.ledger.pools.map(\.name) == ["net", "p"])
        #expect(try bench.allocate(vm("a"), pool: "p").addresses == ["10.0.0.1"])
    }

    @Test func `usage tells bound, reserved, quarantined and free, prefix by prefix`() throws {
        var bench = try Bench(pool("p", poolPrefix("10.0.0.0/29"), poolPrefix("fd00::/125"), isDefault: true))
        try bench.allocate(vm("a"), sandbox("a-1"))
        try bench.allocate(vm("b"))
        try bench.allocate(vm("c"))
        try bench.release(vm("c"))
        let now = try #require(bench.ledger.usage(ofPool: "p", at: bench.now).first)
        #expect(now.total == 6 && now.bound == 1 && now.reserved == 1 && now.quarantined == 1 && now.free == 3)
        bench.seconds += 60
        let later = bench.ledger.usage(ofPool: "p", at: bench.now)
        #expect(later.map(\.quarantined) == [0, 0] && later.map(\.free) == [4, 5])
        #expect(bench.ledger.usage(ofPool: "nope", at: bench.now).isEmpty)
    }
}
