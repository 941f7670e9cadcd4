import Glibc
import RPC
import Testing

/// Replies that are given together.
@Suite struct RepliesTests {
    /// Whether it was so in one of some attempts. The kernel sends by itself what it has held for 200 ms: where a machine
    /// stood still meanwhile, an attempt says nothing.
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

    @Test func `the sixteenth after them lets all go`() throws {
        #expect(
            try happens {
                let connection = try LoopbackConnection()
                var before = 0
                Replies.together {
                    for byte in 1...20 { connection.send(UInt8(byte)) }
                    before = connection.arrived().count
                }
                return before == 18 && connection.arrived().count == 20
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
                return before == Array(repeating: 2, count: 16) + Array(repeating: 5, count: 4)
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
