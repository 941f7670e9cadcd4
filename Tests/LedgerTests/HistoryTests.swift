import Addresses
import IPAMModel
import Ledger
import Testing

@Suite struct `The ledger tells what was` {
    private static let agent = Caller(name: "agent", roles: .agent)
    private static let person = Caller(name: "person", roles: .operator)

    /// One command by itself, and what came to an end with it.
    private func past(
        _ bench: inout Bench, _ command: Command, by caller: Caller = agent
    ) throws -> [HistoryEntry] {
        bench.seconds += 1
        _ = try bench.ledger.apply(command, by: caller, at: bench.now)
        defer { bench.ledger.commit() }
        return bench.ledger.pending.compactMap { if case .putHistory(let entry) = $0 { entry } else { nil } }
    }

    private func bench() throws -> Bench {
        try Bench(
            pool(
                "net", poolPrefix("10.16.0.0/24", gateway: "10.16.0.1"), poolPrefix("fd00::/64"), isDefault: true))
    }

    @Test func `a VM's life, each time in one place once, with who began and ended it`() throws {
        var bench = try bench()
        let owner = vm("a", uid: "u")
        func allocate(_ attachment: Attachment?) -> Command {
            .allocate(AllocateRequest(owner: owner, attachment: attachment))
        }
        #expect(try past(&bench, allocate(nil), by: Self.person) == [])
        let start = bench.now
        let reserved = try past(&bench, allocate(sandbox("a-1", at: 10)))
        #expect(reserved.map(\.end) == [.attached])
        #expect(reserved.first?.since == start && reserved.first?.until == bench.now)
        #expect(reserved.first?.begunBy == "person" && reserved.first?.endedBy == "agent")
        #expect(reserved.first?.pod == "" && reserved.first?.addresses == [address("10.16.0.2"), address("fd00::1")])
        let attached = bench.now

        // The same pod, once more and in another sandbox: nothing came to an end.
        #expect(try past(&bench, allocate(sandbox("a-1", at: 10))) == [])
        #expect(try past(&bench, allocate(sandbox("a-1", 2, at: 10))) == [])
        func transfer(_ phase: TransferPhase, _ uid: String = "m") -> Command {
            .transfer(TransferRequest(owner: owner, migrationUID: uid, phase: phase))
        }
        #expect(try past(&bench, transfer(.prepare(target: sandbox("a-2", at: 11, node: "node-b")))) == [])
        let moved = try past(&bench, transfer(.commit(targetOwner: nil)))
        #expect(moved.map(\.end) == [.attached])
        #expect(moved.first?.node == "node-a" && moved.first?.pod == "a-1" && moved.first?.since == attached)
        #expect(bench.ledger.binding(of: owner.key)?.heldSince == bench.now)

        let halted = try past(
            &bench, .release(.attachment(sandbox("a-2").id, owner: owner, network: owner.network)))
        #expect(halted.map(\.end) == [.detached] && halted.first?.node == "node-b")
        let freed = try past(&bench, .release(.binding(owner)), by: Self.person)
        #expect(freed.map(\.end) == [.freed] && freed.first?.endedBy == "person" && freed.first?.pod == "")
        #expect(try past(&bench, .release(.binding(owner))) == [])
    }

    @Test func `another owner, a new VM of the name and another address end what was`() throws {
        var bench = try bench()
        _ = try past(&bench, .allocate(AllocateRequest(owner: vm("a", uid: "u-1"), attachment: sandbox("a-1", at: 10))))
        let anew = try past(
            &bench, .allocate(AllocateRequest(owner: vm("a", uid: "u-2"), attachment: sandbox("a-2", at: 20))))
        #expect(anew.map(\.end) == [.transferred] && anew.first?.owner.uid == "u-1")
        _ = try past(&bench, .release(.attachment(sandbox("a-2").id, owner: vm("a"), network: "net/eth0")))
        let elsewhere = try past(
            &bench, .allocate(AllocateRequest(owner: vm("a"), addresses: [address("10.16.0.77")])))
        #expect(elsewhere.map(\.end) == [.readdressed] && elsewhere.first?.addresses.first == address("10.16.0.2"))

        let target = sandbox("b-1", at: 30)
        func transfer(_ phase: TransferPhase) -> Command {
            .transfer(TransferRequest(owner: vm("a"), migrationUID: "m", phase: phase))
        }
        _ = try past(&bench, transfer(.prepare(target: target)))
        let given = try past(&bench, transfer(.commit(targetOwner: vm("b"))))
        #expect(given.map(\.end) == [.transferred] && given.first?.owner.key == vm("a").key)
        #expect(bench.ledger.binding(of: vm("b").key)?.heldSince == bench.now)
    }

    /// What was and what is now are all of the time since an address was first given, without a gap and nothing twice.
    @Test(arguments: [UInt64.random(in: 0 ... .max), 1, 2])
    func `of a random history nothing is missing and nothing is twice`(seed: UInt64) throws {
        var history = RandomHistory(Generator(seed: seed))
        var ledger = Ledger()
        var now = Timestamp(seconds: 1_800_000_000)
        /// Until when each address is told of, by whom last.
        var told: [IPAddress: [(from: Timestamp, until: Timestamp, owner: OwnerKey)]] = [:]
        var revisions: Set<UInt64> = []
        /// Of the ledger after each command: who has each address since when.
        var holders: [IPAddress: OwnerKey] = [:]
        var spans: [IPAddress: [(from: Timestamp, until: Timestamp, owner: OwnerKey)]] = [:]
        var began: [IPAddress: Timestamp] = [:]
        for _ in 0..<3000 {
            now = now.advanced(by: .seconds(Int64(history.number(1...20))))
            let command = history.next()
            _ = try? ledger.apply(command, at: now)
            for case .putHistory(let entry) in ledger.pending {
                let isFirst = revisions.insert(entry.revision).inserted
                #expect(isFirst, "seed \(seed)")
                let until = try #require(entry.until)
                for address in entry.addresses {
                    told[address, default: []].append((entry.since, until, entry.owner.key))
                }
            }
            ledger.commit()
            var present: [IPAddress: OwnerKey] = [:]
            for binding in ledger.snapshot.bindings {
                for assignment in binding.assignments { present[assignment.address] = binding.owner.key }
            }
            for (address, owner) in holders where present[address] != owner {
                let since = began.removeValue(forKey: address)
                spans[address, default: []].append((try #require(since), now, owner))
            }
            for (address, owner) in present where holders[address] != owner { began[address] = now }
            holders = present
        }
        for binding in ledger.snapshot.bindings {
            for assignment in binding.assignments {
                told[assignment.address, default: []].append((binding.heldSince, now, binding.owner.key))
                spans[assignment.address, default: []].append(
                    (try #require(began[assignment.address]), now, binding.owner.key))
            }
        }
        for (address, expected) in spans {
            var joined: [(from: Timestamp, until: Timestamp, owner: OwnerKey)] = []
            for part in told[address] ?? [] {
                if let last = joined.last, last.owner == part.owner, last.until == part.from {
                    joined[joined.count - 1].until = part.until
                } else {
                    joined.append(part)
                }
            }
            // An owner that frees an address and gets it again in one command has it all the time.
            try #require(
                joined.map { "\($0.owner) \($0.from) \($0.until)" }
                    == expected.map { "\($0.owner) \($0.from) \($0.until)" }, "seed \(seed), \(address)")
        }
    }
}
