import CNI
import Foundation
import IPAMModel
import KubeVirt
import Ledger
import Logging
import Testing

@testable import NodeAgent

/// A VM moves to another VM object in another namespace (KubeVirt's decentralized live migration): `blue/testvm` on node-a
/// becomes `green/testvm2` on node-b.
struct DecentralizedMigrationTests {
    private let ipam: LedgerIPAM
    private let source = StatedSource()
    private let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    init() throws { ipam = try LedgerIPAM() }

    private func instance(_ namespace: String, _ name: String, node: String?) -> VirtualMachineInstance {
        VirtualMachineInstance(
            metadata: ObjectMeta(
                namespace: namespace, name: name, uid: "vmi-\(name)",
                owners: [
                    OwnerReference(apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name: name, uid: "vm-\(name)")
                ]), nodeName: node)
    }

    private func launcher(_ namespace: String, of name: String, node: String, migration: String? = nil) -> Pod {
        Pod(
            metadata: ObjectMeta(
                namespace: namespace, name: "launcher-\(name)", uid: "pod-\(name)",
                labels: migration.map { [KubeVirtName.migrationJobUID: $0] } ?? [:],
                owners: [
                    OwnerReference(
                        apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", name: name, uid: "vmi-\(name)")
                ]), nodeName: node, phase: "Running")
    }

    private func half(
        _ namespace: String, of name: String, sends: String? = nil, receives: String? = nil,
        phase: String = "Scheduling"
    ) -> VirtualMachineInstanceMigration {
        VirtualMachineInstanceMigration(
            metadata: ObjectMeta(namespace: namespace, name: "m-\(name)", uid: "vmim-\(name)"), vmiName: name,
            phase: phase, sends: sends, receives: receives)
    }

    private func cluster(phase: String = "Scheduling") -> ClusterObjects {
        var objects = ClusterObjects()
        objects.instances = [instance("blue", "testvm", node: "node-a"), instance("green", "testvm2", node: nil)]
        objects.instances[0].migration = MigrationState(
            sourceState: .init(migrationUID: "vmim-testvm"), targetState: .init(migrationUID: "vmim-testvm2"))
        objects.pods = [
            launcher("blue", of: "testvm", node: "node-a"),
            launcher("green", of: "testvm2", node: "node-b", migration: "vmim-testvm2"),
        ]
        objects.migrations = [
            half("blue", of: "testvm", sends: "move-1", phase: phase),
            half("green", of: "testvm2", receives: "move-1", phase: phase),
        ]
        return objects
    }

    @discardableResult
    private func add(_ namespace: String, _ name: String, on node: String) async throws -> JSON {
        try await AttachmentHandler(node: node, ipam: ipam, source: source, log: log).add(
            AgentRequest(
                environment: [
                    "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c-\(name)", "CNI_NETNS": "/run/netns/x",
                    "CNI_IFNAME": "eth0", "CNI_ARGS": "K8S_POD_NAMESPACE=\(namespace);K8S_POD_NAME=launcher-\(name)",
                ],
                configuration: [
                    "cniVersion": "1.0.0", "name": "vm-net", "type": "bridge", "ipam": ["type": "holdfast-cni"],
                ]))
    }

    @Test(arguments: ["Succeeded", "Failed"])
    func `the target gets the source's address, and keeps it just where the migration succeeds`(
        outcome: String
    ) async throws {
        source.state(cluster())
        let given = try await add("blue", "testvm", on: "node-a")
        let before = try #require(ipam.bindings.first)
        let target = try await add("green", "testvm2", on: "node-b")
        #expect(target["result"]?["ips"] == given["result"]?["ips"])
        #expect(ipam.bindings.count == 1 && ipam.bindings.first?.state == .migrating)
        var agent = Reconciliation(node: "node-b", ipam: ipam, source: source, log: log)
        await agent.pass(at: .now)
        #expect(ipam.bindings.first?.state == .migrating)
        source.state(cluster(phase: outcome))
        await agent.pass(at: .now + .seconds(10))
        let binding = try #require(ipam.bindings.first)
        #expect(ipam.bindings.count == 1 && binding.assignments == before.assignments && binding.mac == before.mac)
        if outcome == "Succeeded" {
            #expect(binding.owner.namespace == "green" && binding.owner.name == "testvm2")
            #expect(binding.owner.uid == "vm-testvm2" && binding.active?.podUID == "pod-testvm2")
        } else {
            #expect(binding.owner == before.owner && binding.active?.podUID == "pod-testvm")
        }
        #expect(binding.target == nil)
    }

    /// The usual order: a copy of the source's node holds the COMMIT up until its next renewal, and the source's pod has ended
    /// by then.
    @Test func `the target's VM gets the binding also where the source's DEL comes first`() async throws {
        source.state(cluster())
        try await add("blue", "testvm", on: "node-a")
        try await add("green", "testvm2", on: "node-b")
        var agent = Reconciliation(node: "node-b", ipam: ipam, source: source, log: log)
        await agent.pass(at: .now)
        let open = try #require(ipam.bindings.first)
        let carrier = try #require(open.active)
        try ipam.apply(.release(.attachment(carrier.id, owner: nil, network: open.owner.network)))
        #expect(ipam.bindings.first?.owner == open.owner && ipam.bindings.first?.active?.podUID == "pod-testvm2")
        // It is not known yet how it ends; then the server is away for a moment.
        await agent.pass(at: .now + .seconds(10))
        #expect(ipam.bindings.first?.owner == open.owner)
        source.state(cluster(phase: "Succeeded"))
        ipam.fail(with: IPAMError(.unavailable, .copiesOutstanding, "a node has a copy"))
        await agent.pass(at: .now + .seconds(20))
        ipam.fail(with: nil)
        await agent.pass(at: .now + .seconds(30))
        let binding = try #require(ipam.bindings.first)
        #expect(binding.owner.namespace == "green" && binding.owner.uid == "vm-testvm2")
        #expect(binding.assignments == open.assignments && binding.active?.podUID == "pod-testvm2")
    }

    /// The migration is open, and the source's DEL comes before its COMMIT.
    private func releasedBySource() async throws -> Binding {
        source.state(cluster())
        try await add("blue", "testvm", on: "node-a")
        try await add("green", "testvm2", on: "node-b")
        let open = try #require(ipam.bindings.first)
        let carrier = try #require(open.active)
        try ipam.apply(.release(.attachment(carrier.id, owner: nil, network: open.owner.network)))
        #expect(ipam.bindings.first?.owner == open.owner && ipam.bindings.first?.active?.podUID == "pod-testvm2")
        return open
    }

    private var isHandedOver: Bool {
        ipam.bindings.first?.owner.name == "testvm2" && ipam.bindings.first?.owner.uid == "vm-testvm2"
            && ipam.bindings.first?.active?.podUID == "pod-testvm2"
    }

    @Test(arguments: [true, false])
    func `an agent that starts after the source's DEL hands over too, also where the migration is gone`(
        isThere: Bool
    ) async throws {
        let open = try await releasedBySource()
        var agent = Reconciliation(node: "node-b", ipam: ipam, source: source, log: log)
        await agent.pass(at: .now)
        #expect(ipam.bindings.first?.owner == open.owner)
        var objects = cluster(phase: "Succeeded")
        if !isThere {
            objects.migrations = []
            objects.instances[1].migration = MigrationState(
                migrationUid: "vmim-testvm2", targetNodeDomainReadyTimestamp: "2026-11-29T12:00:00Z")
        }
        source.state(objects)
        agent = Reconciliation(node: "node-b", ipam: ipam, source: source, log: log)
        await agent.pass(at: .now)
        #expect(isHandedOver && ipam.bindings.first?.assignments == open.assignments)
        // Known to be done, it is not looked for again.
        let calls = ipam.calls.count
        await agent.pass(at: .now + .seconds(10))
        await agent.pass(at: .now + .seconds(20))
        #expect(ipam.calls.count <= calls + 3)
    }

    @Test func `a migration that failed, or that nothing more is known of, hands nothing over`() async throws {
        let open = try await releasedBySource()
        var agent = Reconciliation(node: "node-b", ipam: ipam, source: source, log: log)
        var objects = cluster()
        objects.migrations = []
        for objects in [cluster(phase: "Failed"), objects] {
            source.state(objects)
            await agent.pass(at: .now)
            #expect(ipam.bindings.first?.owner == open.owner)
        }
        // What a look did not show comes with another.
        source.state(cluster(phase: "Succeeded"))
        await agent.pass(at: .now)
        #expect(isHandedOver)
    }

    @Test func `an announcement that fails holds up no hand-over`() async throws {
        source.state(cluster())
        let folder = "/tmp/holdfast-test-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let guests = GuestService(
            ports: try GuestPorts(folder: PortFolder(path: folder), log: log), answersByDefault: false,
            announces: true, log: log)
        var agent = Reconciliation(node: "node-b", ipam: ipam, source: source, guests: guests, log: log)
        try await add("blue", "testvm", on: "node-a")
        try await add("green", "testvm2", on: "node-b")
        await agent.pass(at: .now)
        let carrier = try #require(ipam.bindings.first?.active)
        try ipam.apply(.release(.attachment(carrier.id, owner: nil, network: "vm-net/eth0")))
        // Of the next pass the first question is answered, and those after it are not.
        let other = Owner(kind: .virtualMachine, namespace: "red", name: "other", uid: "vm-other", network: "n/eth0")
        func attachment(_ node: String) -> IPAMModel.Attachment {
            Attachment(node: node, pod: "other-\(node)", podUID: "other-\(node)", containerID: "o-\(node)")
        }
        try ipam.apply(.allocate(AllocateRequest(owner: other, attachment: attachment("node-a"))))
        try ipam.apply(
            .transfer(
                TransferRequest(owner: other, migrationUID: "m-other", phase: .prepare(target: attachment("node-b")))))
        ipam.beforeAnswer { [ipam] in ipam.fail(with: IPAMError(.unavailable, .noAnswer, "away")) }
        source.state(cluster(phase: "Succeeded"))
        await agent.pass(at: .now + .seconds(10))
        #expect(!isHandedOver)
        ipam.beforeAnswer(nil)
        ipam.fail(with: nil)
        await agent.pass(at: .now + .seconds(20))
        #expect(isHandedOver)
    }

