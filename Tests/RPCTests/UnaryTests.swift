import RPC
import Telemetry
import Testing

@Suite struct UnaryTests {
    @Test(arguments: ["here", "elsewhere"])
    func `the completion form answers from the polling thread and from any other`(_ mode: String) async throws {
        try await withEcho { _, channel, _ in
            for name in [
                "", "x", "a longer name that does not fit into a slice itself", String(repeating: "é", count: 30_000),
            ] {
                try await #expect(channel.allocate(mode, name) == name)
            }
        }
    }

    @Test func `the async form answers`() async throws {
        try await withEcho { _, channel, _ in
            try await #expect(channel.release("hello") == "hello")
            try await #expect(channel.release("method") == "/holdfast.ipam.v1.IPAM/Release")
        }
    }

    @Test func `a server counts how the calls of each method ended, and how long unary ones took`() async throws {
        try await withEcho { server, channel, _ in
            for mode in ["here", "elsewhere", "fail"] { _ = try? await channel.allocate(mode, "") }
            _ = try await channel.release("hello")
            let allocate = try #require(server.statistics.first { $0.method == "Allocate" })
            #expect(allocate.service == "holdfast.ipam.v1.IPAM" && allocate.isUnary)
            #expect(allocate.ended.map(\.code) == [.ok, .alreadyExists] && allocate.ended.map(\.count) == [2, 1])
            #expect(allocate.seconds.counts.reduce(0, +) == 3 && allocate.seconds.sum > 0)
            let watch = try #require(server.statistics.first { $0.method == "WatchBindings" })
            #expect(!watch.isUnary && watch.ended.map(\.count) == [0])
        }
    }

    @Test func `an error reaches the client with its code, text and ErrorInfo`() async throws {
        try await withEcho { _, channel, _ in
            let expected = RPCStatus(
                .alreadyExists, "taken: ✓",
                errorInfo: .init(reason: "ADDRESS_TAKEN", domain: "holdfast", metadata: ["holder": "vm-1", "a": "ü"]))
            await #expect(throws: expected) { try await channel.allocate("fail", "") }
        }
    }

