import CNI
import Foundation
import IPAMAPI
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

    /// A DEL that comes while an ADD runs, on a thread of its own: its answer, once there is one. Returns when it has come.
    private func overtake(with del: AgentRequest) throws -> AsyncStream<CNIError?> {
        let key = RunningAdds.Key(
            try Invocation(environment: del.environment), try NetworkConfiguration(del.configuration))
        let (answers, answer) = AsyncStream.makeStream(of: CNIError?.self)
        Thread.detachNewThread { [fixture, handler] in
            answer.yield(
                ThreadExecutor.run {
                    await fixture.refusal { () throws(CNIError) in try await handler.delete(del) }
                })
            answer.finish()
        }
        let deadline = ContinuousClock.now + .seconds(30)
        while !handler.running.isOvertaken(key) {
            try #require(.now < deadline, "no DEL has come")
            usleep(1_000)
        }
        return answers
    }

    @Test(arguments: ["web", "launcher"])
    func `a DEL that overtakes its ADD leaves nothing attached, and the ADD fails`(pod: String) async throws {
        let (add, del) = (fixture.request("ADD", pod: pod), fixture.request("DEL", pod: pod))
        let answers = Mutex<AsyncStream<CNIError?>?>(nil)
        source.next { [self] in
            let stream = try? overtake(with: del)
            answers.withLock { $0 = stream }
        }
        let error = await refusal(add)
        for await answer in try #require(answers.withLock { $0 }) { #expect(answer == nil) }
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
        fixture.ipam.beforeAnswer { [self, ipam = fixture.ipam] in
            ipam.beforeAnswer(nil)
            _ = try? overtake(with: del)
        }
        #expect(await refusal(fixture.request("ADD", pod: "launcher"))?.code == .tryAgainLater)
        #expect(fixture.ipam.bindings.first?.active == nil && fixture.ipam.bindings.count == 1)
    }

    /// Else nobody would ever let go of what the ADD has attached: the runtime does not repeat a DEL that is done.
    @Test func `a DEL that overtakes its ADD is not done before what the ADD attached is gone`() async throws {
        let del = fixture.request("DEL", pod: "launcher")
        let answers = Mutex<AsyncStream<CNIError?>?>(nil)
        fixture.ipam.beforeAnswer { [self, ipam = fixture.ipam] in
            ipam.beforeAnswer(nil)
            let stream = try? overtake(with: del)
            answers.withLock { $0 = stream }
            ipam.fail(with: IPAMError(.resourceExhausted, .overloaded, "too many changes are waiting"))
        }
        #expect(await refusal(fixture.request("ADD", pod: "launcher")) != nil)
        for await answer in try #require(answers.withLock { $0 }) { #expect(answer?.code == .tryAgainLater) }
        #expect(fixture.ipam.bindings.first?.active?.containerID == "c1")
        fixture.ipam.fail(with: nil)
        try await handler.delete(del)
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

    /// The kubelet may make another sandbox although nobody has heard how the DEL ended.
    @Test(arguments: ["web", "launcher"])
    func `the pod's next ADD waits until the overtaken one is gone`(pod: String) async throws {
        let (add, del) = (fixture.request("ADD", pod: pod), fixture.request("DEL", pod: pod))
        let next = fixture.request("ADD", pod: pod, container: "c2")
        let (outcomes, outcome) = AsyncStream.makeStream(of: CNIError?.self)
        source.next { [self] in
            _ = try? overtake(with: del)
            Task { outcome.yield(await refusal(next)) }
            try? await Task.sleep(for: .milliseconds(100))
        }
        #expect(await refusal(add)?.code == .tryAgainLater)
        for await second in outcomes {
            #expect(second == nil)
            break
        }
        #expect(fixture.ipam.bindings.first?.active?.containerID == "c2")
    }
}
