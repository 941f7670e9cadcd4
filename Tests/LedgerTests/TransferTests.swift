import Addresses
import IPAMModel
import Ledger
import Testing

@Suite struct TransferTests {
    /// VM a, carried by pod a-1 (made at 10).
    private func bench() throws -> Bench {
        var bench = try Bench(pool("net", poolPrefix("10.16.0.0/24", gateway: "10.16.0.1"), isDefault: true))
        try bench.allocate(vm("a", uid: "u"), sandbox("a-1", at: 10))
        return bench
    }

    @Test func `PREPARE opens the migration, and says the same when repeated`() throws {
        var bench = try bench()
        let open = try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2", at: 11)))
        #expect(open.state == .migrating && open.migrationUID == "m")
        #expect(open.active == sandbox("a-1", at: 10) && open.target == sandbox("a-2", at: 11))
        bench.seconds += 1
        #expect(try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2", at: 11))) == open)
        #expect(bench.ledger.revision == open.revision)
    }

    @Test func `PREPARE works on a binding whose source attachment was lost`() throws {
        var bench = try bench()
        try bench.release(sandbox("a-1"), of: vm("a"))
        let open = try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2")))
        #expect(open.state == .migrating && open.active == nil)
        #expect(try bench.transfer(vm("a"), "m", .commit(targetOwner: nil)).active == sandbox("a-2"))
    }

    @Test func `a newer sandbox of the target's pod is the target then, a pod not known to be newer is not`() throws {
        var bench = try bench()
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2", 1)))
        let moved = try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2", 2)))
        #expect(moved.target == sandbox("a-2", 2) && moved.migrationUID == "m")
        let late = bench.refusal { try $0.transfer(vm("a"), "m", .prepare(target: sandbox("a-2", 1))) }
        #expect(late?.reason == .attachmentSuperseded)
        let other = bench.refusal { try $0.transfer(vm("a"), "m", .prepare(target: sandbox("a-3"))) }
        #expect(other?.code == .failedPrecondition && other?.reason == .migrationTarget)
        let own = bench.refusal { try $0.transfer(vm("a"), "n", .prepare(target: sandbox("a-1", 2))) }
        #expect(own?.reason == .migrationTarget, "a pod is not source and target at once")
    }

    @Test func `who asks for another object than the one that has the name is told so`() throws {
        var bench = try bench()
        let owner = vm("a", uid: "old")
        let refusal = bench.refusal { try $0.transfer(owner, "m", .prepare(target: sandbox("a-2", at: 11))) }
        #expect(refusal?.code == .notFound && refusal?.reason == .bindingNotFound && refusal?.metadata["uid"] == "u")
        #expect(refusal?.message.contains("is of uid u, another object") == true)
    }

    @Test func `a migration that was cancelled does not end the one after it, when its PREPARE comes late`() throws {
        var bench = try bench()
        let open = try bench.transfer(vm("a"), "m2", .prepare(target: sandbox("a-3", at: 30)))
        let late = bench.refusal { try $0.transfer(vm("a"), "m1", .prepare(target: sandbox("a-2", at: 20))) }
        #expect(late?.reason == .attachmentSuperseded && late?.metadata["field"] == "target")
        #expect(late?.message.contains("one made at 1970-01-01T00:00:30Z has its addresses") == true)
        #expect(bench.ledger.revision == open.revision)
        #expect(try bench.transfer(vm("a"), "m2", .commit(targetOwner: nil)).active == sandbox("a-3", at: 30))
    }

    /// KubeVirt makes a migration's target anew where it has vanished before it ran.
    @Test func `a migration's newer target takes the older one's place, whose messages come too late then`() throws {
        var bench = try bench()
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-3", at: 13)))
        for created in [12, 13] as [Int64] {
            let older = bench.refusal { try $0.transfer(vm("a"), "m", .prepare(target: sandbox("a-2", at: created))) }
            #expect(older?.reason == .migrationTarget)
        }
        let moved = try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-4", at: 14)))
        #expect(moved.target == sandbox("a-4", at: 14) && moved.migrationUID == "m" && moved.endedMigration == nil)
        #expect(try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-4", at: 14))) == moved)
        let late = bench.refusal { try $0.transfer(vm("a"), "m", .prepare(target: sandbox("a-3", at: 13))) }
        #expect(late?.reason == .attachmentSuperseded)
        #expect(try bench.release(sandbox("a-3"), of: nil) == nil)
        #expect(try bench.transfer(vm("a"), "m", .commit(targetOwner: nil)).active == sandbox("a-4", at: 14))
        let done = bench.refusal { try $0.transfer(vm("a"), "m", .prepare(target: sandbox("a-5", at: 15))) }
        #expect(done?.reason == .migrationEnded)
    }

