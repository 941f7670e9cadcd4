import CNI
import IPAMModel
import KubeVirt
import Logging
import Synchronization
import Testing

@testable import NodeAgent

/// A sandbox that is gone before its ADD has come to an end.
struct OvertakenAddTests {
    private let fixture: HandlerFixture
    private let source: DeletingSource
    private let handler: AttachmentHandler

    /// Its next look after a pod takes as long as `during`.
    private final class DeletingSource: ObjectSource {
        private let base: StatedSource
        private let during = Mutex<(@Sendable () async -> Void)?>(nil)

        init(_ base: StatedSource) { self.base = base }

        func read() async -> Reading { await base.read() }

        func identity(
            ofPod name: String, in namespace: String, uid: String?, afresh: Bool, by deadline: ContinuousClock.Instant
        ) async throws(IdentityError) -> PodIdentity {
            await during.withLock { $0.take() }?()
            return try await read().objects.identity(ofPod: name, in: namespace, uid: uid)
        }

        func next(_ body: @escaping @Sendable () async -> Void) { during.withLock { $0 = body } }
    }

    init() throws {
        fixture = try HandlerFixture()
        source = DeletingSource(fixture.source)
        handler = AttachmentHandler(
            node: "node-a", ipam: fixture.ipam, source: source,
            log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    private func refusal(_ request: AgentRequest) async -> CNIError? {
        await fixture.refusal { () throws(CNIError) in _ = try await handler.add(request) }
    }

    @Test(arguments: ["web", "launcher"])
    func `a DEL that overtakes its ADD leaves nothing attached, and the ADD fails`(pod: String) async throws {
        let (add, del) = (fixture.request("ADD", pod: pod), fixture.request("DEL", pod: pod))
        source.next { [handler] in try? await handler.delete(del) }
        let error = await refusal(add)
        #expect(error?.code == .tryAgainLater)
        #expect(error?.message == "the sandbox c1 was deleted while its ADD ran")
        #expect(fixture.ipam.bindings.allSatisfy { $0.active == nil })
        #expect(fixture.ipam.bindings.count == (pod == "web" ? 0 : 1))
        // Nothing of it stays: the same container, added again, is attached.
        #expect(await refusal(add) == nil)
        #expect(fixture.ipam.bindings.first?.active?.containerID == "c1")
    }

    @Test func `a DEL that comes after the server has served the ADD has the ADD fail too`() async throws {
        let del = fixture.request("DEL", pod: "launcher")
        fixture.ipam.beforeAnswer { [ipam = fixture.ipam, handler] in
            ipam.beforeAnswer(nil)
            ThreadExecutor.run { try? await handler.delete(del) }
        }
        #expect(await refusal(fixture.request("ADD", pod: "launcher"))?.code == .tryAgainLater)
        #expect(fixture.ipam.bindings.first?.active == nil && fixture.ipam.bindings.count == 1)
    }

    @Test func `a DEL of another sandbox, or of another NIC, is none of the ADD's business`() async throws {
        for del in [
            fixture.request("DEL", pod: "launcher", container: "c0"),
            fixture.request("DEL", pod: "launcher", interface: "net1"),
        ] {
            source.next { [handler] in try? await handler.delete(del) }
            #expect(await refusal(fixture.request("ADD", pod: "launcher")) == nil)
            #expect(fixture.ipam.bindings.first?.active?.containerID == "c1")
        }
    }

    /// The kubelet makes another sandbox as soon as the DEL is done.
    @Test(arguments: ["c1", "c2"], ["web", "launcher"])
    func `the pod's next ADD waits until the overtaken one is gone`(container: String, pod: String) async throws {
        let (add, del) = (fixture.request("ADD", pod: pod), fixture.request("DEL", pod: pod))
        let next = fixture.request("ADD", pod: pod, container: container)
        let (outcomes, outcome) = AsyncStream.makeStream(of: CNIError?.self)
        source.next { [self] in
            try? await handler.delete(del)
            Task { outcome.yield(await refusal(next)) }
            try? await Task.sleep(for: .milliseconds(100))
        }
        #expect(await refusal(add)?.code == .tryAgainLater)
        for await second in outcomes {
            #expect(second == nil)
            break
        }
        #expect(fixture.ipam.bindings.first?.active?.containerID == container)
    }
}
