import Glibc
import RPC
import Testing

// Of RFC 9113, sections 6.5 and 6.7.
private let (settings, ping): (UInt8, UInt8) = (4, 6)

/// Takes a connection, begins HTTP/2 on it, and then only listens.
private final class SilentServer {
    private let listener: CInt
    private var connection: CInt = -1
    private var heard: [UInt8] = []
    let address: String

    init() throws {
        let listener = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        var status: [CInt] = []
        unsafe withUnsafeMutablePointer(to: &name) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { name in
                status.append(unsafe bind(listener, name, length))
                status.append(listen(listener, 1))
                status.append(unsafe getsockname(listener, name, &length))
            }
        }
        self.listener = listener
        address = "127.0.0.1:\(UInt16(bigEndian: name.sin_port))"
        try #require(status.allSatisfy { $0 == 0 })
    }

    deinit {
        Glibc.close(connection)
        Glibc.close(listener)
    }

    func take() {
        Glibc.close(connection)
        connection = accept(listener, nil, nil)
        heard = []
    }

    func greet() {
        let frame: [UInt8] = [0, 0, 0, settings, 0, 0, 0, 0, 0]
        #expect(unsafe send(connection, frame, frame.count, CInt(MSG_NOSIGNAL)) == frame.count)
    }

    /// Whether such a frame is among what has come.
    func hasHeard(type: UInt8, flags: UInt8 = 0) -> Bool {
        var chunk = [UInt8](repeating: 0, count: 4096)
        while case let count = unsafe recv(connection, &chunk, chunk.count, CInt(MSG_DONTWAIT)), count > 0 {
            heard += chunk[..<count]
        }
        // Frames begin after the preface.
        var at = 24
        while at + 9 <= heard.count {
            if heard[at + 3] == type, heard[at + 4] == flags { return true }
            at += 9 + Int(heard[at]) << 16 + Int(heard[at + 1]) << 8 + Int(heard[at + 2])
        }
        return false
    }
}

@Suite struct PingTests {
    @Test func `a channel pings while it has no call, unless its server may not like that`() async throws {
        let (quiet, usual) = (try SilentServer(), try SilentServer())
        let channels = [
            try RPCChannel(target: quiet.address, pingsWhenIdle: false), try RPCChannel(target: usual.address),
        ]
        let calls = channels.map { channel in
            Task { try await channel.release("hello", timeout: .seconds(1)) }
        }
        for server in [quiet, usual] {
            server.take()
            server.greet()
        }
        for call in calls {
            await #expect { try await call.value } throws: { ($0 as? RPCStatus)?.code == .deadlineExceeded }
        }
        // They ping every 10 s.
        let deadline = ContinuousClock.now + .seconds(20)
        while !usual.hasHeard(type: ping), ContinuousClock.now < deadline {
            try await Task.sleep(for: .milliseconds(50))
        }
        #expect(usual.hasHeard(type: ping))
        try await Task.sleep(for: .seconds(1))
        #expect(!quiet.hasHeard(type: ping))
        for channel in channels { await channel.close() }
    }

    /// Else clients that all come back at once would begin anew before a busy server has come to them, for ever.
    @Test func `a server that takes two seconds to answer a connection is waited for`() async throws {
        let server = try SilentServer()
        let channel = try RPCChannel(target: server.address)
        let call = Task { try await channel.release("hello", timeout: .seconds(60)) }
        var isWaitedFor = false
        // Where this machine stands still for longer, the next attempt will do.
        for _ in 0..<3 where !isWaitedFor {
            server.take()
            try await Task.sleep(for: .seconds(2))
            server.greet()
            let deadline = ContinuousClock.now + .seconds(2)
            repeat {
                try await Task.sleep(for: .milliseconds(20))
                isWaitedFor = server.hasHeard(type: settings, flags: 1)
            } while !isWaitedFor && .now < deadline
        }
        #expect(isWaitedFor)
        call.cancel()
        _ = await call.result
        await channel.close()
    }
}
