import Addresses
import CNI
import IPAMModel
import Ledger
import Testing

@testable import NodeAgent

/// CNI 1.1, section 2, "CHECK": at the agent.
struct CheckTests {
    private let fixture: HandlerFixture

    init() throws { fixture = try HandlerFixture() }

    private func check(
        _ addresses: [JSON], container: String = "c1", network: JSONObject = HandlerFixture.ipamNetwork,
        mac: String? = nil
    ) async -> CNIError? {
        var previous: JSONObject = ["ips": .array(addresses.map { ["address": $0] })]
        if let mac {
            previous["interfaces"] = [
                ["name": "eth0", "mac": "0a:00:00:00:00:01"],
                ["name": "eth0", "mac": .string(mac), "sandbox": "/run/netns/x"],
            ]
        }
        let request = fixture.request(
            "CHECK", container: container, network: network, ("prevResult", .object(previous)))
        return await fixture.refusal { () throws(CNIError) in try await fixture.handler.check(request) }
    }

    @Test func `section 2, CHECK: prevResult must have the binding's addresses; others may be there too`() async throws
    {
        #expect(await check(["10.16.0.11/16"])?.code == .notFound)
        try await fixture.add()
        #expect(await check(["10.16.0.11/16"]) == nil)
        #expect(await check(["192.0.2.1/24", "10.16.0.11/16", "not an address"]) == nil)
        #expect(await check([])?.message.hasSuffix("has 10.16.0.11/16, not none") == true)
        for other in ["10.16.0.12/16", "10.16.0.11/24", "10.16.0.11"] as [JSON] {
            #expect(await check([other])?.code == .conflict)
        }
    }

    @Test func `section 2, CHECK: IPv6 in any spelling is the same address`() async throws {
        let network: JSONObject = [
            "cniVersion": "1.1.0", "name": "vm-net", "ipam": ["type": "holdfast-cni", "pool": "other"],
        ]
        _ = try await fixture.handler.add(fixture.request("ADD", network: network))
        #expect(await check(["10.17.0.2/16", "fd00::2/64"], network: network) == nil)
        #expect(await check(["10.17.0.2/16", "FD00:0:0:0:0:0:0:2/64"], network: network) == nil)
        #expect(await check(["10.17.0.2/16"], network: network)?.code == .conflict)
    }

    @Test func `section 2, CHECK: as main plugin the interface must have the binding's MAC`() async throws {
        try await fixture.add()
        let mac = try #require(fixture.ipam.bindings.first?.mac.description)
        let address: [JSON] = ["10.16.0.11/16"]
        #expect(await check(address, network: HandlerFixture.mainNetwork, mac: mac) == nil)
        #expect(await check(address, network: HandlerFixture.mainNetwork, mac: mac.uppercased()) == nil)
        #expect(await check(address, network: HandlerFixture.mainNetwork, mac: "02:00:00:00:00:99")?.code == .conflict)
        // As IPAM plugin it does not choose the MAC.
        #expect(await check(address, mac: "02:00:00:00:00:99") == nil)
    }

    @Test func `section 2, CHECK: only the container that carries the binding is as it should be`() async throws {
        try await fixture.add(container: "c1")
        try await fixture.add(container: "c2")
        #expect(await check(["10.16.0.11/16"], container: "c2") == nil)
        let superseded = await check(["10.16.0.11/16"], container: "c1")
        #expect(superseded?.code == .conflict)
        #expect(superseded?.details == "pod web on node node-a carries it")
    }

    @Test(arguments: [nil, [:], ["ips": "10.16.0.11/16"], .null] as [JSON?])
    func `section 2, CHECK: without prevResult it is code 7`(previous: JSON?) async throws {
        try await fixture.add()
        let request = fixture.request("CHECK", previous.map { ("prevResult", $0) })
        let refusal = await fixture.refusal { () throws(CNIError) in try await fixture.handler.check(request) }
        #expect(refusal?.code == .invalidConfiguration)
    }
}
