import Addresses
import IPAMModel
import Ledger
import Testing

/// Which address a new owner gets.
@Suite struct FreeAddressTests {
    @Test(arguments: [
        (poolPrefix("10.0.0.0/30"), ["10.0.0.1", "10.0.0.2"]),
        (poolPrefix("10.0.0.0/30", gateway: "10.0.0.1"), ["10.0.0.2"]),
        (poolPrefix("10.0.0.0/30", usesEdgeAddresses: true), ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3"]),
        (poolPrefix("10.0.0.0/31"), ["10.0.0.0", "10.0.0.1"]),
        (poolPrefix("10.0.0.0/31", gateway: "10.0.0.0"), ["10.0.0.1"]),
        (poolPrefix("10.0.0.7/32"), ["10.0.0.7"]),
        (poolPrefix("10.0.0.7/32", gateway: "10.0.0.7"), []),
        (poolPrefix("255.255.255.252/30"), ["255.255.255.253", "255.255.255.254"]),
        (poolPrefix("fd00::/126"), ["fd00::1", "fd00::2", "fd00::3"]),
        (poolPrefix("fd00::/127"), ["fd00::", "fd00::1"]),
        (poolPrefix("fd00::9/128"), ["fd00::9"]),
        (
            poolPrefix("10.0.0.0/29", excluded: ["10.0.0.2", "10.0.0.4..10.0.0.5", "10.0.0.4/31"]),
            ["10.0.0.1", "10.0.0.3", "10.0.0.6"]
        ),
    ])
    func `a prefix gives these, lowest first, and then no more`(prefix: PoolPrefix, expected: [String]) throws {
        var bench = try Bench(pool("p", prefix, isDefault: true))
        #expect(bench.ledger.usage(ofPool: "p", at: bench.now).map(\.total) == [UInt64(expected.count)])
        for (number, address) in expected.enumerated() {
            let binding = try bench.allocate(vm("vm\(number)"))
            #expect(binding.addresses == [address])
        }
        let refusal = bench.refusal { try $0.allocate(vm("more")) }
        #expect(refusal?.code == .resourceExhausted && refusal?.reason == .poolExhausted)
    }

    @Test(arguments: ["0.0.0.0/0", "::/0", "10.0.0.0/8", "fd00::/64"])
    func `large prefixes count without overflow`(text: String) throws {
        var bench = try Bench(pool("p", poolPrefix(text), isDefault: true))
        try bench.allocate(vm("a"))
        let usage = try #require(bench.ledger.usage(ofPool: "p", at: bench.now).first)
        let prefix = try #require(IPPrefix(text))
        let most = prefix.hostMask - (prefix.family == .ipv4 ? 1 : 0)
        #expect(usage.total == UInt64(clamping: most))
        #expect(usage.free == (usage.total == .max ? .max : usage.total - 1))
        #expect(usage.reserved == 1)
    }

    @Test func `one address of each family, from the first prefix that has one; all or nothing`() throws {
        var bench = try Bench(
            pool(
                "p", poolPrefix("fd00::/126"), poolPrefix("10.0.0.0/32"), poolPrefix("10.0.0.8/30"), isDefault: true))
        #expect(try bench.allocate(vm("a")).addresses == ["10.0.0.0", "fd00::1"])
        #expect(try bench.allocate(vm("b"), addresses: ["fd00::3"]).addresses == ["10.0.0.9", "fd00::3"])
        #expect(try bench.allocate(vm("c")).addresses == ["10.0.0.10", "fd00::2"])
        #expect(bench.refusal { try $0.allocate(vm("d")) }?.metadata["family"] == "IPv4")
        try bench.release(vm("b"))
        #expect(bench.refusal { try $0.allocate(vm("d"), addresses: ["10.0.0.99"]) }?.reason == .addressOutsidePool)
    }

    @Test func `a VM made anew under its name gets what it had, while nobody else has it`() throws {
        var bench = try Bench(
            pool("p", poolPrefix("10.0.0.0/29"), poolPrefix("fd00::/64"), isDefault: true))
        try bench.allocate(vm("a"))
        let before = try bench.allocate(vm("b", uid: "older"))
        try bench.release(vm("b"))
        // At once: quarantine is for others.
        let after = try bench.allocate(vm("b", uid: "newer"))
        #expect(after.addresses == before.addresses && after.mac == before.mac)
        // And later, as long as there are others to give.
        try bench.release(vm("b"))
        bench.seconds += 600
        try bench.allocate(vm("c"))
        #expect(try bench.allocate(vm("b")).addresses == before.addresses)
        try bench.release(vm("b"))
        bench.seconds += 600
        try bench.allocate(vm("d"), addresses: ["10.0.0.2"])
        #expect(try bench.allocate(vm("b")).addresses == ["10.0.0.4", "fd00::2"])
        // A pod's name does not come again.
        let first = try bench.allocate(pod("web")).addresses
        try bench.release(pod("web"))
        #expect(try bench.allocate(pod("web")).addresses != first)
    }

    @Test func `when none is unused, the one freed first is given, once the pool's delay has passed`() throws {
        var bench = try Bench(pool("p", poolPrefix("10.0.0.0/29"), isDefault: true, reuseDelay: .seconds(60)))
        for name in ["a", "b", "c", "d", "e"] { try bench.allocate(vm(name)) }
        for name in ["c", "a", "e"] {
            try bench.release(vm(name))
            bench.seconds += 10
        }
        // The sixth was never used.
        #expect(try bench.allocate(vm("f")).addresses == ["10.0.0.6"])
        let full = bench.refusal { try $0.allocate(vm("g")) }
        #expect(full?.reason == .poolExhausted)
        #expect(full?.metadata["availableAt"] == "1970-01-01T00:17:40Z")
        #expect(full?.message.contains("1970-01-01T00:17:40Z") == true)
        bench.seconds = 1_059
        #expect(bench.refusal { try $0.allocate(vm("g")) }?.reason == .poolExhausted)
        bench.seconds = 1_060
        #expect(try bench.allocate(vm("g")).addresses == ["10.0.0.3"])
        #expect(bench.refusal { try $0.allocate(vm("h")) }?.reason == .poolExhausted)
        bench.seconds = 1_100
        #expect(try bench.allocate(vm("h")).addresses == ["10.0.0.1"])
        #expect(try bench.allocate(vm("i")).addresses == ["10.0.0.5"])
    }

    @Test func `a quarantined address is its last owner's at once, and another's after the delay only`() throws {
        var bench = try Bench(pool("p", poolPrefix("10.0.0.0/24"), isDefault: true, reuseDelay: .seconds(60)))
        try bench.allocate(vm("a", uid: "u1"))
        try bench.release(vm("a", uid: "u1"))
        let refusal = bench.refusal { try $0.allocate(vm("b"), addresses: ["10.0.0.1"]) }
        #expect(refusal?.code == .failedPrecondition && refusal?.reason == .addressQuarantined)
        #expect(
            refusal?.metadata == [
                "field": "addresses", "address": "10.0.0.1", "lastOwner": "vm default/a",
                "availableAt": "1970-01-01T00:17:40Z",
            ])
        #expect(try bench.allocate(vm("a", uid: "u2"), addresses: ["10.0.0.1"]).addresses == ["10.0.0.1"])
        #expect(bench.ledger.freed(address("10.0.0.1")) == nil)
        try bench.release(vm("a"))
        bench.seconds += 60
        #expect(try bench.allocate(vm("b"), addresses: ["10.0.0.1"]).addresses == ["10.0.0.1"])
    }

