import Synchronization
import Testing

@testable import RPC

/// Credentials that are replaced while calls go on.
@Suite(.timeLimit(.minutes(5))) struct RotatingChannelTests {
    @Test func `new calls go by the new credentials, and one that is open ends on the old channel, which goes then`()
        async throws
    {
        let probe = Probe()
        let server = try RPCServer(
            configuration: .init(listeners: [.init("127.0.0.1:0")]), services: [EchoService.make(probe)])
        let address = try server.start()[0]
        let credentials = Mutex(ChannelCredentials.insecure)
        let rotating = try RotatingChannel(target: address, handover: .zero) { credentials.withLock(\.self) }
        weak var first: RPCChannel?
        do {
            let channel = rotating.current
            first = channel
            #expect(rotating.current === channel, "the same credentials")
        }
        async let open = rotating.current.release("gate")
        #expect(await probe.wait(for: "started"))

        // Which this server does not speak.
        credentials.withLock { $0 = .tls(roots: nil) }
        await #expect(throws: RPCStatus.self) { try await rotating.current.release("new", timeout: .seconds(2)) }
        credentials.withLock { $0 = .insecure }
        #expect(try await rotating.current.release("newer") == "newer")
        probe.add("gate")
        let answer = try await open
        #expect(answer == "through the gate")
        #expect(await eventually { first == nil })

        let last = Task { try await rotating.current.release("wait") }
        #expect(await probe.wait(for: "started", count: 3))
        await rotating.close()
        await #expect(throws: RPCStatus.self) { try await last.value }
        await server.shutdown(grace: .seconds(5))
    }

    @Test func `new credentials that made no channel are tried with the next call, unless they were why`() async throws
    {
        let credentials = Mutex(ChannelCredentials.insecure)
        let obstacle = Mutex<RPCError?>(nil)
        let attempts = Atomic(0)
        let rotating = try RotatingChannel(handover: .zero, credentials: { credentials.withLock(\.self) }) {
            (credentials) throws(RPCError) in
            attempts.add(1, ordering: .relaxed)
            if let error = obstacle.withLock(\.self) { throw error }
            return try RPCChannel(target: "127.0.0.1:1", credentials: credentials)
        }
        let first = rotating.current
        credentials.withLock { $0 = .tls(roots: nil) }
        obstacle.withLock { $0 = .state("no thread begins") }
        #expect(rotating.current === first)
        obstacle.withLock { $0 = nil }
        let second = rotating.current
        #expect(second !== first)

        credentials.withLock { $0 = .tls(roots: "no PEM") }
        obstacle.withLock { $0 = .credentials("no PEM") }
        #expect(rotating.current === second)
        let before = attempts.load(ordering: .relaxed)
        #expect(rotating.current === second && attempts.load(ordering: .relaxed) == before)
        await rotating.close()
    }
}
