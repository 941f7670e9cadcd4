import Glibc
import RPC
import Testing

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

    func greet() {
        connection = accept(listener, nil, nil)
        let settings: [UInt8] = [0, 0, 0, 4, 0, 0, 0, 0, 0]
        #expect(unsafe send(connection, settings, settings.count, CInt(MSG_NOSIGNAL)) == settings.count)
    }

    /// Whether a PING is among what has come.
    func hasHeardPing() -> Bool {
        var chunk = [UInt8](repeating: 0, count: 4096)
        while case let count = unsafe recv(connection, &chunk, chunk.count, CInt(MSG_DONTWAIT)), count > 0 {
            heard += chunk[..<count]
        }
        // Frames begin after the preface.
        var at = 24
        while at + 9 <= heard.count {
            if heard[at + 3] == 6 { return true }
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
        quiet.greet()
        usual.greet()
        for call in calls {
            await #expect { try await call.value } throws: { ($0 as? RPCStatus)?.code == .deadlineExceeded }
        }
        // They ping every 10 s.
        let deadline = ContinuousClock.now + .seconds(20)
        while !usual.hasHeardPing(), ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(50)) }
        #expect(usual.hasHeardPing())
        try await Task.sleep(for: .seconds(1))
        #expect(!quiet.hasHeardPing())
        for channel in channels { await channel.close() }
    }
}
