import Addresses
import CNI
import Foundation
import IPAMModel
import KubeVirt
import Ledger
import Logging
import NodeAgent
import Testing

/// A VM with the pod network and Multus networks, one of them attached twice, on two nodes: real `bridge`, in network
/// namespaces.
@Suite(.serialized, .enabled(if: NetworkNamespaces.areUsable))
struct SeveralNICsTests {
    /// The VM's networks, by KubeVirt's names: `blue` and `green` are both of the definition prod/storage.
    private enum NIC: String, CaseIterable {
        case main = "default", blue, green, red

        var interface: String { MachineNetwork(name: rawValue, isPrimary: self == .main).interface }
        var network: String { self == .main ? "vm-net" : self == .red ? "backup" : "storage" }
    }

    /// One node with its bridges.
    private struct Node {
        let fixture: NodeFixture
        let bridges: [String: String]

        init(_ fixture: NodeFixture) {
            self.fixture = fixture
            bridges = Dictionary(
                uniqueKeysWithValues: Set(NIC.allCases.map(\.network)).map { ($0, fixture.bridgeName()) })
        }

        private func configuration(_ nic: NIC) -> JSON {
            let bridge = JSON.string(bridges[nic.network] ?? "")
            let socket = JSON.string(fixture.socket)
            switch nic {
            case .main:
                // The MAC is pinned here, as KubeVirt's bridge binding needs it.
                return [
                    "cniVersion": "1.0.0", "name": "vm-net", "type": "holdfast-cni", "pool": "vms", "socket": socket,
                    "delegate": ["type": "bridge", "bridge": bridge],
                ]
            case .blue, .green:
                return [
                    "cniVersion": "1.0.0", "name": "storage", "type": "holdfast-cni", "socket": socket,
                    "delegate": [
                        "type": "bridge", "bridge": bridge,
                        "ipam": ["type": "whereabouts", "range": "10.20.0.10-10.20.0.99/24", "gateway": "10.20.0.1"],
                    ],
                ]
            case .red:
                return [
                    "cniVersion": "1.0.0", "name": "backup", "type": "bridge", "bridge": bridge,
                    "ipam": ["type": "holdfast-cni", "pool": "other", "socket": socket],
                ]
            }
        }

        /// A launcher pod as KubeVirt and the scheduler leave it.
        func launch(_ pod: String, _ nics: [NIC], migration: String? = nil) throws {
            let networks = nics.filter { $0 != .main }.map { nic in
                #"{"name":"\#(nic.network)","namespace":"prod","interface":"\#(nic.interface)"}"#
            }.joined(separator: ",")
            let label = migration.map { ", labels: {kubevirt.io/migrationJobUID: \($0)}" } ?? ""
            try fixture.write(
                """
                apiVersion: v1
                kind: Pod
                metadata:
                  {namespace: default, name: \(pod), uid: uid-\(pod)\(label), annotations: {
                    k8s.v1.cni.cncf.io/networks: '[\(networks)]',
                    storage.prod.kubernetes.io/ip_address.\(NIC.green.interface): 10.20.0.77,
                    network.kubevirt.io/addresses: '{"red": ["10.17.0.50"]}'}, ownerReferences: [
                    {apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: testvm, uid: vmi-1, controller: true}]}
                spec: {nodeName: \(fixture.node)}
                """, to: "\(pod).yaml")
        }

        func instance(_ nics: [NIC], on node: String, migration: String? = nil) throws {
            let networks = nics.map { nic in
                nic == .main
                    ? "{name: default, pod: {}}" : "{name: \(nic.rawValue), multus: {networkName: prod/\(nic.network)}}"
            }.joined(separator: ", ")
            let state = migration.map {
                ", migrationState: {migrationUid: \($0), completed: true, targetNode: \(node)}"
            }
            try fixture.write(
                """
                apiVersion: kubevirt.io/v1
                kind: VirtualMachineInstance
                metadata: {namespace: default, name: testvm, uid: vmi-1}
                spec: {networks: [\(networks)]}
                status: {nodeName: \(node)\(state ?? "")}
                """, to: "vmi.yaml")
        }

        func migration(_ uid: String, phase: String) throws {
            try fixture.write(
                """
                apiVersion: kubevirt.io/v1
                kind: VirtualMachineInstanceMigration
                metadata: {namespace: default, name: m, uid: \(uid)}
                spec: {vmiName: testvm}
                status: {phase: \(phase)}
                """, to: "vmim.yaml")
        }

        func call(_ verb: String, _ nic: NIC, pod: String, netns: String) throws -> Executable.Outcome {
            try fixture.runtime(
                verb, configuration: configuration(nic), container: "c-\(pod)", netns: netns, pod: pod,
                uid: "uid-\(pod)",
                interface: nic.interface)
        }

        /// The interface as it is after ADD.
        func add(_ nic: NIC, pod: String, netns: String) throws -> Interface {
            try call("ADD", nic, pod: pod, netns: netns).requireSuccess()
            return try Interface(nic.interface, in: netns)
        }
    }

