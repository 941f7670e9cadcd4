import CNI
import IPAMModel
import KubeVirt
import Ledger
import Logging
import NodeAgent
import Testing

/// NICs that a VM gets while it runs: with a migration, as KubeVirt does it by itself, or by Multus' dynamic networks controller
/// into a pod that came by a migration, whose label stays.
struct HotplugTests {
    private static let plugged = MachineNetwork(name: "blue", isPrimary: false).interface

    private let ipam: LedgerIPAM
    private let source = StatedSource()
    private let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    init() throws { ipam = try LedgerIPAM() }

    private func launcher(_ name: String, node: String, migration: String? = nil, interfaces: Set<String>? = ["eth0"])
        -> Pod
    {
        MigrationScene.launcher(name, node: node, migration: migration, interfaces: interfaces)
    }

    private func cluster(_ pods: Pod..., phase: String = "Scheduling") -> ClusterObjects {
        MigrationScene.cluster(
            pods, machine: "vm-1",
            networks: [
                MachineNetwork(name: "default", isPrimary: true), MachineNetwork(name: "blue", isPrimary: false),
            ], phase: phase)
    }

    @discardableResult
    private func add(_ interface: String, to pod: String, on node: String) async throws -> JSON {
        try await AttachmentHandler(node: node, ipam: ipam, source: source, log: log).add(
            AgentRequest(
                environment: [
                    "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c-\(pod)", "CNI_NETNS": "/run/netns/x",
                    "CNI_IFNAME": interface, "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=\(pod)",
                ],
                configuration: [
                    "cniVersion": "1.0.0", "name": "vm-net", "type": "bridge", "ipam": ["type": "holdfast-cni"],
                ]))
    }

    /// The VM's first NIC is carried by a pod on node-a, and its migration to one on node-b is open.
    private func migrating() async throws -> (from: Pod, to: Pod) {
        let (first, second) = (
            launcher("one", node: "node-a"), launcher("two", node: "node-b", migration: "vmim-1", interfaces: nil)
        )
        source.state(cluster(first))
        try await add("eth0", to: "one", on: "node-a")
        source.state(cluster(first, second))
        try await add("eth0", to: "two", on: "node-b")
        return (first, second)
    }

    private func binding(_ interface: String) -> Binding? {
        ipam.bindings.first { $0.owner.network == "vm-net/\(interface)" }
    }

    @Test func `one that comes with a migration gets addresses at the target`() async throws {
        let (first, second) = try await migrating()
        try await add(Self.plugged, to: "two", on: "node-b")
        #expect(binding("eth0")?.state == .migrating)
        #expect(binding(Self.plugged)?.active?.podUID == "uid-two")
        source.state(cluster(first, second, phase: "Succeeded"))
        var agent = Reconciliation(node: "node-b", ipam: ipam, source: source, log: log)
        await agent.pass(at: .now)
        #expect(ipam.bindings.allSatisfy { $0.state == .bound && $0.active?.podUID == "uid-two" })
    }

    /// The VM began before its network was Holdfast's: what its guest has there, nobody here knows.
    @Test(arguments: [Set(["eth0", plugged]), nil])
    func `one that the source has, or may have, gets none at the target`(has: Set<String>?) async throws {
        let (first, second) = (
            launcher("one", node: "node-a", interfaces: has), launcher("two", node: "node-b", migration: "vmim-1")
        )
        source.state(cluster(first, second))
        let error = await #expect(throws: CNIError.self) { try await add(Self.plugged, to: "two", on: "node-b") }
        #expect(error?.details.contains("BINDING_NOT_FOUND") == true || error?.message.contains("binding") == true)
        #expect(ipam.bindings.isEmpty)
    }

    /// KubeVirt's LiveUpdateNADRef: the source's NIC of that name is in another network, and is no Holdfast's.
    @Test func `one that comes into another network with a migration gets addresses at the target`() async throws {
        let (first, second) = try await migrating()
        func state(_ former: String) {
            var (source, target) = (first, second)
            source.interfaces?[Self.plugged] = []
            source.definitions = ["eth0": "vm-net", Self.plugged: former]
            target.metadata.annotations["k8s.v1.cni.cncf.io/networks"] =
                #"[{"name":"new","namespace":"default","interface":"\#(Self.plugged)"}]"#
            self.source.state(cluster(source, target))
        }
        state("default/new")
        await #expect(throws: CNIError.self) { try await add(Self.plugged, to: "two", on: "node-b") }
        state("default/old")
        try await add(Self.plugged, to: "two", on: "node-b")
        #expect(binding(Self.plugged)?.active?.podUID == "uid-two")
        #expect(binding("eth0")?.state == .migrating)
    }

