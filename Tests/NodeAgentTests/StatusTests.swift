import Addresses
import CNI
import IPAMModel
import Ledger
import Testing

@testable import NodeAgent

/// CNI 1.1, section 2, "STATUS": at the agent.
struct StatusTests {
    private let fixture: HandlerFixture

    init() throws { fixture = try HandlerFixture() }

    private func status(pool: String? = nil) async -> CNIError? {
        var ipam: JSONObject = ["type": "holdfast-cni"]
        ipam["pool"] = pool.map { .string($0) }
        let request = fixture.request("STATUS", ("ipam", .object(ipam)))
        return await fixture.refusal { () throws(CNIError) in try await fixture.handler.status(request) }
    }

    /// A pool of one address, which `holder` has.
    private func fill(_ name: String = "tiny") throws {
        let prefix = try #require(IPPrefix("10.9.0.0/30"))
        let pool = Pool(name: name, prefixes: [PoolPrefix(prefix: prefix, gateway: IPAddress("10.9.0.1"))])
        try fixture.ipam.apply(.createPool(pool))
        let holder = Owner(kind: .virtualMachine, namespace: "default", name: "holder", network: name)
        try fixture.ipam.apply(.allocate(AllocateRequest(owner: holder, pool: name)))
    }

    @Test func `section 2, STATUS: silent while the pool has addresses`() async throws {
        #expect(await status(pool: "vms") == nil)
        #expect(await status() == nil)
    }

    /// A runtime that hears of an error starts no pod at all, and VMs that have an address of the pool could start.
    @Test func `section 2, STATUS: silent where the pool is full`() async throws {
        try fill()
        #expect(await status(pool: "tiny") == nil)
        for pool in ["vms", "other"] { try fixture.ipam.apply(.deletePool(name: pool)) }
        #expect(await status() == nil)
    }

    /// Every node asks again and again, and what a pool's usage costs grows with its addresses.
    @Test func `section 2, STATUS: pools are not asked for where the node has a binding of theirs`() async throws {
        #expect(await status() == nil && fixture.ipam.poolReads == 1)
        try await fixture.add()
        for pool in [nil, "vms"] { #expect(await status(pool: pool) == nil && fixture.ipam.poolReads == 1) }
        #expect(await status(pool: "other") == nil && fixture.ipam.poolReads == 2)
    }

    @Test func `section 2, STATUS: a pool that is missing is 50, and so is a server without pools`() async throws {
        let missing = await status(pool: "none")
        #expect(missing?.code == .notAvailable && missing?.message == "there is no pool none")
        for pool in ["vms", "other"] { try fixture.ipam.apply(.deletePool(name: pool)) }
        let none = await status()
        #expect(none?.code == .notAvailable && none?.message == "there is no pool")
    }

    @Test func `section 2, STATUS: a pool that the network describes by ranges need not be there yet`() async throws {
        let request = fixture.request("STATUS", ("ipam", ["type": "holdfast-cni", "range": "10.8.0.0/24"]))
        #expect(await fixture.refusal { () throws(CNIError) in try await fixture.handler.status(request) } == nil)
    }

    @Test func `section 2, STATUS: 50 while the server is away, but where VMs that the node knows can be served`()
        async throws
    {
        fixture.ipam.fail(with: IPAMError(.unavailable, .noAnswer, "away"))
        #expect(await status()?.code == .notAvailable)
        fixture.hasCopies.set(true)
        #expect(await status() == nil)
        // What is no outage is no matter of copies.
        fixture.ipam.fail(with: IPAMError(.permissionDenied, .noAnswer, "no"))
        #expect(await status()?.code == .notAvailable)
    }
}