    @Test func `the order of freeing survives a restart`() throws {
        let small = pool("p", poolPrefix("10.0.0.0/29"), isDefault: true, reuseDelay: .seconds(0))
        var bench = try Bench(small)
        var snapshot = Snapshot(pools: bench.ledger.pools)
        for name in ["a", "b", "c", "d", "e", "f"] { try bench.allocate(vm(name)) }
        for name in ["d", "a", "f", "b"] { try bench.release(vm(name)) }
        snapshot.revision = bench.ledger.revision
        snapshot.bindings = try bench.ledger.bindings(matching: BindingFilter(), after: nil, limit: 10).bindings
        snapshot.freed = ["10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.6"].compactMap {
            bench.ledger.freed(address($0))
        }
        bench.ledger = try Ledger(snapshot)
        let given = try (0..<4).flatMap { try bench.allocate(vm("new\($0)")).addresses }
        #expect(given == ["10.0.0.4", "10.0.0.1", "10.0.0.6", "10.0.0.2"])
    }

    @Test func `short-lived owners in a huge prefix do not pile up freed addresses without end`() throws {
        var bench = try Bench(pool("p", poolPrefix("fd00::/64"), isDefault: true, reuseDelay: .seconds(0)))
        let request = Command.allocate(AllocateRequest(owner: pod("short")))
        var highest = address("fd00::")
        for _ in 0..<66_000 {
            guard case .allocated(let binding, _) = try bench.ledger.apply(request, at: bench.now) else { break }
            highest = max(highest, binding.assignments[0].address)
            _ = try bench.ledger.apply(.release(.binding(pod("short"))), at: bench.now)
            bench.ledger.commit()
        }
        #expect(highest == address("fd00::1:1"))
    }
}
