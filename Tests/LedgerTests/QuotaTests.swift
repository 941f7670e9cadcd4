import Addresses
import IPAMModel
import Ledger
import Testing

/// namespace_quota: how many bindings of a pool a namespace may have.
@Suite struct QuotaTests {
    /// A pool with room for `quota` bindings of a namespace.
    private func bench(quota: UInt32) throws -> Bench { try Bench(network(quota: quota)) }

    private func network(quota: UInt32) -> Pool {
        pool("net", poolPrefix("10.1.0.0/24"), isDefault: true, quota: quota)
    }

    private func isFull(_ bench: inout Bench, namespace: String = "default") -> Bool {
        let refusal = bench.refusal { try $0.allocate(vm("one-more", namespace: namespace)) }
        return refusal?.code == .resourceExhausted && refusal?.reason == .quotaExceeded
    }

    @Test func `a namespace gets as many bindings as the quota says, and no more until one is freed`() throws {
        var bench = try bench(quota: 2)
        try bench.allocate(vm("a"))
        try bench.allocate(vm("b"))
        #expect(isFull(&bench))
        try bench.allocate(vm("c", namespace: "other"))
        try bench.release(vm("a"))
        try bench.allocate(vm("c"))
        #expect(isFull(&bench))
    }

    @Test func `a repeated Allocate at the limit is answered, as are other pods of the owner`() throws {
        var bench = try bench(quota: 1)
        let first = try bench.allocate(vm("a"), sandbox("a-1"))
        #expect(try bench.allocate(vm("a"), sandbox("a-1")) == first)
        #expect(try bench.allocate(vm("a"), sandbox("a-2")).addresses == first.addresses)
        #expect(isFull(&bench))
    }

    @Test func `what is detached counts until it is released`() throws {
        var bench = try bench(quota: 1)
        try bench.allocate(vm("a"), sandbox("a-1"))
        try bench.release(sandbox("a-1"), of: vm("a"))
        #expect(isFull(&bench))
        try bench.release(vm("a"))
        #expect(try bench.release(vm("a")) == nil)
        try bench.allocate(vm("b"))
        #expect(isFull(&bench), "a repeated Release freed one only")
    }

    @Test func `pods and VMs of a namespace share its quota, and a VM's networks count each`() throws {
        var bench = try bench(quota: 3)
        try bench.allocate(vm("a"))
        try bench.allocate(vm("a", network: "net/eth1"))
        try bench.allocate(pod("p"), sandbox("p"))
        #expect(isFull(&bench))
        #expect(bench.refusal { try $0.allocate(pod("q"), sandbox("q")) }?.reason == .quotaExceeded)
        try bench.release(sandbox("p"), of: pod("p"))
        try bench.allocate(vm("b"))
    }

    @Test func `a quota below what is used takes nothing away, and nothing is added until there is room`() throws {
        var bench = try bench(quota: 0)
        for name in ["a", "b", "c"] { try bench.allocate(vm(name), sandbox("\(name)-1")) }
        try bench.run(.updatePool(network(quota: 2)))
        #expect(isFull(&bench))
        #expect(try bench.allocate(vm("a"), sandbox("a-2")).addresses == ["10.1.0.1"])
        try bench.release(vm("a"))
        #expect(isFull(&bench), "as many as the quota are left")
        try bench.release(vm("b"))
        try bench.allocate(vm("d"))
        #expect(isFull(&bench))
        try bench.run(.updatePool(network(quota: 3)))
        try bench.allocate(vm("e"))
        #expect(isFull(&bench))
    }

    @Test func `a migration needs no second place, whether it is committed or given up`() throws {
        for phase in [TransferPhase.commit(targetOwner: nil), .abort] {
            var bench = try bench(quota: 1)
            try bench.allocate(vm("a"), sandbox("a-1", at: 1))
            try bench.transfer(vm("a"), "m", .prepare(target: sandbox("a-2", at: 2)))
            #expect(isFull(&bench))
            try bench.transfer(vm("a"), "m", phase)
            #expect(isFull(&bench))
            try bench.release(vm("a"))
            try bench.allocate(vm("b"))
        }
    }

    @Test func `a binding that becomes another owner's counts where that one is`() throws {
        func move(_ bench: inout Bench, _ source: Owner, to target: Owner, _ uid: String) throws {
            try bench.transfer(source, uid, .prepare(target: sandbox("\(target.name)-pod")))
            try bench.transfer(source, uid, .commit(targetOwner: target))
        }
        var bench = try bench(quota: 1)
        try bench.allocate(vm("a"), sandbox("a-1"))
        try move(&bench, vm("a"), to: vm("b"), "m-1")
        #expect(isFull(&bench), "within a namespace nothing changes")
        let there = vm("b", namespace: "other")
        try bench.allocate(vm("c", namespace: "other"))
        try bench.transfer(vm("b"), "m-2", .prepare(target: sandbox("there")))
        let refusal = bench.refusal { try $0.transfer(vm("b"), "m-2", .commit(targetOwner: there)) }
        #expect(refusal?.reason == .quotaExceeded && refusal?.metadata["namespace"] == "other")
        try bench.release(vm("c", namespace: "other"))
        try bench.transfer(vm("b"), "m-2", .commit(targetOwner: there))
        #expect(try bench.transfer(vm("b"), "m-2", .commit(targetOwner: there)).owner == there, "repeated at the limit")
        #expect(isFull(&bench, namespace: "other"))
        try bench.allocate(vm("d"))
        #expect(isFull(&bench))
    }

    @Test func `a binding that moves to another pool counts there`() throws {
        var bench = try bench(quota: 1)
        try bench.run(.createPool(pool("wide", poolPrefix("10.2.0.0/24"), quota: 1)))
        try bench.allocate(vm("a"))
        try bench.allocate(vm("b"), pool: "wide")
        #expect(bench.refusal { try $0.allocate(vm("a"), pool: "wide") }?.reason == .quotaExceeded)
        try bench.release(vm("b"))
        try bench.allocate(vm("a"), pool: "wide")
        #expect(bench.refusal { try $0.allocate(vm("b"), pool: "wide") }?.reason == .quotaExceeded)
        try bench.allocate(vm("b"))
        #expect(isFull(&bench))
    }
}
