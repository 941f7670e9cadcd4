import Addresses
import IPAMModel
import Ledger
import Testing

@Suite struct `A ledger that follows` {
    @Test(arguments: [UInt64.random(in: 0 ... .max), 1, 2, 3])
    func `is always what the leader's is`(seed: UInt64) throws {
        var history = RandomHistory(Generator(seed: seed))
        var (leader, follower) = (Ledger(), Ledger())
        var now = Timestamp(seconds: 1_800_000_000)
        for step in 0..<800 {
            for _ in 0..<history.number(1...6) {
                now = now.advanced(by: .seconds(Int64(history.number(0...20))))
                _ = try? leader.apply(history.next(), at: now)
            }
            let changes = leader.pending
            leader.commit()
            try follower.follow(history.shuffled(Self.last(of: changes)), revision: leader.committedRevision)
            let (expected, found) = (Facts(leader, at: now), Facts(follower, at: now))
            try #require(found == expected, "seed \(seed), step \(step)")
        }
        // It goes on as a ledger that is read from the store: neither knows of copies.
        leader = try Ledger(leader.snapshot)
        for _ in 0..<200 {
            now = now.advanced(by: .seconds(1))
            let command = history.next()
            // Which of two bindings a container's ID finds depends on where they lie in memory, as no real one does.
            guard case .allocate = command else { continue }
            let (a, b) = (Answer(&leader, command, now), Answer(&follower, command, now))
            try #require(a == b, "seed \(seed)")
        }
    }

    /// A commit says what has become of an address, not what was in between.
    @Test func `knows who had an address last, where it was given and freed again in one commit`() throws {
        var bench = try Bench(pool("net", poolPrefix("10.0.0.0/29"), reuseDelay: .seconds(1000)))
        try bench.allocate(vm("a"), pool: "net", addresses: ["10.0.0.1"])
        try bench.release(vm("a"))
        var follower = try Ledger(bench.ledger.snapshot)
        bench.seconds += 2000
        for command: Command in [
            .allocate(AllocateRequest(owner: vm("b"), pool: "net", addresses: [address("10.0.0.1")])),
            .release(.binding(vm("b"))),
        ] {
            _ = try bench.ledger.apply(command, at: bench.now)
        }
        let changes = Self.last(of: bench.ledger.pending)
        bench.ledger.commit()
        // The same once more: who begins to follow in the midst of a long commit reads it, and hears it.
        for _ in 0..<2 { try follower.follow(changes, revision: bench.ledger.committedRevision) }
        #expect(Facts(follower, at: bench.now) == Facts(bench.ledger, at: bench.now))
        #expect(follower.usage(ofPool: "net", at: bench.now).map(\.quarantined) == [1])
        let again = AllocateRequest(owner: vm("a"), pool: "net")
        guard case .allocated(let binding, _) = try follower.apply(.allocate(again), at: bench.now) else {
            throw WrongOutcome()
        }
        #expect(binding.addresses == ["10.0.0.2"], "10.0.0.1 waits, and was b's")
    }

    /// A ledger made anew would take long, and twice the room, where there are many bindings.
    @Test func `is not made anew where pools come, change and go`() throws {
        var bench = try Bench(pool("net", poolPrefix("10.0.0.0/29"), reuseDelay: .seconds(1000)))
        for name in ["a", "b", "c"] { try bench.allocate(vm(name), pool: "net") }
        try bench.release(vm("c"))
        var follower = try Ledger(bench.ledger.snapshot)
        let page = try follower.bindings(matching: BindingFilter(), after: nil, limit: 1)
        for change: Command in [
            .createPool(pool("other", poolPrefix("10.1.0.0/29"))),
            .updatePool(pool("net", poolPrefix("10.0.0.0/29"), reuseDelay: .seconds(10), quota: 7)),
            .updatePool(pool("net", poolPrefix("10.0.0.0/28", gateway: "10.0.0.9"), reuseDelay: .seconds(10))),
            .deletePool(name: "other"),
        ] {
            _ = try bench.ledger.apply(change, at: bench.now)
            let changes = Self.last(of: bench.ledger.pending)
            bench.ledger.commit()
            try follower.follow(changes, revision: bench.ledger.committedRevision)
            #expect(Facts(follower, at: bench.now) == Facts(bench.ledger, at: bench.now))
            bench.seconds += 1
        }
        // A page's token is good for the ledger that gave it only.
        let rest = try follower.bindings(matching: BindingFilter(), after: page.token, limit: 9).bindings
        #expect(Set((page.bindings + rest).map(\.owner.name)) == ["a", "b"] && page.bindings.count == 1)
    }

