import Addresses
import IPAMModel
import Ledger
import Testing

@Suite struct AllocateTests {
    private static let net = pool("net", poolPrefix("10.16.0.0/24", gateway: "10.16.0.1"), isDefault: true)

    // MARK: The state table

    @Test func `a binding is made of a pool as it was meant, or not at all`() throws {
        var bench = try Bench(pool("net", poolPrefix("10.16.0.0/24")))
        let revision = try #require(bench.ledger.pool(named: "net")?.revision)
        func allocate(_ name: String, _ revision: UInt64?) -> IPAMError? {
            bench.refusal {
                try $0.run(.allocate(AllocateRequest(owner: vm(name), pool: "net", poolRevision: revision)))
            }
        }
        #expect(allocate("a", revision) == nil)
        try bench.run(.updatePool(pool("net", poolPrefix("10.16.0.0/24", gateway: "10.16.0.66"))))
        let refusal = allocate("b", revision)
        #expect(refusal?.code == .aborted && refusal?.reason == .poolChanged)
        #expect(allocate("a", revision) == nil, "it has its addresses")
        #expect(allocate("b", bench.ledger.pool(named: "net")?.revision) == nil && allocate("c", nil) == nil)
    }

    @Test func `an owner without a binding gets a free address, a MAC, and is bound or reserved`() throws {
        var bench = try Bench(Self.net)
        let bound = try bench.allocate(vm("a"), sandbox("a-1"))
        #expect(bound.state == .bound)
        #expect(bound.active == sandbox("a-1"))
        #expect(
            bound.assignments == [
                Assignment(address: address("10.16.0.2"), prefixLength: 24, gateway: address("10.16.0.1"))
            ])
        // Locally administered, and no group.
        #expect(bound.mac.bits >> 40 & 3 == 2)
        let reserved = try bench.allocate(vm("b"))
        #expect(reserved.state == .reserved)
        #expect(reserved.addresses == ["10.16.0.3"])
        #expect(reserved.mac != bound.mac)
    }

    @Test func `promise 2: a VM keeps its address and MAC over stops and restarts on any node`() throws {
        var bench = try Bench(Self.net)
        let first = try bench.allocate(vm("a"), sandbox("a-1", at: 1))
        let restarted = try bench.allocate(vm("a"), sandbox("a-2", at: 2, node: "node-b"))
        #expect(restarted.active == sandbox("a-2", at: 2, node: "node-b"))
        try bench.release(sandbox("a-2"), of: vm("a"))
        try bench.allocate(vm("b"))
        let again = try bench.allocate(vm("a"), sandbox("a-3", at: 3))
        #expect(again.assignments == first.assignments && again.mac == first.mac)
        #expect(again.createdAt == first.createdAt)
    }

    @Test func `promise 4: a repeated Allocate changes nothing and says the same`() throws {
        var bench = try Bench(Self.net)
        let request = Command.allocate(AllocateRequest(owner: vm("a", uid: "u"), attachment: sandbox("a-1")))
        guard case .allocated(let first, created: true) = try bench.run(request) else { throw WrongOutcome() }
        bench.seconds += 5
        #expect(try bench.ledger.apply(request, at: bench.now) == .allocated(first, created: false))
        #expect(bench.ledger.pending.isEmpty)
        #expect(bench.ledger.revision == first.revision)
        let ahead = try bench.allocate(vm("a"))
        #expect(ahead == first, "asked for ahead of any pod, a binding is as it is")
    }

    @Test func `a uid that was not known is filled in, and then kept`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"))
        #expect(try bench.allocate(vm("a", uid: "u1")).owner.uid == "u1")
        let kept = try bench.allocate(vm("a"))
        #expect(kept.owner.uid == "u1")
    }

    @Test func `a VM made anew under the same name takes the binding over`() throws {
        var bench = try Bench(Self.net)
        let old = try bench.allocate(vm("a", uid: "u1"), sandbox("a-1", at: 10))
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2", at: 11)))
        let new = try bench.allocate(vm("a", uid: "u2"), sandbox("a-3", at: 12))
        #expect(new.owner.uid == "u2")
        #expect(new.addresses == old.addresses && new.mac == old.mac)
        #expect(new.active == sandbox("a-3", at: 12) && new.target == nil)
        #expect(new.endedMigration == EndedMigration(uid: "m", outcome: .aborted))
        for late in [sandbox("a-1"), sandbox("a-2")] {
            let refusal = bench.refusal { try $0.allocate(vm("a", uid: "u1"), late) }
            #expect(refusal?.reason == .attachmentSuperseded)
        }
        let older = bench.refusal { try $0.allocate(vm("a", uid: "u3"), sandbox("a-0", at: 9)) }
        #expect(older?.reason == .attachmentSuperseded)
    }

    @Test func `a VM made anew may ask for another address while the old one's pod is still attached`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a", uid: "u1"), sandbox("a-1"))
        let new = try bench.allocate(vm("a", uid: "u2"), sandbox("a-2"), addresses: ["10.16.0.9"])
        #expect(new.addresses == ["10.16.0.9"])
        #expect(bench.ledger.freed(address("10.16.0.2"))?.lastOwner.uid == "u1")
    }

    @Test func `promise 5: an older pod than the newest is refused, one of unknown age is not`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"), sandbox("a-2", at: 20))
        let refusal = bench.refusal { try $0.allocate(vm("a"), sandbox("a-1", at: 19)) }
        #expect(refusal?.code == .failedPrecondition && refusal?.reason == .attachmentSuperseded)
        #expect(refusal?.metadata["podUid"] == "a-1-uid")
        let unknown = try bench.allocate(vm("a"), sandbox("a-3"))
        #expect(unknown.active == sandbox("a-3"))
        let sameSecond = try bench.allocate(vm("a"), sandbox("a-4", at: 20))
        #expect(sameSecond.active == sandbox("a-4", at: 20))
    }

    @Test func `promise 5: a pod that another replaced never comes back, in any sandbox and at any age`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"), sandbox("a-1", at: 5))
        try bench.allocate(vm("a"), sandbox("a-2", at: 5))
        for late in [sandbox("a-1", at: 5), sandbox("a-1", 2, at: 99), sandbox("a-1", 3)] {
            let refusal = bench.refusal { try $0.allocate(vm("a"), late) }
            #expect(refusal?.reason == .attachmentSuperseded)
        }
    }

    @Test func `a pod's newer sandbox takes over from its older one, and back it goes never`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"), sandbox("a-1", 1, at: 5))
        let second = try bench.allocate(vm("a"), sandbox("a-1", 2, at: 5))
        #expect(second.active == sandbox("a-1", 2, at: 5))
        let late = bench.refusal { try $0.allocate(vm("a"), sandbox("a-1", 1, at: 5)) }
        #expect(late?.reason == .attachmentSuperseded)
        try bench.release(sandbox("a-1", 2), of: vm("a"))
        let third = try bench.allocate(vm("a"), sandbox("a-1", 3, at: 5))
        #expect(third.active == sandbox("a-1", 3, at: 5))
    }

    @Test(arguments: [nil, 5]) func `promise 5: a pod that was released comes back only until another has the binding`(
        created: Int64?
    ) throws {
        var bench = try Bench(Self.net)
        let first = sandbox("a-1", at: created)
        try bench.allocate(vm("a"), first)
        try bench.release(first, of: vm("a"))
        #expect(try bench.allocate(vm("a"), first).active == first, "stopped and started, nothing else between")
        try bench.release(first, of: vm("a"))
        #expect(try bench.allocate(vm("a"), sandbox("a-1", 2, at: created)).state == .bound)
        try bench.release(sandbox("a-1", 2), of: vm("a"))
        #expect(bench.refusal { try $0.allocate(vm("a"), first) }?.reason == .attachmentSuperseded)
        let second = try bench.allocate(vm("a"), sandbox("a-2", at: created))
        for late in [first, sandbox("a-1", 2, at: created), sandbox("a-1", 3, at: created)] {
            #expect(bench.refusal { try $0.allocate(vm("a"), late) }?.reason == .attachmentSuperseded)
        }
        #expect(bench.ledger.binding(of: vm("a").key) == second)
    }

    @Test func `promise 5: a released pod of a VM that is gone does not get the new one's binding`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a", uid: "u1"), sandbox("a-1", at: 100))
        try bench.release(sandbox("a-1"), of: vm("a"))
        let reserved = try bench.allocate(vm("a", uid: "u2"))
        #expect(reserved.owner.uid == "u2" && reserved.state == .reserved)
        let late = bench.refusal { try $0.allocate(vm("a", uid: "u1"), sandbox("a-1", at: 100)) }
        #expect(late?.reason == .attachmentSuperseded)
    }

    @Test func `promise 5: a reserve for another uid does not take the binding from a running VM`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a", uid: "u2"), sandbox("a-2"))
        let late = bench.refusal { try $0.allocate(vm("a", uid: "u1")) }
        #expect(late?.code == .failedPrecondition && late?.reason == .attachmentSuperseded)
        #expect(late?.metadata["podUid"] == "a-2-uid" && late?.message.contains("ask again") == true)
        try bench.release(sandbox("a-2"), of: vm("a"))
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-3")))
        #expect(bench.refusal { try $0.allocate(vm("a", uid: "u1")) }?.reason == .attachmentSuperseded)
    }

    @Test func `promise 5: a binding remembers sixteen superseded pods, and as many sandboxes of the pod it has`()
        throws
    {
        var bench = try Bench(Self.net)
        for number in 1...20 { try bench.allocate(vm("a"), sandbox("a-\(number)")) }
        for container in 2...20 { try bench.allocate(vm("a"), sandbox("a-20", container)) }
        let binding = try #require(bench.ledger.binding(of: vm("a").key))
        let pods = (4...19).map { AttachmentID(podUID: "a-\($0)-uid", containerID: "") }
        #expect(binding.superseded == pods + (4...19).map { sandbox("a-20", $0).id })
        let next = try bench.allocate(vm("a"), sandbox("a-21"))
        #expect(next.superseded.map(\.podUID) == (5...20).map { "a-\($0)-uid" }, "a pod that is gone needs one entry")
    }

    @Test func `a pod's sandbox is the same with or without its pod's UID or its container`() throws {
        var bench = try Bench(Self.net)
        let whole = sandbox("a-1")
        var (container, podOnly) = (whole, whole)
        (container.podUID, podOnly.containerID) = ("", "")
        for first in [container, podOnly] {
            try bench.allocate(vm("a"), first)
            let known = try bench.allocate(vm("a"), whole)
            #expect(known.active == whole && known.superseded.isEmpty, "what was not known of it is filled in")
            for again in [first, container, podOnly, whole] {
                #expect(try bench.allocate(vm("a"), again) == known)
            }
            let released = try bench.release(first, of: vm("a"))
            #expect(released?.state == .reserved)
        }
        try bench.allocate(vm("a"), sandbox("a-1", 2))
        #expect(try bench.allocate(vm("a"), podOnly).active == sandbox("a-1", 2), "one sandbox is late, not the pod")
        for late in [whole, container] {
            #expect(bench.refusal { try $0.allocate(vm("a"), late) }?.reason == .attachmentSuperseded)
        }
    }

    @Test func `another address is refused while a pod is attached, and given in one commit when none is`() throws {
        var bench = try Bench(Self.net)
        let old = try bench.allocate(vm("a"), sandbox("a-1"))
        for next in [sandbox("a-1"), sandbox("a-2")] {
            let refusal = bench.refusal { try $0.allocate(vm("a"), next, addresses: ["10.16.0.9"]) }
            #expect(refusal?.code == .failedPrecondition && refusal?.reason == .addressChange)
            #expect(refusal?.metadata["field"] == "addresses")
        }
        #expect(try bench.allocate(vm("a"), sandbox("a-1"), addresses: ["10.16.0.2"]) == old)
        try bench.release(sandbox("a-1"), of: vm("a"))
        let moved = try bench.allocate(vm("a"), sandbox("a-2"), addresses: ["10.16.0.9"])
        #expect(moved.addresses == ["10.16.0.9"] && moved.mac == old.mac)
        #expect(bench.ledger.freed(address("10.16.0.2"))?.revision == moved.revision)
        #expect(bench.ledger.binding(holding: address("10.16.0.2")) == nil)
    }

    @Test func `another MAC is refused while a pod is attached, and given when none is`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"), sandbox("a-1"), mac: "02:00:00:00:00:01")
        let refusal = bench.refusal { try $0.allocate(vm("a"), sandbox("a-1"), mac: "02:00:00:00:00:02") }
        #expect(refusal?.code == .failedPrecondition && refusal?.reason == .macChange)
        #expect(refusal?.metadata["field"] == "mac")
        try bench.release(sandbox("a-1"), of: vm("a"))
        let changed = try bench.allocate(vm("a"), mac: "02:00:00:00:00:02")
        #expect(changed.mac.description == "02:00:00:00:00:02")
        let taken = try bench.allocate(vm("b"), mac: "02:00:00:00:00:01")
        #expect(taken.mac.description == "02:00:00:00:00:01")
    }

    @Test func `another pool moves a halted VM's binding, MAC and all`() throws {
        var bench = try Bench(Self.net, pool("other", poolPrefix("10.17.0.0/24"), poolPrefix("fd17::/64")))
        let old = try bench.allocate(vm("a"))
        let moved = try bench.allocate(vm("a"), pool: "other")
        #expect(moved.pool == "other" && moved.addresses == ["10.17.0.1", "fd17::1"] && moved.mac == old.mac)
        #expect(bench.ledger.freed(address("10.16.0.2")) != nil)
        let back = try bench.allocate(vm("a"), addresses: ["10.16.0.2"])
        #expect(back.pool == "net" && back.addresses == ["10.16.0.2"])
        try bench.allocate(vm("a"), sandbox("a-1"))
        #expect(bench.refusal { try $0.allocate(vm("a"), pool: "other") }?.reason == .addressChange)
    }

    @Test func `an Allocate from the migration's target commits it, from any other newer pod aborts it`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"), sandbox("a-1"))
        try bench.transfer(vm("a"), "m1", .prepare(target: sandbox("a-2")))
        let committed = try bench.allocate(vm("a"), sandbox("a-2"))
        #expect(committed.active == sandbox("a-2") && committed.state == .bound)
        #expect(committed.endedMigration == EndedMigration(uid: "m1", outcome: .committed))
        try bench.transfer(vm("a"), "m2", .prepare(target: sandbox("a-3")))
        #expect(try bench.allocate(vm("a"), sandbox("a-2")).state == .migrating, "the active one's repeat ends nothing")
        let aborted = try bench.allocate(vm("a"), sandbox("a-4"))
        #expect(aborted.active == sandbox("a-4") && aborted.target == nil)
        #expect(aborted.endedMigration == EndedMigration(uid: "m2", outcome: .aborted))
        #expect(bench.refusal { try $0.allocate(vm("a"), sandbox("a-3")) }?.reason == .attachmentSuperseded)
    }

    @Test func `promises 5 and 6: an Allocate that is told late, of a pod older than the target, ends no migration`()
        throws
    {
        for ended in [TransferPhase.commit(targetOwner: nil), .abort] {
            var bench = try Bench(Self.net)
            try bench.allocate(vm("a"), sandbox("a-1", at: 1))
            try bench.release(sandbox("a-1"), of: vm("a"))
            // It started from a copy while its node was cut off, and migrates from there.
            try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-3", at: 3)))
            for _ in 0..<2 {
                let told = try bench.allocate(vm("a"), sandbox("a-2", at: 2))
                #expect(told.active == sandbox("a-2", at: 2) && told.target == sandbox("a-3", at: 3))
                #expect(told.state == .migrating && told.migrationUID == "m")
            }
            try bench.transfer(vm("a"), "m", ended)
            let after = try bench.release(sandbox(ended == .abort ? "a-3" : "a-2"), of: vm("a"))
            #expect(after?.active == (ended == .abort ? sandbox("a-2", at: 2) : sandbox("a-3", at: 3)))
        }
    }

    @Test(arguments: [3, 4, nil]) func `from a pod that may be as new as the target it ends the migration`(
        created: Int64?
    ) throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"), sandbox("a-1", at: 1))
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-3", at: 3)))
        let restarted = try bench.allocate(vm("a"), sandbox("a-4", at: created))
        #expect(restarted.endedMigration == EndedMigration(uid: "m", outcome: .aborted) && restarted.target == nil)
    }

    @Test func `a pool that is no longer for a namespace gives its VMs no more addresses, and takes none away`() throws
    {
        var bench = try Bench(pool("net", poolPrefix("10.16.0.0/24")), pool("other", poolPrefix("10.17.0.0/24")))
        let had = try bench.allocate(vm("a"), pool: "net")
        try bench.run(.updatePool(pool("net", poolPrefix("10.16.0.0/24"), namespaces: ["elsewhere"])))
        for named in ["net", nil] {
            let refusal = bench.refusal { try $0.allocate(vm("a"), pool: named, addresses: ["10.16.0.9"]) }
            #expect(refusal?.reason == .namespaceNotAllowed && refusal?.metadata["pool"] == "net")
        }
        #expect(try bench.allocate(vm("a"), addresses: had.addresses) == had)
        #expect(try bench.allocate(vm("a"), sandbox("a-1"), pool: "net").addresses == had.addresses)
        try bench.release(sandbox("a-1"), of: vm("a"))
        #expect(try bench.allocate(vm("a"), mac: "02:00:00:00:00:07").addresses == had.addresses)
        #expect(try bench.allocate(vm("a"), addresses: ["10.17.0.9"]).pool == "other")
    }

    // MARK: Requests that cannot be

    @Test func `promise 1: a taken address or MAC is refused, naming the holder`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"), addresses: ["10.16.0.15"], mac: "02:00:00:00:00:01")
        let refusal = bench.refusal { try $0.allocate(vm("b"), addresses: ["10.16.0.15"]) }
        #expect(refusal?.code == .alreadyExists && refusal?.reason == .addressTaken)
        #expect(
            refusal?.metadata == ["field": "addresses", "address": "10.16.0.15", "holder": "vm default/a"])
        #expect(refusal?.message.contains("vm default/a") == true)
        let mac = bench.refusal { try $0.allocate(vm("b"), mac: "02:00:00:00:00:01") }
        #expect(mac?.code == .alreadyExists && mac?.reason == .macTaken && mac?.metadata["holder"] == "vm default/a")
    }

    @Test(arguments: [
        (["10.16.0.4", "10.16.0.5"], IPAMError.Reason.invalidField), (["10.99.0.1"], .addressOutsidePool),
        (["fd00::1"], .addressOutsidePool), (["10.16.0.1"], .addressExcluded), (["10.16.0.0"], .addressExcluded),
        (["10.16.0.255"], .addressExcluded), (["10.16.0.77"], .addressExcluded),
    ])
    func `an address that cannot be given is the request's fault`(addresses: [String], reason: IPAMError.Reason) throws
    {
        var bench = try Bench(
            pool("net", poolPrefix("10.16.0.0/24", gateway: "10.16.0.1", excluded: ["10.16.0.64/28"]), isDefault: true))
        let refusal = bench.refusal { try $0.allocate(vm("a"), addresses: addresses) }
        #expect(refusal?.code == .invalidArgument && refusal?.reason == reason)
        #expect(refusal?.metadata["field"] == "addresses")
    }

    @Test(arguments: ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"])
    func `a MAC that no interface can have is refused`(mac: String) throws {
        var bench = try Bench(Self.net)
        let refusal = bench.refusal { try $0.allocate(vm("a"), mac: mac) }
        #expect(refusal?.code == .invalidArgument && refusal?.metadata["field"] == "mac")
    }

    // MARK: Which pool

    @Test func `the pool is the named one, else the first that lists the namespace, else the default`() throws {
        var bench = try Bench(
            Self.net, pool("z", poolPrefix("10.1.0.0/24"), namespaces: ["default", "blue"]),
            pool("y", poolPrefix("10.2.0.0/24"), namespaces: ["blue"]))
        #expect(try bench.allocate(vm("a")).pool == "z")
        #expect(try bench.allocate(vm("a", namespace: "blue")).pool == "y")
        #expect(try bench.allocate(vm("a", namespace: "red")).pool == "net")
        #expect(try bench.allocate(vm("b"), pool: "net").pool == "net")
        #expect(try bench.allocate(vm("c"), addresses: ["10.16.0.40"]).pool == "net", "the pool that has the address")
        #expect(bench.refusal { try $0.allocate(vm("d"), addresses: ["10.2.0.9"]) }?.reason == .addressOutsidePool)
    }

    @Test func `without a pool for the namespace the refusal says what to do`() throws {
        var bench = try Bench(pool("p", poolPrefix("10.1.0.0/24"), namespaces: ["blue"], isDefault: true))
        let none = bench.refusal { try $0.allocate(vm("a")) }
        #expect(none?.code == .failedPrecondition && none?.reason == .noDefaultPool)
        #expect(none?.metadata["pool"] == "p" && none?.message.contains("add it to the namespaces of p") == true)
        let unknown = bench.refusal { try $0.allocate(vm("a"), pool: "nope") }
        #expect(unknown?.code == .notFound && unknown?.reason == .poolNotFound)
        let closed = bench.refusal { try $0.allocate(vm("a"), pool: "p") }
        #expect(closed?.code == .permissionDenied && closed?.reason == .namespaceNotAllowed)
    }

    @Test func `what is refused names the field that asked for it`() throws {
        var bench = try Bench(
            pool("p", poolPrefix("10.1.0.0/24"), isDefault: true), pool("q", poolPrefix("10.2.0.0/24")))
        try bench.allocate(vm("a"), sandbox("a-1"))
        #expect(bench.refusal { try $0.allocate(vm("a"), pool: "q") }?.metadata["field"] == "pool")
        let both = bench.refusal { try $0.allocate(vm("a"), pool: "q", addresses: ["10.2.0.9"]) }
        #expect(both?.metadata["field"] == "addresses")
        #expect(bench.refusal { try $0.run(.deletePool(name: "p")) }?.metadata["field"] == "name")
        let less = pool("p", poolPrefix("10.1.0.0/24", excluded: ["10.1.0.1"]), isDefault: true)
        #expect(bench.refusal { try $0.run(.updatePool(less)) }?.metadata["field"] == "pool")
        try bench.release(vm("a"))
        #expect(bench.refusal { try $0.run(.deletePool(name: "p")) }?.metadata["field"] == "name")
    }

    @Test func `an older sandbox of the pod that runs is told that nothing is to be done`() throws {
        var bench = try Bench(pool("p", poolPrefix("10.1.0.0/24"), isDefault: true))
        try bench.allocate(vm("a"), sandbox("a-1", 1, at: 1))
        try bench.allocate(vm("a"), sandbox("a-1", 2, at: 1))
        let late = bench.refusal { try $0.allocate(vm("a"), sandbox("a-1", 1, at: 1)) }
        #expect(late?.reason == .attachmentSuperseded && late?.metadata["field"] == "attachment")
        #expect(late?.message.contains("nothing is to be done") == true, "\(late?.message ?? "")")
        let older = bench.refusal { try $0.transfer(vm("a"), "m", .prepare(target: sandbox("a-0", at: 0))) }
        #expect(older?.reason == .attachmentSuperseded && older?.metadata["field"] == "target")
        #expect(older?.message.contains("should be deleted") == true, "\(older?.message ?? "")")
        #expect(older?.message.contains("made at 1970-01-01T00:00:00Z, is not") == true, "\(older?.message ?? "")")
        #expect(older?.message.contains("one made at 1970-01-01T00:00:01Z has") == true, "\(older?.message ?? "")")
    }

    /// Another may have got it since the backup was made.
    @Test func `after a restore no VM gets back what it had last until the pool's reuse delay has passed`() throws {
        var bench = try Bench(pool("net", poolPrefix("10.0.0.0/29"), reuseDelay: .seconds(60)))
        let had = try bench.allocate(vm("a"), pool: "net")
        try bench.release(vm("a"))
        bench.ledger = try Ledger(bench.ledger.snapshot)
        let until = bench.ledger.holdUnknown(at: bench.now)
        #expect(until == bench.now.advanced(by: .seconds(60)))
        let refusal = bench.refusal { try $0.allocate(vm("a"), pool: "net") }
        #expect(refusal?.reason == .poolExhausted && refusal?.metadata["availableAt"] == "\(until)")
        #expect(refusal?.metadata["cause"] == "restore" && refusal?.message.contains("restored from a backup") == true)
        bench.seconds += 59
        // A wider pool is held as it was.
        try bench.run(.updatePool(pool("net", poolPrefix("10.0.0.0/28"), reuseDelay: .seconds(60))))
        #expect(bench.refusal { try $0.allocate(vm("b"), pool: "net") }?.metadata["cause"] == "restore")
        // Also one that the backup has not, and pods may have addresses of.
        try bench.run(.createPool(pool("later", poolPrefix("10.1.0.0/29"), reuseDelay: .seconds(60))))
        #expect(bench.refusal { try $0.allocate(vm("b"), pool: "later") }?.reason == .poolExhausted)
        #expect(try bench.allocate(vm("c"), pool: "later", addresses: ["10.1.0.3"]).addresses == ["10.1.0.3"])
        bench.seconds += 1
        _ = try bench.allocate(vm("b"), pool: "later")
        #expect(try bench.allocate(vm("a"), pool: "net").addresses == had.addresses)
    }
}
