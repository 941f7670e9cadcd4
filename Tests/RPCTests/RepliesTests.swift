import Glibc
import RPC
import Testing

/// Replies that are given together.
@Suite(.timeLimit(.minutes(5))) struct RepliesTests {
    /// Whether it was so in one of some attempts. The kernel sends by itself what it has held for long, or when it hears from
    /// the other side: where a machine stood still meanwhile, an attempt says nothing.
    private func happens(_ attempt: () throws -> Bool) rethrows -> Bool {
        for _ in 0..<20 {
            let began = ContinuousClock.now
            if try attempt(), ContinuousClock.now - began < .milliseconds(100) { return true }
        }
        return false
    }

    @Test func `the first two leave at once, and the others at the end`() throws {
        #expect(
            try happens {
                let connection = try LoopbackConnection()
                var before: [UInt8] = []
                Replies.together {
                    for byte in 1...6 { connection.send(UInt8(byte)) }
                    before = connection.arrived()
                }
                return before == [1, 2] && connection.arrived() == [1, 2, 3, 4, 5, 6]
            })
    }

    @Test func `the eighth after them lets all go`() throws {
        #expect(
            try happens {
                let connection = try LoopbackConnection()
                var before = 0
                Replies.together {
                    for byte in 1...12 { connection.send(UInt8(byte)) }
                    before = connection.arrived().count
                }
                return before == 10 && connection.arrived().count == 12
            })
    }

    @Test func `those to more clients than are remembered leave one by one`() throws {
        #expect(
            try happens {
                let connections = try (0..<20).map { _ in try LoopbackConnection() }
                var before: [Int] = []
                Replies.together {
                    for connection in connections { for byte in 1...5 { connection.send(UInt8(byte)) } }
                    before = connections.map { $0.arrived().count }
                }
                // Not of all of them: one that is heard of in between spoils no attempt.
                return before.prefix(16).count { $0 == 2 } >= 8 && before.suffix(4).allSatisfy { $0 == 5 }
                    && connections.allSatisfy { $0.arrived() == [1, 2, 3, 4, 5] }
            })
    }

    @Test func `an end within does not count`() throws {
        #expect(
            try happens {
                let connection = try LoopbackConnection()
                var before = 0
                Replies.together {
                    Replies.together { for byte in 1...5 { connection.send(UInt8(byte)) } }
                    before = connection.arrived().count
                }
                return before == 2 && connection.arrived().count == 5
            })
    }

    @Test func `who waits after all lets them go before`() throws {
        #expect(
            try happens {
                let connection = try LoopbackConnection()
                var (before, after) = (0, 0)
                Replies.together {
                    for byte in 1...5 { connection.send(UInt8(byte)) }
                    Replies.letGo()
                    before = connection.arrived().count
                    for byte in 6...9 { connection.send(UInt8(byte)) }
                    after = connection.arrived().count
                }
                return before == 5 && after == 9
            })
    }

    @Test func `of a server are held, and all arrive`() async throws {
        let probe = Probe()
        let server = try RPCServer(
            configuration: .init(listeners: [.init("127.0.0.1:0")]), services: [EchoService.make(probe)])
        let address = try server.start()[0]
        var isHeld = false
        for attempt in 1...20 where !isHeld {
            let client = try RawClient(address)
            for call in 1...6 {
                // pool: "gather", and an owner with a name.
                try client.call(
                    "/holdfast.ipam.v1.IPAM/Allocate",
                    message: [0x0a, 9, 0x1a, 7] + Array("reply-\(call)".utf8) + [0x1a, 6] + Array("gather".utf8),
                    stream: UInt8(2 * call - 1))
            }
            #expect(await probe.wait(for: "gathered", count: 6 * attempt))
            let replies = probe.takeGathered()
            Replies.together {
                for reply in replies { reply() }
                // Time enough for those that are not.
                usleep(20_000)
                let arrived = client.arrived()
                isHeld = (1...6).count { arrived.contains("reply-\($0)") } == 2
            }
            #expect(await eventually { (1...6).allSatisfy { client.arrived().contains("reply-\($0)") } })
            client.close()
        }
        #expect(isHeld)
        await server.shutdown(grace: .seconds(5))
    }

    @Test func `others leave at once`() throws {
        #expect(
            try happens {
                let connection = try LoopbackConnection()
                Replies.together {}
                for byte in 1...6 { connection.send(UInt8(byte)) }
                return connection.arrived().count == 6
            })
    }
}
