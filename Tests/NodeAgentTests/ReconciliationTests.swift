import Addresses
import Foundation
import IPAMModel
import KubeVirt
import Ledger
import Logging
import NodeAgent
import Synchronization
import Testing

struct ReconciliationTests {
    private let ipam: LedgerIPAM
    private let source = StatedSource()
    private let start = ContinuousClock.now

    init() throws { ipam = try LedgerIPAM() }

    private func agent(_ node: String = "node-b") -> Reconciliation {
        Reconciliation(
            node: node, ipam: ipam, source: source, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    private func owner(_ name: String, uid: String = "vm-1", network: String = "n/eth0") -> Owner {
        Owner(kind: .virtualMachine, namespace: "default", name: name, uid: uid, network: network)
    }

    /// A binding carried by `active`, and in a migration to `target` with the UID.
    private func bind(
        _ owner: Owner, active: String? = nil, target: String? = nil, migrationUID: String = ""
    ) throws {
        func attachment(_ pod: String, on node: String) -> IPAMModel.Attachment {
            Attachment(node: node, pod: pod, podUID: pod, containerID: "c-\(pod)")
        }
        try ipam.apply(
            .allocate(AllocateRequest(owner: owner, attachment: active.map { attachment($0, on: "node-a") })))
        guard let target else { return }
        try ipam.apply(
            .transfer(
                TransferRequest(
                    owner: owner, migrationUID: migrationUID,
                    phase: .prepare(target: attachment(target, on: "node-b")))))
    }

    private func cluster(vms: [String: String] = ["other": "other"], succeeded: [String] = []) -> ClusterObjects {
        var objects = ClusterObjects()
        objects.virtualMachines = vms.map {
            VirtualMachine(metadata: ObjectMeta(namespace: "default", name: $0, uid: $1))
        }
        objects.migrations = succeeded.map {
            VirtualMachineInstanceMigration(
                metadata: ObjectMeta(namespace: "default", name: $0, uid: $0), vmiName: $0 == "m-1" ? "testvm" : $0,
                phase: "Succeeded")
        }
        return objects
    }

    private func transfers() -> Int { ipam.calls.count { if case .transfer = $0 { true } else { false } } }
    private func lists() -> Int { ipam.calls.count { if case .list = $0 { true } else { false } } }
    private func releases() -> [Owner] {
        ipam.calls.compactMap { if case .release(.binding(let owner)) = $0 { owner } else { nil } }
    }

    @Test(arguments: ["node-a", "node-b"])
    func `an agent that starts anew settles what ended without it, from either node`(node: String) async throws {
        try bind(owner("testvm"), active: "source", target: "target", migrationUID: "m-1")
        source.state(cluster(succeeded: ["m-1"]))
        var agent = agent(node)
        await agent.pass(at: start)
        #expect(ipam.binding(of: owner("testvm").key)?.active?.pod == "target")
        #expect(ipam.binding(of: owner("testvm").key)?.target == nil)
    }

    @Test func `an agent of a third node leaves the migration alone`() async throws {
        try bind(owner("testvm"), active: "source", target: "target", migrationUID: "m-1")
        source.state(cluster(succeeded: ["m-1"]))
        var agent = agent("node-c")
        await agent.pass(at: start)
        #expect(transfers() == 0)
    }

    @Test func `while the server is away it is asked with longer and longer waits, and then told`() async throws {
        try bind(owner("testvm"), active: "source", target: "target", migrationUID: "m-1")
        source.state(cluster(succeeded: ["m-1"]))
        ipam.fail(with: IPAMError(.unavailable, .noAnswer, "away"))
        var agent = agent()
        var now = start
        for _ in 0..<300 {
            now += .milliseconds(200)
            await agent.pass(at: now)
        }
        // 0.2 + 0.4 + 0.8 + 1.6 + 3.2 s, then 5 s each, in one minute.
        #expect((10...20).contains(lists()))
        ipam.fail(with: nil)
        await agent.pass(at: now + .seconds(5))
        #expect(ipam.binding(of: owner("testvm").key)?.active?.pod == "target")
    }

    @Test func `nothing new in the cluster asks the server seldom`() async throws {
        source.state(cluster())
        var agent = agent()
        for tick in 0..<50 { await agent.pass(at: start + .milliseconds(200 * tick)) }
        #expect(lists() == 2)
    }

    @Test func `one migration that cannot be settled does not keep others from it`() async throws {
        for name in ["a", "b", "c"] {
            try bind(owner(name), active: "s-\(name)", target: "t-\(name)", migrationUID: name)
        }
        source.state(cluster(succeeded: ["a", "b", "c"]))
        ipam.refuse(ownersNamed: "a")
        var agent = agent()
        await agent.pass(at: start)
        #expect(ipam.bindings.filter { $0.target == nil }.map(\.owner.name).sorted() == ["b", "c"])
        ipam.refuse(ownersNamed: nil)
        await agent.pass(at: start + .seconds(1))
        #expect(ipam.bindings.allSatisfy { $0.target == nil })
    }

    @Test func `a deleted VM's bindings are released on every network, and no other's`() async throws {
        try bind(owner("testvm", network: "n/eth0"))
        try bind(owner("testvm", network: "n/net1"))
        try bind(owner("othervm", uid: "vm-2"))
        // A new VM's by the same name, and one that a plain pod of that name has.
        try bind(owner("testvm", uid: "vm-9", network: "n/net2"))
        try bind(Owner(kind: .pod, namespace: "default", name: "testvm", uid: "vm-1", network: "n/eth0"))
        var agent = agent()
        source.state(cluster(vms: ["testvm": "vm-1", "othervm": "vm-2"]))
        await agent.pass(at: start)
        source.state(cluster(vms: ["othervm": "vm-2"]))
        await agent.pass(at: start)
        #expect(releases().isEmpty)
        await agent.pass(at: start)
        #expect(Set(releases().map(\.network)) == ["n/eth0", "n/net1"])
        #expect(ipam.bindings.count == 3)
        await agent.pass(at: start)
        #expect(releases().count == 2)
    }

    /// Runs `body` with an agent before which another one has seen `testvm`, in the directory "vms", and it is there no more.
    private func restart(
        _ node: String, directory: String = "vms", _ body: (inout Reconciliation) async throws -> Void
    ) async throws {
        let path = "/tmp/holdfast-test-\(UUID().uuidString.prefix(8).lowercased())"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        func agent(_ directory: String) throws -> Reconciliation {
            Reconciliation(
                node: node, ipam: ipam, source: source,
                seen: try SeenMachines(path: path, directory: directory, log: log), log: log)
        }
        source.state(cluster(vms: ["testvm": "vm-1", "other": "other"]))
        var before = try agent("vms")
        await before.pass(at: start)
        source.state(cluster())
        var after = try agent(directory)
        try await body(&after)
    }

    @Test func `a VM that was deleted while no agent ran is released, after as many looks`() async throws {
        try bind(owner("testvm"), active: "gone")
        try await restart("node-a") { agent in
            await agent.pass(at: start)
            #expect(releases().isEmpty)
            await agent.pass(at: start)
            #expect(releases().map(\.name) == ["testvm"] && ipam.bindings.isEmpty)
        }
    }

    @Test(arguments: [("node-b", "vms"), ("node-a", "others")])
    func `a VM that another node carries, or that another directory had, is not released by an agent that starts`(
        node: String, directory: String
    ) async throws {
        try bind(owner("testvm"), active: "moved")
        try await restart(node, directory: directory) { agent in
            for tick in 0..<5 { await agent.pass(at: start + .seconds(tick)) }
        }
        #expect(releases().isEmpty && ipam.bindings.count == 1)
    }

    @Test func `a release that fails is repeated`() async throws {
        try bind(owner("testvm"))
        var agent = agent()
        source.state(cluster(vms: ["testvm": "vm-1", "other": "other"]))
        await agent.pass(at: start)
        source.state(cluster())
        ipam.fail(with: IPAMError(.unavailable, .noAnswer, "away"))
        for _ in 0..<3 { await agent.pass(at: start) }
        ipam.fail(with: nil)
        await agent.pass(at: start + .seconds(1))
        #expect(ipam.bindings.isEmpty)
    }

    // Promise 7
    @Test func `a VM that shows again in the reading just before is not released`() async throws {
        try bind(owner("testvm"))
        let flickering = FlickeringSource(
            missing: Reading(objects: cluster(), isComplete: true),
            present: Reading(objects: cluster(vms: ["testvm": "vm-1", "other": "other"]), isComplete: true))
        var agent = Reconciliation(
            node: "node-b", ipam: ipam, source: flickering, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        )
        for tick in 0..<8 { await agent.pass(at: start + .seconds(tick)) }
        #expect(releases().isEmpty)
        #expect(flickering.readings > 8)
    }

    @Test func `a VM that was deleted while its pod runs on keeps its address until the pod has ended`() async throws {
        try bind(owner("testvm"), active: "orphan")
        var agent = agent()
        var objects = cluster(vms: ["testvm": "vm-1", "other": "other"])
        objects.pods = [Pod(metadata: ObjectMeta(namespace: "default", name: "p", uid: "orphan"), phase: "Running")]
        source.state(objects)
        await agent.pass(at: start)
        objects.virtualMachines = cluster().virtualMachines
        source.state(objects)
        for tick in 0..<5 { await agent.pass(at: start + .seconds(tick)) }
        #expect(releases().isEmpty)
        objects.pods[0].phase = "Succeeded"
        source.state(objects)
        await agent.pass(at: start + .seconds(60))
        #expect(releases().count == 1)
    }
}

/// Twice in every three readings a VM is missing.
private final class FlickeringSource: ObjectSource {
    private let missing: Reading
    private let present: Reading
    private let count = Atomic(0)

    init(missing: Reading, present: Reading) {
        self.missing = missing
        self.present = present
    }

    var readings: Int { count.load(ordering: .relaxed) }

    func read() async -> Reading {
        count.wrappingAdd(1, ordering: .relaxed).oldValue % 3 == 0 ? present : missing
    }
}