    /// Its guest has an address that nobody here knows by this name.
    @Test func `one that the source has by the name of before KubeVirt 1 is not new, and it is said why`() async throws
    {
        let (first, second) = try await migrating()
        func refusal(_ former: String?) async throws -> String? {
            var (source, target) = (first, second)
            source.interfaces?["net1"] = []
            source.definitions["net1"] = former
            target.metadata.annotations["k8s.v1.cni.cncf.io/networks"] =
                #"[{"name":"b","namespace":"default","interface":"\#(Self.plugged)"}]"#
            self.source.state(cluster(source, target))
            do { try await add(Self.plugged, to: "two", on: "node-b") } catch let error as CNIError {
                return error.message
            }
            return nil
        }
        for former in [nil, "default/b"] {
            #expect(try await refusal(former)?.hasSuffix("is net1 in the pod that it migrates from") == true)
        }
        // A network binding plugin's own.
        #expect(try await refusal("default/other") == nil)
    }

    @Test func `one that is plugged into a pod that came by a migration gets addresses, also once it was pulled out`()
        async throws
    {
        let (_, second) = try await migrating()
        source.state(cluster(second, phase: "Succeeded"))
        // Not before the VM is there.
        await #expect(throws: CNIError.self) { try await add(Self.plugged, to: "two", on: "node-b") }
        var agent = Reconciliation(node: "node-b", ipam: ipam, source: source, log: log)
        await agent.pass(at: .now)
        try await add(Self.plugged, to: "two", on: "node-b")
        let given = try #require(binding(Self.plugged))
        #expect(given.active?.podUID == "uid-two")
        // KubeVirt keeps the last five migrations.
        var objects = cluster(second)
        objects.migrations = []
        source.state(objects)
        try ipam.apply(.release(.attachment(given.active!.id, owner: given.owner, network: given.owner.network)))
        try await add(Self.plugged, to: "two", on: "node-b")
        #expect(binding(Self.plugged)?.assignments == given.assignments)
        #expect(binding(Self.plugged)?.state == .bound)
        // A pod that says it is a migration's, and carries nothing of the VM, is nobody's (promise 8).
        objects.pods.append(launcher("thief", node: "node-b", migration: "vmim-1"))
        source.state(objects)
        try ipam.apply(.release(.attachment(given.active!.id, owner: given.owner, network: given.owner.network)))
        await #expect(throws: CNIError.self) { try await add(Self.plugged, to: "thief", on: "node-b") }
    }

    /// Holdfast serves none of its other NICs: what it carries says nothing.
    @Test func `the first one that is Holdfast's is given addresses where its instance says that it runs in the pod`()
        async throws
    {
        var objects = cluster(launcher("two", node: "node-b", migration: "vmim-1"), phase: "Succeeded")
        objects.migrations = []
        func refusal(_ node: String, _ state: MigrationState?) async -> (any Error)? {
            objects.instances[0].nodeName = node
            objects.instances[0].migration = state
            source.state(objects)
            do { try await add(Self.plugged, to: "two", on: "node-b") } catch { return error }
            return nil
        }
        var state = MigrationState(
            migrationUid: "vmim-1", sourceNode: "node-a", targetNode: "node-b", targetPod: "two", completed: true)
        // Promise 8
        #expect(await refusal("node-b", nil) != nil)
        #expect(await refusal("node-a", state) != nil)
        state.targetPod = "another"
        #expect(await refusal("node-b", state) != nil)
        (state.targetPod, state.migrationUid) = ("two", "vmim-0")
        #expect(await refusal("node-b", state) != nil)
        (state.migrationUid, state.failed) = ("vmim-1", true)
        #expect(await refusal("node-b", state) != nil)
        (state.completed, state.failed, state.sourceNode) = (nil, nil, "node-b")
        #expect(await refusal("node-b", state) != nil, "not moved yet")
        #expect(ipam.bindings.isEmpty)
        state.sourceNode = "node-a"
        #expect(await refusal("node-b", state) == nil)
        #expect(binding(Self.plugged)?.active?.podUID == "uid-two")
        // A later migration took it nowhere.
        try ipam.apply(.release(.binding(try #require(binding(Self.plugged)?.owner))))
        var failed = MigrationState(
            migrationUid: "vmim-2", sourceNode: "node-b", sourcePod: "two", targetPod: "three", completed: true,
            failed: true)
        #expect(await refusal("node-b", failed) == nil)
        // Before KubeVirt 1.3 it does not name the pod that it was to take it from.
        try ipam.apply(.release(.binding(try #require(binding(Self.plugged)?.owner))))
        (failed.sourcePod, failed.targetPod) = (nil, nil)
        #expect(await refusal("node-b", failed) != nil)
        failed.targetPod = "three"
        #expect(await refusal("node-b", failed) == nil)
    }
}