    @Test(arguments: [true, false])
    func `a migration that its target's end has ended is opened again by another target, not by that one`(
        isReleased: Bool
    ) throws {
        var bench = try bench()
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2", at: 11)))
        if isReleased {
            try bench.release(sandbox("a-2"), of: vm("a"))
        } else {
            try bench.transfer(vm("a"), "m", .abort)
        }
        let open = try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-3", at: 12)))
        #expect(open.target == sandbox("a-3", at: 12) && open.migrationUID == "m" && open.endedMigration == nil)
        for container in 1...2 {
            let late = bench.refusal {
                try $0.transfer(vm("a"), "m", .prepare(target: sandbox("a-2", container, at: 11)))
            }
            #expect(late?.reason == .attachmentSuperseded)
        }
        // While a newer migration is open it comes too late.
        try bench.transfer(vm("a"), "n", .prepare(target: sandbox("a-4", at: 13)))
        let late = bench.refusal { try $0.transfer(vm("a"), "m", .prepare(target: sandbox("a-5", at: 14))) }
        #expect(late?.reason == .migrationEnded)
    }

    @Test func `a newer migration ends the older, whose messages come too late then`() throws {
        var bench = try bench()
        try bench.transfer(vm("a"), "m1", .prepare(target: sandbox("a-2")))
        let second = try bench.transfer(vm("a"), "m2", .prepare(target: sandbox("a-3")))
        #expect(second.migrationUID == "m2" && second.target == sandbox("a-3"))
        #expect(second.endedMigration == EndedMigration(uid: "m1", outcome: .aborted))
        let prepare = bench.refusal { try $0.transfer(vm("a"), "m1", .prepare(target: sandbox("a-2"))) }
        #expect(prepare?.reason == .migrationEnded)
        let commit = bench.refusal { try $0.transfer(vm("a"), "m1", .commit(targetOwner: nil)) }
        #expect(commit?.reason == .migrationEnded && commit?.metadata["outcome"] == "aborted")
        #expect(try bench.transfer(vm("a"), "m1", .abort) == second)
        try bench.transfer(vm("a"), "m3", .prepare(target: sandbox("a-4")))
        let older = bench.refusal { try $0.transfer(vm("a"), "m1", .prepare(target: sandbox("a-2"))) }
        #expect(older?.reason == .attachmentSuperseded)
    }

    @Test func `a target that is superseded, or older than the newest pod, is refused`() throws {
        var bench = try bench()
        try bench.allocate(vm("a"), sandbox("a-2", at: 12))
        let superseded = bench.refusal { try $0.transfer(vm("a"), "m", .prepare(target: sandbox("a-1", at: 99))) }
        #expect(superseded?.reason == .attachmentSuperseded)
        let older = bench.refusal { try $0.transfer(vm("a"), "m", .prepare(target: sandbox("a-0", at: 11))) }
        #expect(older?.reason == .attachmentSuperseded)
    }

