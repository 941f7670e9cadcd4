import Addresses
import IPAMModel
import Testing

@testable import Ledger

@Suite struct ReleaseTests {
    private static let net = pool("net", poolPrefix("10.16.0.0/24", gateway: "10.16.0.1"), isDefault: true)

    @Test func `a VM whose pod is gone keeps its address, reserved`() throws {
        var bench = try Bench(Self.net)
        let bound = try bench.allocate(vm("a"), sandbox("a-1"))
        let released = try #require(try bench.release(sandbox("a-1"), of: vm("a")))
        #expect(released.state == .reserved && released.active == nil)
        #expect(released.addresses == bound.addresses && released.revision == bound.revision + 1)
    }

    @Test func `a pod that is gone has its address freed, into quarantine`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(pod("a", uid: "u"), sandbox("a"))
        let released = try bench.release(sandbox("a"), of: pod("a"))
        #expect(released == nil)
        let freed = try #require(bench.ledger.freed(address("10.16.0.2")))
        #expect(freed.lastOwner == pod("a", uid: "u") && freed.freedAt == bench.now)
        let again = try bench.release(sandbox("a"), of: pod("a"))
        #expect(again == nil)
    }

    @Test func `when the source of a migration goes, the target carries on`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"), sandbox("a-1"))
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2")))
        let released = try #require(try bench.release(sandbox("a-1"), of: vm("a")))
        #expect(released.active == sandbox("a-2") && released.target == nil && released.state == .bound)
        #expect(released.endedMigration == EndedMigration(uid: "m", outcome: .committed, released: sandbox("a-1").id))
        #expect(bench.refusal { try $0.allocate(vm("a"), sandbox("a-1")) }?.reason == .attachmentSuperseded)
        #expect(try bench.transfer(vm("a"), "m", .commit(targetOwner: nil)) == released)
    }

    @Test func `when the target of a migration goes, the source stays`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"), sandbox("a-1"))
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2")))
        let released = try #require(try bench.release(sandbox("a-2"), of: nil))
        #expect(released.active == sandbox("a-1") && released.target == nil && released.state == .bound)
        #expect(released.endedMigration == EndedMigration(uid: "m", outcome: .aborted, released: sandbox("a-2").id))
        #expect(bench.refusal { try $0.allocate(vm("a"), sandbox("a-2")) }?.reason == .attachmentSuperseded)
    }

    @Test func `a target whose sandbox is made again goes on with its migration`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"), sandbox("a-1"))
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2", 1)))
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2", 2)))
        let released = try #require(try bench.release(sandbox("a-2", 2), of: vm("a")))
        #expect(bench.refusal { try $0.transfer(vm("a"), "m", .commit(targetOwner: nil)) }?.reason == .migrationEnded)
        for late in [sandbox("a-2", 1), sandbox("a-2", 2), sandbox("a-3")] {
            let refusal = bench.refusal { try $0.transfer(vm("a"), "m", .prepare(target: late)) }
            #expect(refusal?.reason == .migrationEnded)
        }
        #expect(
            bench.refusal { try $0.allocate(vm("a"), sandbox("a-2", 3)) }?.reason == .attachmentSuperseded,
            "only its migration brings a target's pod back")
        #expect(bench.ledger.binding(of: vm("a").key) == released)
        let open = try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2", 3)))
        #expect(open.state == .migrating && open.target == sandbox("a-2", 3) && open.active == sandbox("a-1"))
        #expect(try bench.transfer(vm("a"), "m", .commit(targetOwner: nil)).active == sandbox("a-2", 3))
    }

    @Test(arguments: ["abort", "newer migration", "newer pod", "newer VM"])
    func `a target that was released comes back no more once its migration is over`(why: String) throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a", uid: "u1"), sandbox("a-1"))
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2")))
        try bench.release(sandbox("a-2"), of: vm("a"))
        switch why {
        case "abort": try bench.transfer(vm("a"), "m", .abort)
        case "newer migration": try bench.transfer(vm("a"), "n", .prepare(target: sandbox("a-3")))
        case "newer pod": try bench.allocate(vm("a"), sandbox("a-3"))
        default: try bench.allocate(vm("a", uid: "u2"), sandbox("a-3"))
        }
        let back = bench.refusal { try $0.transfer(vm("a"), "m", .prepare(target: sandbox("a-2", 2))) }
        #expect(back?.reason == .migrationEnded)
        #expect(bench.refusal { try $0.allocate(vm("a"), sandbox("a-2", 2)) }?.reason == .attachmentSuperseded)
    }

    @Test func `promise 5: what another pod or an older sandbox says changes nothing`() throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"), sandbox("a-1", 1))
        let binding = try bench.allocate(vm("a"), sandbox("a-1", 2))
        for late in [sandbox("a-1", 1), sandbox("a-0"), sandbox("a-2")] {
            #expect(try bench.release(late, of: vm("a")) == binding)
            #expect(try bench.release(late, of: nil) == nil, "and nothing is found by its container")
        }
        var stranger = sandbox("a-1", 2)
        stranger.podUID = "another"
        #expect(try bench.release(stranger, of: vm("a")) == binding)
        #expect(bench.ledger.revision == binding.revision)
    }

    @Test func `a container's binding is found by its ID, network by network`() throws {
        var bench = try Bench(Self.net)
        let one = vm("a", network: "net/eth0")
        let two = vm("a", network: "net/net1")
        try bench.allocate(one, sandbox("a-1"))
        try bench.allocate(two, sandbox("a-1"))
        let byContainer = AttachmentID(podUID: "", containerID: "a-1-1")
        guard
            case .released(let binding?) = try bench.run(
                .release(.attachment(byContainer, owner: nil, network: "net/net1")))
        else { throw WrongOutcome() }
        #expect(binding.owner == two && binding.state == .reserved)
        #expect(bench.ledger.binding(of: one.key)?.state == .bound)
        #expect(try bench.release(sandbox("a-1"), of: nil, network: "net/net9") == nil)
    }

    @Test func `a released binding is freed with all its addresses, and once only`() throws {
        var bench = try Bench(pool("p", poolPrefix("10.0.0.0/24"), poolPrefix("fd00::/64"), isDefault: true))
        try bench.allocate(vm("a", uid: "u1"), sandbox("a-1"))
        try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2")))
        try bench.release(vm("a", uid: "u1"))
        #expect(bench.ledger.binding(of: vm("a").key) == nil)
        #expect(bench.ledger.freed(address("10.0.0.1")) != nil && bench.ledger.freed(address("fd00::1")) != nil)
        let revision = bench.ledger.revision
        try bench.release(vm("a", uid: "u1"))
        try bench.release(vm("never"))
        #expect(bench.ledger.revision == revision)
    }

    @Test func `promise 7: the release of a VM that is gone frees nothing of the one that has its name now`() throws {
        var bench = try Bench(Self.net)
        let binding = try bench.allocate(vm("a", uid: "u2"), sandbox("a-1"))
        try bench.release(vm("a", uid: "u1"))
        #expect(bench.ledger.binding(of: vm("a").key) == binding)
        #expect(bench.ledger.revision == binding.revision)
        try bench.release(vm("a"))
        #expect(bench.ledger.binding(of: vm("a").key) == nil)
    }

    @Test(arguments: ["stopped", "source", "target"])
    func `promise 4: a sandbox's release by its container alone says the same again`(who: String) throws {
        var bench = try Bench(Self.net)
        try bench.allocate(vm("a"), sandbox("a-1"))
        if who != "stopped" { try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2"))) }
        let gone = sandbox(who == "target" ? "a-2" : "a-1")
        let first = try #require(try bench.release(gone, of: nil))
        #expect(first.state == (who == "stopped" ? .reserved : .bound))
        #expect(try bench.release(gone, of: nil) == first)
        #expect(try bench.release(gone, of: nil, network: "net/net9") == nil)
        try bench.allocate(vm("a"), sandbox("a-3"))
        try bench.release(vm("a"))
        #expect(bench.ledger.containers.isEmpty, "nothing is left of them")
    }
}