    @Test func `a VM that has addresses already gets no other VM's`() async throws {
        source.state(cluster())
        try await add("blue", "testvm", on: "node-a")
        let own = Owner(kind: .virtualMachine, namespace: "green", name: "testvm2", uid: "", network: "vm-net/eth0")
        try ipam.apply(.allocate(AllocateRequest(owner: own)))
        let error = await #expect(throws: CNIError.self) { try await add("green", "testvm2", on: "node-b") }
        #expect(error?.message.contains("release one of them") == true)
        #expect(ipam.bindings.count == 2 && ipam.bindings.allSatisfy { $0.target == nil })
        try ipam.apply(.release(.binding(own)))
        try await add("green", "testvm2", on: "node-b")
        #expect(ipam.bindings.first?.target?.podUID == "pod-testvm2")
    }

    // Promise 8
    @Test func `a migration that nothing sends, or two receive, brings nobody another VM's address`() async throws {
        source.state(cluster())
        try await add("blue", "testvm", on: "node-a")
        let changes: [(inout ClusterObjects) -> Void] = [
            { $0.migrations.removeFirst() }, { $0.migrations[0].sends = "move-2" },
            { $0.migrations.append(self.half("red", of: "thief", receives: "move-1")) },
            { $0.migrations.append(self.half("red", of: "other", sends: "move-1")) },
            { $0.instances.removeFirst() },
            // It is sent to another cluster, or KubeVirt has not paired the two yet; what its instance says is of another time.
            { $0.instances[0].migration?.targetState?.migrationUID = "vmim-far-away" },
            { $0.instances[0].migration?.targetState = nil },
            { $0.instances[0].migration?.sourceState?.migrationUID = "vmim-before" },
        ]
        for change in changes {
            var objects = cluster()
            change(&objects)
            source.state(objects)
            await #expect(throws: CNIError.self) { try await add("green", "testvm2", on: "node-b") }
            #expect(ipam.bindings.count == 1 && ipam.bindings.first?.state == .bound)
        }
    }