    @Test func `COMMIT makes the target active, again the same, and ABORT then is refused`() throws {
        var bench = try bench()
        let open = try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2", at: 11)))
        let done = try bench.transfer(vm("a"), "m", .commit(targetOwner: nil))
        #expect(done.active == open.target && done.target == nil && done.migrationUID.isEmpty)
        #expect(done.addresses == open.addresses && done.mac == open.mac)
        #expect(try bench.transfer(vm("a"), "m", .commit(targetOwner: nil)) == done)
        #expect(try bench.release(sandbox("a-1"), of: vm("a")) == done, "the source's DEL comes late")
        let abort = bench.refusal { try $0.transfer(vm("a"), "m", .abort) }
        #expect(abort?.code == .failedPrecondition && abort?.reason == .migrationEnded)
        #expect(
            bench.refusal { try $0.transfer(vm("a"), "m", .prepare(target: sandbox("a-2"))) }?.reason == .migrationEnded
        )
        #expect(bench.refusal { try $0.allocate(vm("a"), sandbox("a-1", at: 10)) }?.reason == .attachmentSuperseded)
    }

    @Test func `ABORT drops the target, again the same, and COMMIT then is refused`() throws {
        var bench = try bench()
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2", at: 11)))
        let done = try bench.transfer(vm("a"), "m", .abort)
        #expect(done.active == sandbox("a-1", at: 10) && done.target == nil && done.state == .bound)
        #expect(try bench.transfer(vm("a"), "m", .abort) == done)
        let commit = bench.refusal { try $0.transfer(vm("a"), "m", .commit(targetOwner: nil)) }
        #expect(commit?.reason == .migrationEnded)
        #expect(bench.refusal { try $0.allocate(vm("a"), sandbox("a-2", at: 11)) }?.reason == .attachmentSuperseded)
        let source = try bench.allocate(vm("a"), sandbox("a-1", 2, at: 10))
        #expect(source.active == sandbox("a-1", 2, at: 10), "an aborted target does not lock the source out")
    }

    @Test func `COMMIT and ABORT of a migration that nobody knows are refused`() throws {
        var bench = try bench()
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2")))
        for phase in [TransferPhase.commit(targetOwner: nil), .abort] {
            let refusal = bench.refusal { try $0.transfer(vm("a"), "x", phase) }
            #expect(refusal?.code == .failedPrecondition && refusal?.reason == .migrationUnknown)
            let unnamed = bench.refusal { try $0.transfer(vm("a"), "", phase) }
            #expect(unnamed?.code == .invalidArgument && unnamed?.metadata["field"] == "migration_uid")
        }
    }

    @Test func `an owner without a binding, or a VM that is gone, has nothing to move`() throws {
        var bench = try bench()
        for owner in [vm("b"), vm("a", uid: "other"), vm("a", network: "net/eth9")] {
            let refusal = bench.refusal { try $0.transfer(owner, "m", .prepare(target: sandbox("b-2"))) }
            #expect(refusal?.code == .notFound && refusal?.reason == .bindingNotFound)
        }
    }

    @Test func `COMMIT with a target owner moves the binding there, and again says the same`() throws {
        var bench = try bench()
        let open = try bench.transfer(vm("a"), "m", .prepare(target: sandbox("b-1")))
        let commit = TransferPhase.commit(targetOwner: vm("b", uid: "ub"))
        let moved = try bench.transfer(vm("a"), "m", commit)
        #expect(moved.owner == vm("b", uid: "ub") && moved.addresses == open.addresses && moved.mac == open.mac)
        #expect(bench.ledger.binding(of: vm("a").key) == nil)
        #expect(bench.ledger.binding(holding: address("10.16.0.2"))?.owner.name == "b")
        #expect(try bench.transfer(vm("a"), "m", commit) == moved)
        try bench.allocate(vm("a"))
        #expect(try bench.transfer(vm("a"), "m", commit) == moved, "though the old owner has a new binding by now")
    }

    @Test func `COMMIT to the VM made anew under the same name is repeatable`() throws {
        var bench = try bench()
        try bench.allocate(vm("a", uid: "u1"), sandbox("a-1", at: 10))
        try bench.transfer(vm("a", uid: "u1"), "m", .prepare(target: sandbox("a-2", at: 11)))
        let commit = TransferPhase.commit(targetOwner: vm("a", uid: "u2"))
        let moved = try bench.transfer(vm("a", uid: "u1"), "m", commit)
        #expect(moved.owner.uid == "u2")
        #expect(try bench.transfer(vm("a", uid: "u1"), "m", commit) == moved)
    }

    @Test func `promise 5: a COMMIT that is done moves the binding to no other owner later`() throws {
        var bench = try bench()
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2")))
        let done = try bench.transfer(vm("a"), "m", .commit(targetOwner: nil))
        for other in [vm("b"), vm("a", namespace: "elsewhere")] {
            let refusal = bench.refusal { try $0.transfer(vm("a"), "m", .commit(targetOwner: other)) }
            #expect(refusal?.reason == .migrationEnded)
        }
        #expect(try bench.transfer(vm("a"), "m", .commit(targetOwner: vm("a"))) == done)
    }

    @Test func `a store hears that the old owner's binding is gone before it hears of the new owner's`() throws {
        var bench = try bench()
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("b-1")))
        let commit = TransferRequest(owner: vm("a"), migrationUID: "m", phase: .commit(targetOwner: vm("b")))
        _ = try bench.ledger.apply(.transfer(commit), at: bench.now)
        let owners = bench.ledger.pending.compactMap { change -> String? in
            switch change {
            case .removeBinding(let binding): "-\(binding.owner.name)"
            case .putBinding(let binding): "+\(binding.owner.name)"
            default: nil
            }
        }
        #expect(owners == ["-a", "+b"])
    }

    @Test func `COMMIT to an owner who has a binding, or to a namespace that may not, changes nothing`() throws {
        var bench = try bench()
        try bench.allocate(vm("b"))
        let open = try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2")))
        let refusal = bench.refusal { try $0.transfer(vm("a"), "m", .commit(targetOwner: vm("b"))) }
        #expect(refusal?.code == .alreadyExists && refusal?.reason == .ownerHasBinding)
        try bench.run(
            .updatePool(pool("net", poolPrefix("10.16.0.0/24", gateway: "10.16.0.1"), namespaces: ["default"])))
        let foreign = vm("c", namespace: "foreign")
        #expect(
            bench.refusal { try $0.transfer(vm("a"), "m", .commit(targetOwner: foreign)) }?.reason
                == .namespaceNotAllowed)
        #expect(bench.ledger.binding(of: vm("a").key) == open)
    }

    @Test func `PREPARE for an owner to whom COMMIT would not give the binding changes nothing`() throws {
        var bench = try bench()
        try bench.allocate(vm("b"))
        try bench.run(
            .updatePool(
                pool("net", poolPrefix("10.16.0.0/24", gateway: "10.16.0.1"), namespaces: ["default"], quota: 2)))
        let before = try #require(bench.ledger.binding(of: vm("a").key))
        for (owner, reason) in [
            (vm("b"), IPAMError.Reason.ownerHasBinding), (vm("c", namespace: "foreign"), .namespaceNotAllowed),
            (vm("c", network: "net/eth9"), .invalidField),
        ] {
            let refusal = bench.refusal {
                try $0.transfer(vm("a"), "m", .prepare(target: sandbox("a-2"), targetOwner: owner))
            }
            #expect(refusal?.reason == reason)
        }
        #expect(bench.ledger.binding(of: vm("a").key) == before)
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2"), targetOwner: vm("c")))
        #expect(try bench.transfer(vm("a"), "m", .commit(targetOwner: vm("c"))).owner == vm("c"))
    }

    @Test func `COMMIT gives a binding to no owner of another kind or network`() throws {
        var bench = try bench()
        let open = try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2")))
        var other = vm("b")
        other.kind = .pod
        for owner in [other, vm("b", network: "net/eth9")] {
            let refusal = bench.refusal { try $0.transfer(vm("a"), "m", .commit(targetOwner: owner)) }
            #expect(refusal?.code == .invalidArgument && refusal?.metadata["field"] == "target_owner")
        }
        #expect(bench.ledger.binding(of: vm("a").key) == open)
    }

    @Test func `a COMMIT whose migration ended by itself still moves the binding to its target owner`() throws {
        var bench = try bench()
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("b-1")))
        try bench.release(sandbox("a-1"), of: vm("a"))
        #expect(try bench.transfer(vm("a"), "m", .commit(targetOwner: vm("b"))).owner == vm("b"))
        let again = bench.refusal { try $0.transfer(vm("b"), "m", .commit(targetOwner: vm("c"))) }
        #expect(again?.reason == .migrationEnded, "once")
    }
}