    @Test func `an error with too much to say arrives, cut`() async throws {
        try await withEcho { _, channel, _ in
            await #expect { try await channel.allocate("long", "") } throws: {
                guard let status = $0 as? RPCStatus else { return false }
                return status.code == .internalError && status.message.hasPrefix("üü")
                    && status.message.hasSuffix("...")
                    && status.errorInfo == .init(reason: "LONG", domain: "holdfast")
            }
        }
    }

    @Test func `a reply that is dropped answers INTERNAL, and only the first answer counts`() async throws {
        try await withEcho { _, channel, _ in
            await #expect { try await channel.allocate("drop", "") } throws: {
                ($0 as? RPCStatus)?.code == .internalError
            }
            try await #expect(channel.allocate("twice", "first") == "first")
            try await #expect(channel.allocate("here", "next") == "next")
        }
    }

    @Test func `metadata arrives, text and bytes`() async throws {
        try await withEcho { _, channel, _ in
            var metadata = RPCMetadata()
            metadata.append("X-Text", "some text")
            metadata.append("x-bytes-bin", binary: [0, 255, 10])
            try await #expect(channel.release("metadata", metadata: metadata) == "some text [0, 255, 10]")
            try await #expect(channel.release("metadata") == "- -")
        }
    }

    @Test func `the handler sees the deadline`() async throws {
        try await withEcho { _, channel, _ in
            try await #expect(channel.release("deadline", timeout: .seconds(30)) == "far")
            try await #expect(channel.release("deadline", timeout: .seconds(4)) == "near")
        }
    }

    @Test func `a deadline that passes ends the call on both sides`() async throws {
        try await withEcho { _, channel, probe in
            // On a busy machine a short deadline passes before the server knows of the call.
            var timeout = Duration.milliseconds(100)
            while probe.count("started") == 0, timeout < .seconds(30) {
                await #expect { try await channel.release("wait", timeout: timeout) } throws: {
                    ($0 as? RPCStatus)?.code == .deadlineExceeded
                }
                timeout *= 2
            }
            #expect(await probe.wait(for: "cancelled"))
        }
    }

    @Test func `a cancelled task cancels the call and the handler sees it`() async throws {
        try await withEcho { _, channel, probe in
            let task = Task { try await channel.release("wait") }
            #expect(await probe.wait(for: "started"))
            task.cancel()
            await #expect { try await task.value } throws: { ($0 as? RPCStatus)?.code == .cancelled }
            #expect(await probe.wait(for: "cancelled"))
        }
    }

    @Test func `a method of a service that is not there is UNIMPLEMENTED at once`() async throws {
        let server = try RPCServer(configuration: .init(listeners: [.init("127.0.0.1:0")]), services: [])
        let channel = try RPCChannel(target: try server.start()[0])
        for _ in 0..<20 {
            await #expect { try await channel.release("hello") } throws: { ($0 as? RPCStatus)?.code == .unimplemented }
        }
        await channel.close()
        await server.shutdown(grace: .seconds(5))
    }

    @Test func `a request over the limit is RESOURCE_EXHAUSTED and the next one works`() async throws {
        try await withEcho(maxMessageBytes: 1000) { _, channel, _ in
            await #expect { try await channel.allocate("here", String(repeating: "x", count: 1001)) } throws: {
                ($0 as? RPCStatus)?.code == .resourceExhausted
            }
            try await #expect(channel.allocate("here", "small") == "small")
        }
    }

    @Test(arguments: ["gzip", "deflate", "identity"])
    func `a compressed request is UNIMPLEMENTED, however little it may be`(_ compression: String) async throws {
        let server = try RPCServer(
            configuration: .init(listeners: [.init("127.0.0.1:0")]), services: [EchoService.make(Probe())])
        let client = try RawClient(try server.start()[0])
        // 1 MiB of zeros would do; what is refused unread need not even be gzip.
        try client.call("/holdfast.ipam.v1.IPAM/Allocate", message: [0x1f, 0x8b, 8, 0], compression: compression)
        let words = compression == "identity" ? "not a holdfast.ipam.v1.AllocateRequest" : "is disabled"
        let isRefused = try client.reads(words)
        #expect(isRefused)
        client.close()
        await server.shutdown(grace: .seconds(5))
    }

    @Test func `calls beyond the limit of open ones are RESOURCE_EXHAUSTED until one has ended`() async throws {
        try await withEcho(maxOpenCalls: 4) { _, channel, probe in
            let waiting = (0..<4).map { _ in Task { try await channel.release("gate") } }
            #expect(await probe.wait(for: "started", count: 4))
            for _ in 0..<50 {
                await #expect { try await channel.allocate("here", "x") } throws: {
                    ($0 as? RPCStatus)?.code == .resourceExhausted
                }
            }
            probe.add("gate")
            for call in waiting { try await #expect(call.value == "through the gate") }
            let isOpen = await eventually { (try? await channel.allocate("here", "x")) == "x" }
            #expect(isOpen)
        }
    }

    @Test(arguments: [Duration.zero, .milliseconds(-1500), .seconds(-7)])
    func `a time that is over already is DEADLINE_EXCEEDED`(_ timeout: Duration) async throws {
        try await withEcho { _, channel, _ in
            await #expect { try await channel.release("hello", timeout: timeout) } throws: {
                ($0 as? RPCStatus)?.code == .deadlineExceeded
            }
        }
    }

    @Test func `a server that is not there is UNAVAILABLE`() async throws {
        let channel = try RPCChannel(target: "unix:/tmp/holdfast-rpc-tests-nobody.sock")
        await #expect { try await channel.check("") } throws: { ($0 as? RPCStatus)?.code == .unavailable }
        await channel.close()
        await #expect { try await channel.check("") } throws: { ($0 as? RPCStatus)?.code == .cancelled }
        await channel.close()
    }
}
