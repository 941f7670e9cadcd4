import CNI
import IPAMModel
import KubeVirt
import Ledger
import Logging
import NodeAgent
import Testing

/// A running instance whose VM is another object than when it got its addresses: one that was deleted with its instance
/// orphaned and made anew, or that has adopted an instance which stood alone. It migrates all the same.
struct ReplacedMachineTests {
    private let ipam: LedgerIPAM
    private let source = StatedSource()
    private let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    private let old = Owner(
        kind: .virtualMachine, namespace: "default", name: "testvm", uid: "vm-old", network: "vm-net/eth0")

    init() throws { ipam = try LedgerIPAM() }

    private func launcher(_ name: String, node: String, migration: String? = nil, instance: String = "vmi-1") -> Pod {
        MigrationScene.launcher(name, node: node, migration: migration, instance: instance)
    }

    private func cluster(_ pods: Pod..., phase: String = "Scheduling") -> ClusterObjects {
        MigrationScene.cluster(pods, machine: "vm-new", phase: phase)
    }

    private func addTarget() async throws {
        _ = try await AttachmentHandler(node: "node-b", ipam: ipam, source: source, log: log).add(
            AgentRequest(
                environment: [
                    "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c-two", "CNI_NETNS": "/run/netns/x",
                    "CNI_IFNAME": "eth0", "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=two",
                ],
                configuration: [
                    "cniVersion": "1.0.0", "name": "vm-net", "type": "bridge", "ipam": ["type": "holdfast-cni"],
                ]))
    }

    private func carriedByFirst() throws {
        try ipam.apply(
            .allocate(
                AllocateRequest(
                    owner: old,
                    attachment: Attachment(node: "node-a", pod: "one", podUID: "uid-one", containerID: "c-one"))))
    }

    @Test func `the target gets the addresses, and the migration comes to its end`() async throws {
        try carriedByFirst()
        let before = try #require(ipam.bindings.first)
        let (first, second) = (launcher("one", node: "node-a"), launcher("two", node: "node-b", migration: "vmim-1"))
        source.state(cluster(first, second))
        try await addTarget()
        #expect(ipam.bindings.first?.target?.podUID == "uid-two" && ipam.bindings.count == 1)
        source.state(cluster(first, second, phase: "Succeeded"))
        var agent = Reconciliation(node: "node-b", ipam: ipam, source: source, log: log)
        await agent.pass(at: .now)
        let after = try #require(ipam.bindings.first)
        #expect(after.active?.podUID == "uid-two" && after.assignments == before.assignments && after.mac == before.mac)
    }

    // Promise 8
    @Test func `a binding that no pod of the instance carries is not its own`() async throws {
        try carriedByFirst()
        let second = launcher("two", node: "node-b", migration: "vmim-1")
        for first in [launcher("one", node: "node-a", instance: "vmi-0"), launcher("other", node: "node-a")] {
            source.state(cluster(first, second))
            await #expect(throws: CNIError.self) { try await addTarget() }
            #expect(ipam.bindings.first?.target == nil && ipam.bindings.count == 1)
        }
    }
}