    private func withTwoNodes(_ body: (Node, Node) async throws -> Void) async throws {
        try await NodeFixture.run(node: "node-a") { first in
            try await NodeFixture.run(node: "node-b", ipam: first.ipam) { second in
                try await body(Node(first), Node(second))
            }
        }
    }

    private func state(_ nic: NIC, _ node: Node) -> BindingState? {
        node.fixture.ipam.bindings.first { $0.owner.network == "\(nic.network)/\(nic.interface)" }?.state
    }

    @Test func `each NIC is its own binding, and keeps address and MAC over a restart on another node`() async throws {
        try await withTwoNodes { first, second in
            let nics: [NIC] = [.main, .blue, .green]
            var seen: [[Interface]] = []
            for (node, pod) in [(first, "one"), (second, "two")] {
                try node.instance(nics, on: node.fixture.node)
                try node.launch(pod, nics)
                let netns = try node.fixture.makeNamespace()
                seen.append(try nics.map { try node.add($0, pod: pod, netns: netns) })
                // One way to everywhere: the VM's first network's.
                let defaults = try Interface(in: netns).routes.filter { $0.hasPrefix("default") }
                #expect(defaults == ["default via 10.16.0.1"])
                for nic in nics.reversed() {
                    try node.call("DEL", nic, pod: pod, netns: netns).requireSuccess()
                    #expect(state(nic, node) == .reserved)
                    #expect(try !Interface.exists(nic.interface, in: netns))
                }
                try node.fixture.remove("\(pod).yaml")
            }
            #expect(seen[0].map(\.addresses) == [["10.16.0.11/16"], ["10.20.0.10/24"], ["10.20.0.77/24"]])
            #expect(seen[0].map(\.addresses) == seen[1].map(\.addresses))
            #expect(seen[0].map(\.mac) == seen[1].map(\.mac) && Set(seen[0].map(\.mac)).count == 3)
            #expect(first.fixture.ipam.bindings.count == 3)
        }
    }

    @Test func `a NIC plugged into a running VM comes and goes alone, and has its address again when it comes back`()
        async throws
    {
        try await withTwoNodes { node, _ in
            try node.instance([.main, .blue], on: "node-a")
            try node.launch("one", [.main, .blue])
            let netns = try node.fixture.makeNamespace()
            let before = try [NIC.main, .blue].map { try node.add($0, pod: "one", netns: netns) }

            // KubeVirt puts the NIC into the instance and the pod's annotation; Multus' controller calls ADD for it.
            var plugged: [[String]] = []
            for _ in 0..<2 {
                try node.instance([.main, .blue, .red], on: "node-a")
                try node.launch("one", [.main, .blue, .red])
                plugged.append(try node.add(.red, pod: "one", netns: netns).addresses)
                try node.call("DEL", .red, pod: "one", netns: netns).requireSuccess()
                #expect(try !Interface.exists(NIC.red.interface, in: netns))
                #expect(state(.red, node) == .reserved && state(.main, node) == .bound && state(.blue, node) == .bound)
                #expect(
                    try [NIC.main, .blue].map { try Interface($0.interface, in: netns).addresses }
                        == before.map(\.addresses))
            }
            #expect(plugged == [["10.17.0.50/16", "fd00::2/64"], ["10.17.0.50/16", "fd00::2/64"]])
        }
    }

    @Test func `all NICs migrate together, and a late DEL of the source takes nothing from the target`() async throws {
        try await withTwoNodes { first, second in
            let nics: [NIC] = [.main, .blue, .green, .red]
            try first.instance(nics, on: "node-a")
            try first.launch("source", nics)
            let here = try first.fixture.makeNamespace()
            let before = try nics.map { try first.add($0, pod: "source", netns: here) }

            try second.instance(nics, on: "node-a")
            try second.launch("target", nics, migration: "vmim-1")
            try second.migration("vmim-1", phase: "Scheduling")
            let there = try second.fixture.makeNamespace()
            let after = try nics.map { try second.add($0, pod: "target", netns: there) }
            #expect(before.map(\.addresses) == after.map(\.addresses))
            // The last is an IPAM plugin alone: its MAC is the bridge plugin's choice.
            #expect(before.dropLast().map(\.mac) == after.dropLast().map(\.mac))
            for nic in nics { #expect(state(nic, second) == .migrating) }

            try second.instance(nics, on: "node-b", migration: "vmim-1")
            try second.migration("vmim-1", phase: "Succeeded")
            var agent = Reconciliation(
                node: "node-b", ipam: second.fixture.ipam, source: second.fixture.source,
                log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            await agent.pass(at: .now)
            let committed = second.fixture.ipam.bindings
            #expect(
                committed.count == 4 && committed.allSatisfy { $0.active?.podUID == "uid-target" && $0.target == nil })

            for nic in nics { try first.call("DEL", nic, pod: "source", netns: here).requireSuccess() }
            #expect(second.fixture.ipam.bindings.map(\.active) == committed.map(\.active))
        }
    }
}
