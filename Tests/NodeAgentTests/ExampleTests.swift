import Addresses
import CNI
import Foundation
import IPAMModel
import KubeVirt
import NetworkPools
import Testing

@testable import NodeAgent

/// The files in examples/ that no demo plays.
struct ExampleTests {
    private func example(_ name: String) throws -> String {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        return try String(contentsOf: root.appending(path: "examples/\(name)"), encoding: .utf8)
    }

    @Test func `the network with ranges is a pool, out of which the VM's second NIC asks for its address`() throws {
        let definition = try example("storage-net.yaml")
        let start = try #require(definition.range(of: "config: |\n")).upperBound
        let network = try NetworkConfiguration(parsing: Array(definition[start...].utf8))
        let pool = try #require(try InlinePool(network)).pool
        #expect(pool.name == "10.20.0.0-24" && network.delegate?["type"] == "bridge")

        let machine = try example("testvm-two-networks.yaml")
        let line = try #require(machine.split(separator: "\n").first { $0.contains("holdfast.dev/") })
        let parts = line.split(separator: ":", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
        let pod = ObjectMeta(namespace: "default", name: "p", uid: "u", annotations: [parts[0]: parts[1]])
        let networks = [MachineNetwork(name: "default", isPrimary: true), MachineNetwork(name: "storage")]
        for (index, expected) in [[], ["10.20.0.15"]].enumerated() {
            let nic = PodInterface(
                name: networks[index].interface, network: network.name, pod: pod, machineNetworks: networks)
            let request = try AddressRequest(Wish.wishes(in: pod.annotations, for: nic))
            #expect(request.choices.flatMap { $0.map(\.description) } == expected)
        }
        let address = try #require(try Wish.addresses(parts[1], .annotation("x")))
        guard case .addresses(let addresses) = address.content else { return }
        #expect(pool.prefixes[0].prefix.contains(addresses[0]))
        #expect(!pool.prefixes[0].excluded.contains { $0.contains(addresses[0]) })
    }
}
