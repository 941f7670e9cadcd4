import CNI
import IPAMModel
import KubeVirt
import Ledger
import Testing

@testable import NodeAgent

/// CNI 1.1, section 2, "GC": at the agent.
struct CollectionTests {
    private let fixture: HandlerFixture

    init() throws { fixture = try HandlerFixture() }

    private func collect(
        _ valid: [(container: String, interface: String)], network: String = "vm-net"
    ) async -> CNIError? {
        let list = valid.map { JSON.object(["containerID": .string($0.container), "ifname": .string($0.interface)]) }
        var configuration = HandlerFixture.ipamNetwork
        configuration["name"] = .string(network)
        let request = fixture.request("GC", network: configuration, ("cni.dev/valid-attachments", .array(list)))
        return await fixture.refusal { () throws(CNIError) in try await fixture.handler.collect(request) }
    }

    private func states() -> [String: BindingState] {
        Dictionary(fixture.ipam.bindings.map { ("\($0.owner.name) \($0.owner.network)", $0.state) }) { $1 }
    }

    @Test func `section 2, GC: what is not listed is detached: a VM keeps its binding, a pod's goes`() async throws {
        try await fixture.add(pod: "web", container: "c1")
        try await fixture.add(pod: "launcher", container: "c2")
        let address = fixture.ipam.bindings.first { $0.owner.name == "testvm" }?.assignments
        #expect(await collect([]) == nil)
        #expect(states() == ["testvm vm-net/eth0": .reserved])
        #expect(fixture.ipam.bindings.first?.assignments == address)
        // Again: nothing is left to do.
        #expect(await collect([]) == nil)
        #expect(states() == ["testvm vm-net/eth0": .reserved])
    }

    @Test func `section 2, GC: an attachment is its container and its interface together`() async throws {
        try await fixture.add(pod: "launcher", container: "c1", interface: "eth0")
        try await fixture.add(pod: "launcher", container: "c1", interface: "net1")
        try await fixture.add(pod: "web", container: "c2")
        #expect(await collect([("c1", "eth0"), ("c2", "eth0"), ("c1", "net2")]) == nil)
        #expect(
            states() == [
                "testvm vm-net/eth0": .bound, "testvm vm-net/net1": .reserved, "web vm-net/eth0": .bound,
            ])
    }

    @Test func `section 2, GC: speaks of this network and this node alone`() async throws {
        try await fixture.add(pod: "web", container: "c1")
        let elsewhere = Owner(kind: .virtualMachine, namespace: "default", name: "far", network: "vm-net/eth0")
        try fixture.ipam.apply(
            .allocate(
                AllocateRequest(
                    owner: elsewhere,
                    attachment: Attachment(node: "node-b", pod: "far", podUID: "uid-far", containerID: "c9"))))
        for (network, name) in [("vm", "a"), ("vm-net2/eth0", "b"), ("other/vm-net/eth0", "c"), ("vm-net", "d")] {
            try fixture.ipam.apply(
                .allocate(
                    AllocateRequest(
                        owner: Owner(kind: .pod, namespace: "default", name: name, uid: name, network: network),
                        attachment: Attachment(node: "node-a", pod: name, podUID: name, containerID: "c-\(name)"))))
        }
        #expect(await collect([], network: "unknown") == nil)
        #expect(states().count == 6)
        #expect(await collect([]) == nil)
        #expect(states()["web vm-net/eth0"] == nil)
        #expect(states().count == 5 && states().values.allSatisfy { $0 == .bound })
    }

    @Test func `section 2, GC: a migration's target that is not listed ends the migration, and its source stays`()
        async throws
    {
        let machine = Owner(
            kind: .virtualMachine, namespace: "default", name: "testvm", uid: "vm-1", network: "vm-net/eth0")
        let source = Attachment(node: "node-b", pod: "source", podUID: "uid-source", containerID: "c-source")
        let target = Attachment(node: "node-a", pod: "target", podUID: "uid-target", containerID: "c-target")
        try fixture.ipam.apply(.allocate(AllocateRequest(owner: machine, attachment: source)))
        try fixture.ipam.apply(
            .transfer(TransferRequest(owner: machine, migrationUID: "m1", phase: .prepare(target: target))))
        #expect(await collect([("c-target", "eth0")]) == nil)
        #expect(fixture.ipam.bindings.first?.state == .migrating)
        #expect(await collect([]) == nil)
        let binding = try #require(fixture.ipam.bindings.first)
        #expect(binding.state == .bound && binding.active?.podUID == "uid-source")
    }

    @Test func `section 2, GC: without a list nothing is detached`() async throws {
        try await fixture.add()
        let refusal = await fixture.refusal { () throws(CNIError) in
            try await fixture.handler.collect(fixture.request("GC"))
        }
        #expect(refusal?.code == .invalidConfiguration)
        #expect(states() == ["web vm-net/eth0": .bound])
    }

    @Test func `section 2, GC: an attachment without a container's ID cannot be listed, and stays`() async throws {
        let machine = Owner(
            kind: .virtualMachine, namespace: "default", name: "testvm", uid: "vm-1", network: "vm-net/eth0")
        try fixture.ipam.apply(
            .allocate(
                AllocateRequest(
                    owner: machine, attachment: Attachment(node: "node-a", pod: "p", podUID: "u", containerID: ""))))
        #expect(await collect([]) == nil)
        #expect(fixture.ipam.bindings.first?.state == .bound)
    }

    @Test func `section 2, GC: while the server is away it is code 11, and nothing is lost`() async throws {
        try await fixture.add()
        fixture.ipam.fail(with: IPAMError(.unavailable, .noAnswer, "away"))
        #expect(await collect([])?.code == .tryAgainLater)
        fixture.ipam.fail(with: nil)
        #expect(states() == ["web vm-net/eth0": .bound])
    }
}
