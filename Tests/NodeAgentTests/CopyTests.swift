import Addresses
import IPAMAPI
import IPAMModel
import KubeVirt
import Testing

@testable import NodeAgent

struct CopyTests {
    private let pool = "vms"
    private let mac = MACAddress(bits: 0x0200_0a10_000f)

    private func copy() throws -> Copy {
        let binding = Binding(
            owner: Owner(kind: .virtualMachine, namespace: "a", name: "b", uid: "c", network: "n/eth0"), pool: pool,
            assignments: try ["10.16.0.15", "fd00::15"].map {
                Assignment(address: try address($0), prefixLength: 16, gateway: nil)
            }, mac: mac, revision: 1, createdAt: Timestamp(seconds: 0), updatedAt: Timestamp(seconds: 0))
        return try #require(Copy(DescribedBinding(binding: binding, copyValidFor: .seconds(60)), word: 0))
    }

    private func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }

    private func contradiction(_ change: (inout AddressRequest) throws -> Void) throws -> String? {
        var request = try AddressRequest([])
        try change(&request)
        return try copy().contradiction(to: request)
    }

    @Test func `a copy contradicts a request that asks for something else, and says what`() throws {
        #expect(try contradiction { _ in } == nil)
        #expect(try contradiction { ($0.mac, $0.pool) = (mac, pool) } == nil)
        #expect(
            try contradiction { $0.pool = "other" } == "the pod asks for pool other, and has an address of vms")
        #expect(
            try contradiction { $0.mac = MACAddress(bits: 2) }
                == "the pod asks for the MAC 00:00:00:00:00:02, and has 02:00:0a:10:00:0f")
    }

    @Test(
        "of the choices one is enough, and it must be had whole",
        arguments: [
            ([["10.16.0.15"]], true), ([["fd00::15"]], true), ([["10.16.0.15", "fd00::15"]], true),
            ([["10.16.0.14"], ["10.16.0.15"]], true), ([["10.16.0.14"]], false),
            ([["10.16.0.15", "fd00::16"]], false), ([["10.16.0.15", "fd00::16"], ["10.16.0.14", "fd00::15"]], false),
        ])
    func choices(texts: [[String]], isMet: Bool) throws {
        let said = try contradiction { $0.choices = try texts.map { try $0.map(address) } }
        let first = texts[0].joined(separator: ", ")
        #expect(said == (isMet ? nil : "the pod asks for \(first), and has 10.16.0.15, fd00::15"))
    }
}