    /// It left one pool, and was given and freed again in another.
    @Test func `knows in which pool an address was freed last`() throws {
        let (all, none) = (poolPrefix("10.0.0.0/30"), poolPrefix("10.0.0.0/30", excluded: ["10.0.0.1"]))
        var bench = try Bench(pool("net", all, reuseDelay: .seconds(0)))
        try bench.allocate(vm("a"), pool: "net", addresses: ["10.0.0.1"])
        try bench.release(vm("a"))
        var follower = try Ledger(bench.ledger.snapshot)
        let part = pool("part", poolPrefix("10.0.0.0/30", excluded: ["10.0.0.2"]))
        for command: Command in [
            .updatePool(pool("net", none, reuseDelay: .seconds(0))), .createPool(part),
            .allocate(AllocateRequest(owner: vm("b"), pool: "part")), .release(.binding(vm("b"))),
        ] {
            _ = try bench.ledger.apply(command, at: bench.now)
        }
        let changes = Self.last(of: bench.ledger.pending)
        bench.ledger.commit()
        for _ in 0..<2 { try follower.follow(changes, revision: bench.ledger.committedRevision) }
        #expect(Facts(follower, at: bench.now) == Facts(bench.ledger, at: bench.now))
        #expect(follower.usage(ofPool: "part", at: bench.now).map(\.quarantined) == [1])
    }

    @Test(arguments: [
        [Change.removePool(name: "net")], [.putPool(pool("more", poolPrefix("10.0.0.0/30")))],
    ])
    func `does not serve a ledger in which a pool has gone wrong`(changes: [Change]) throws {
        var bench = try Bench(pool("net", poolPrefix("10.0.0.0/29")))
        try bench.allocate(vm("a"), pool: "net")
        var follower = bench.ledger
        let refusal = #expect(throws: IPAMError.self) { try follower.follow(changes, revision: 9) }
        #expect(refusal?.reason == .ledgerInconsistent)
    }

    /// Which of several holders a refusal names depends on where they lie in memory.
    private struct Answer: Equatable {
        var outcome: Outcome?
        var reason: IPAMError.Reason?

        init(_ ledger: inout Ledger, _ command: Command, _ now: Timestamp) {
            do throws(IPAMError) {
                outcome = try ledger.apply(command, at: now)
            } catch {
                reason = error.reason
            }
        }
    }

    /// What is left of a commit's changes where each key has one value: the last.
    private static func last(of changes: [Change]) -> [Change] {
        var last: [String: Change] = [:]
        for change in changes {
            switch change {
            case .putBinding(let binding), .removeBinding(let binding): last["\(binding.owner.key)"] = change
            case .putFreed(let freed): last["\(freed.address)"] = change
            case .removeFreed(let address): last["\(address)"] = change
            case .putPool(let pool): last["pool \(pool.name)"] = change
            case .removePool(let name): last["pool \(name)"] = change
            case .putHistory(let entry), .removeHistory(let entry): last["history \(entry.revision)"] = change
            }
        }
        return Array(last.values)
    }

    private struct Facts: Equatable {
        var revision: UInt64
        var pools: Set<Pool>
        var bindings: Set<Binding>
        var freed: Set<FreedAddress>
        var usage: [String: [PrefixUsage]]

        init(_ ledger: Ledger, at now: Timestamp) {
            let snapshot = ledger.snapshot
            revision = snapshot.revision
            pools = Set(snapshot.pools)
            bindings = Set(snapshot.bindings)
            freed = Set(snapshot.freed)
            usage = Dictionary(
                uniqueKeysWithValues: snapshot.pools.map { ($0.name, ledger.usage(ofPool: $0.name, at: now)) })
        }
    }
}
