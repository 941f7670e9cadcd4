import CNI
import IPAMModel
import KubeVirt
import TestLog
import Testing

@testable import NodeAgent

/// What the agent's log says of the calls that it refuses.
struct RefusalLogTests {
    private let fixture: HandlerFixture

    init() throws { fixture = try HandlerFixture() }

    private func refusal(_ request: AgentRequest) async throws -> CNIError {
        try #require(
            await fixture.refusal { () throws(CNIError) in _ = try await fixture.handler.add(request) })
    }

    private func line(_ event: String, _ error: CNIError, _ owner: String? = nil, pod: String) -> String {
        "\(event) code=\(error.code.rawValue) container=c1 details=\(error.details) error=\(error.message)"
            + " namespace=default" + (owner.map { " owner=\($0)" } ?? "") + " pod=\(pod)"
    }

    @Test(arguments: [nil, "node-b"])
    func `an ADD is told of where the pod is not known to be on the node`(node: String?) async throws {
        var objects = ClusterObjects()
        objects.pods = [Pod(metadata: ObjectMeta(namespace: "default", name: "web", uid: "uid-web"), nodeName: node)]
        fixture.source.state(objects)
        let error = try await refusal(fixture.request("ADD"))
        #expect(error.code == (node == nil ? .tryAgainLater : .conflict))
        #expect(fixture.log.lines == [line("ADD refused", error, "pod default/web (vm-net/eth0)", pod: "web")])
    }

    @Test func `an ADD is told of where nobody knows whose the pod is`() async throws {
        let error = try await refusal(fixture.request("ADD", pod: "gone"))
        #expect(error.code == .tryAgainLater)
        #expect(fixture.log.lines == [line("ADD refused", error, pod: "gone")])
    }

    @Test func `an ADD is told of where its arguments, its network or its delegate's time are wrong`() async throws {
        var nameless = fixture.request("ADD")
        nameless.environment["CNI_ARGS"] = "K8S_POD_NAMESPACE=default"
        let requests = [
            nameless, fixture.request("ADD", ("cniVersion", 1)),
            fixture.request("ADD", ("ipam", ["type": "holdfast-cni", "attached": true])),
        ]
        var lines: [String] = []
        for (request, pod) in zip(requests, ["", "web", "web"]) {
            lines.append(line("ADD refused", try await refusal(request), pod: pod))
        }
        #expect(fixture.log.lines == lines)
    }

    /// The pod's people are not told who has the address; the log is the operator's.
    @Test func `an ADD that the server refuses is told of once, with all that the server said`() async throws {
        let holder = "vm other/secret"
        fixture.ipam.fail(
            with: IPAMError(
                .alreadyExists, .addressTaken, "taken by \(holder) (vm-net/eth0)", metadata: ["holder": holder]))
        let error = try await refusal(fixture.request("ADD"))
        #expect(!error.message.contains("secret") && !error.details.contains("secret"))
        #expect(
            fixture.log.lines == [
                "ADD refused code=103 container=c1 details=ADDRESS_TAKEN holder=\(holder) error=taken by \(holder) "
                    + "(vm-net/eth0) namespace=default owner=pod default/web (vm-net/eth0) pod=web reason=ADDRESS_TAKEN"
            ])
    }

    @Test func `a CHECK that fails is told of`() async throws {
        let request = fixture.request("CHECK", ("prevResult", ["ips": []]))
        let error = try #require(
            await fixture.refusal { () throws(CNIError) in try await fixture.handler.check(request) })
        #expect(error.code == .notFound)
        #expect(fixture.log.lines == [line("CHECK failed", error, pod: "web")])
    }

    @Test func `a DEL that fails is told of, also before it comes to the server`() async throws {
        let request = fixture.request("DEL", ("cniVersion", 1))
        let error = try #require(
            await fixture.refusal { () throws(CNIError) in try await fixture.handler.delete(request) })
        #expect(fixture.log.lines == [line("DEL failed", error, pod: "web")])
    }
}
