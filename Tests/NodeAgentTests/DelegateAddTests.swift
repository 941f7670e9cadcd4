import CNI
import IPAMModel
import Ledger
import Testing

@testable import NodeAgent

/// A delegate's own ADD at its IPAM plugin, which comes in the middle of the ADD that runs it, or long after.
struct DelegateAddTests {
    private let fixture: HandlerFixture

    init() throws { fixture = try HandlerFixture() }

    private func main(_ verb: String, pod: String = "web", container: String = "c1") -> AgentRequest {
        fixture.request(verb, pod: pod, container: container, network: HandlerFixture.mainNetwork)
    }

    /// What the delegate's IPAM plugin sends.
    private func delegates(_ verb: String, pod: String = "web", container: String = "c1") throws -> AgentRequest {
        let network = try NetworkConfiguration(HandlerFixture.mainNetwork)
        let configuration = try #require(network.delegateConfiguration(mac: nil))
        return fixture.request(verb, pod: pod, container: container, network: configuration)
    }

    private func refusal(_ request: AgentRequest) async -> CNIError? {
        await fixture.refusal { () throws(CNIError) in _ = try await fixture.handler.add(request) }
    }

    private var changes: Int { fixture.ipam.calls.count { if case .list = $0 { false } else { true } } }

    @Test(arguments: ["web", "launcher"])
    func `a delegate is told what its ADD was told, and nothing is asked for once more`(pod: String) async throws {
        for _ in 0..<2 {
            let told = try await fixture.handler.add(main("ADD", pod: pod))
            let before = changes
            #expect(try await fixture.handler.add(delegates("ADD", pod: pod)) == told)
            #expect(changes == before)
        }
        // Its own DEL, as `bridge` calls it where it fails, lets go of the addresses.
        try await fixture.handler.delete(delegates("DEL", pod: pod))
        #expect(fixture.ipam.bindings.allSatisfy { $0.active == nil })
        #expect(await refusal(try delegates("ADD", pod: pod))?.code == .tryAgainLater)
    }

    @Test func `a DEL that names no delegate detaches all the same`() async throws {
        _ = try await fixture.handler.add(main("ADD", pod: "launcher"))
        var del = main("DEL", pod: "launcher")
        (del.configuration["delegate"], del.configuration["pool"]) = (nil, nil)
        try await fixture.handler.delete(del)
        #expect(fixture.ipam.bindings.map(\.active) == [nil])
    }

    /// Its plugin was killed, or a DEL came, and it goes on.
    @Test(arguments: [true, false], ["web", "launcher"])
    func `a delegate that asks when another sandbox of its pod is there takes nothing from it`(
        isDeleted: Bool, pod: String
    ) async throws {
        _ = try await fixture.handler.add(main("ADD", pod: pod))
        if isDeleted { try await fixture.handler.delete(main("DEL", pod: pod)) }
        _ = try await fixture.handler.add(main("ADD", pod: pod, container: "c2"))
        let error = await refusal(try delegates("ADD", pod: pod))
        #expect(error?.code == .tryAgainLater && error?.message == "the sandbox c1 is not attached any more")
        try await fixture.handler.delete(main("DEL", pod: pod))
        #expect(fixture.ipam.bindings.map(\.active?.containerID) == ["c2"])
    }

    @Test func `a delegate that asks when its VM runs on another node is refused`() async throws {
        _ = try await fixture.handler.add(main("ADD", pod: "launcher"))
        let owner = try #require(fixture.ipam.bindings.first?.owner)
        let elsewhere = Attachment(node: "node-b", pod: "far", podUID: "uid-far", containerID: "c9")
        try fixture.ipam.apply(.allocate(AllocateRequest(owner: owner, attachment: elsewhere)))
        #expect(await refusal(try delegates("ADD", pod: "launcher"))?.code == .tryAgainLater)
        #expect(fixture.ipam.bindings.map(\.active?.containerID) == ["c9"])
    }

    @Test func `a delegate whose ADD this agent has not answered gets no address`() async throws {
        #expect(await refusal(try delegates("ADD"))?.code == .tryAgainLater)
        #expect(fixture.ipam.bindings.isEmpty)
    }

    @Test func `section 2, STATUS: a delegate's is silent: the plugin that runs it has asked`() async throws {
        for pool in ["vms", "other"] { try fixture.ipam.apply(.deletePool(name: pool)) }
        let request = try delegates("STATUS")
        #expect(await fixture.refusal { () throws(CNIError) in try await fixture.handler.status(request) } == nil)
    }
}