    // Promise 8
    @Test func `no annotation of the target's pod gives its VM another one's address`() async throws {
        var objects = cluster()
        objects.pods[1].metadata.annotations[KubeVirtName.migrationTargetReady] = "2026-11-29T12:00:00Z"
        source.state(objects)
        try await add("blue", "testvm", on: "node-a")
        try await add("green", "testvm2", on: "node-b")
        let open = try #require(ipam.bindings.first)
        var agent = Reconciliation(node: "node-b", ipam: ipam, source: source, log: log)
        await agent.pass(at: .now)
        await agent.pass(at: .now + .seconds(10))
        #expect(ipam.bindings.first == open && open.owner.name == "testvm")
        // What virt-handler says of the target does.
        objects.instances[1].migration = MigrationState(
            migrationUid: "vmim-testvm2", targetNodeDomainReadyTimestamp: "2026-11-29T12:00:00Z")
        source.state(objects)
        await agent.pass(at: .now + .seconds(20))
        #expect(isHandedOver)
    }

    @Test func `a target whose namespace may not use the pool is refused before the guest comes`() async throws {
        source.state(cluster())
        try await add("blue", "testvm", on: "node-a")
        var pool = try #require(ipam.pool(named: "vms"))
        pool.namespaces = ["blue"]
        try ipam.apply(.updatePool(pool))
        let error = await #expect(throws: CNIError.self) { try await add("green", "testvm2", on: "node-b") }
        #expect(error?.code == .notPermitted && error?.message.contains("green") == true)
        #expect(ipam.bindings.first?.target == nil)
    }

    @Test func `from another cluster it comes to the addresses that were reserved for it`() async throws {
        var objects = cluster()
        objects.migrations.removeFirst()
        source.state(objects)
        let owner = Owner(
            kind: .virtualMachine, namespace: "green", name: "testvm2", uid: "", network: "vm-net/eth0")
        try ipam.apply(.allocate(AllocateRequest(owner: owner)))
        let answer = try await add("green", "testvm2", on: "node-b")
        #expect(answer["result"]?["ips"] == [["address": "10.16.0.11/16", "gateway": "10.16.0.1"]])
        #expect(ipam.bindings.first?.owner.uid == "vm-testvm2" && ipam.bindings.first?.state == .bound)
        // Its pod's new sandbox too; what another pod carries was not reserved for it.
        try await add("green", "testvm2", on: "node-b")
        let other = IPAMModel.Attachment(node: "node-a", pod: "other", podUID: "pod-other", containerID: "c-other")
        try ipam.apply(.allocate(AllocateRequest(owner: owner, attachment: other)))
        let error = await #expect(throws: CNIError.self) { try await add("green", "testvm2", on: "node-b") }
        #expect(error?.code == .tryAgainLater && ipam.bindings.first?.active == other)
    }
}
