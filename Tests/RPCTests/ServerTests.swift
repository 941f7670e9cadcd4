import Foundation
import RPC
import Testing

@Suite struct ServerTests {
    private func server(_ addresses: [String], services: [RPCService] = []) throws(RPCError) -> RPCServer {
        try RPCServer(configuration: .init(listeners: addresses.map { .init($0) }), services: services)
    }

    @Test func `a method without a handler stops the server, and is named`() {
        let service = unsafe RPCService(EchoService.descriptor)
        #expect {
            try RPCServer(configuration: .init(listeners: []), services: [service])
        } throws: {
            let text = "\($0)"
            return text.contains("no handler for /holdfast.ipam.v1.IPAM/Allocate")
                && text.contains("no handler for /holdfast.ipam.v1.IPAM/WatchBindings")
        }
    }

    @Test func `a handler that fits no method, or is there twice, stops the server`() {
        var twice = EchoService.make(Probe())
        unsafe twice.unary(
            decode: EchoService.decodeRelease, encode: EchoService.encodeRelease,
            complete: { (_, _, reply) in reply.succeed("") })
        var stray = EchoService.make(Probe())
        unsafe stray.unary(
            decode: EchoService.decodeRelease, encode: EchoService.encodeEvent,
            complete: { (_, _, reply) in reply.succeed(1) })
        for service in [twice, stray] {
            #expect { try RPCServer(configuration: .init(listeners: []), services: [service]) } throws: {
                "\($0)".contains("no such method: unary Holdfast__Ipam__V1__ReleaseRequest")
            }
        }
    }

    @Test func `a port in use is an error that says so, and leaves nothing behind`() async throws {
        let first = try server(["127.0.0.1:0"])
        let address = try first.start()[0]
        let second = try server(["127.0.0.1:0", address])
        #expect(throws: RPCError.bind(address: address, reason: "Address already in use")) { try second.start() }
        #expect(throws: (any Error).self) { try first.start() }
        await second.shutdown(grace: .zero)
        await first.shutdown(grace: .zero)
        let third = try server([address])
        try #expect(third.start() == [address])
        await third.shutdown(grace: .zero)
    }

    @Test(arguments: ["127.0.0.1", "nowhere.invalid:1", "192.0.2.1:7440", "unix:/nowhere/holdfast.sock"])
    func `an address that cannot be used is an error that names it`(_ address: String) async throws {
        let server = try server([address])
        #expect {
            try server.start()
        } throws: {
            guard case .bind(address, let reason) = $0 as? RPCError else { return false }
            return !reason.isEmpty
        }
        await server.shutdown(grace: .zero)
    }

    @Test func `a unix socket works, a dead one is replaced, and a live one or a file is not`() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/s.sock"
        let first = try server(["unix:" + path])
        try #expect(first.start() == ["unix:" + path])
        let channel = try RPCChannel(target: "unix:" + path)
        try await #expect(channel.check("") == 1)
        let second = try server(["unix:" + path])
        #expect(throws: RPCError.bind(address: "unix:" + path, reason: "another server listens on it")) {
            try second.start()
        }
        try await #expect(channel.check("") == 1)
        await channel.close()
        await first.shutdown(grace: .seconds(5))

        // What a server that was killed leaves.
        try #expect(folder.run("python3", ["-c", "import socket; socket.socket(socket.AF_UNIX).bind('\(path)')"]))
        #expect(FileManager.default.fileExists(atPath: path))
        let third = try server(["unix:" + path])
        try #expect(third.start() == ["unix:" + path])
        await third.shutdown(grace: .seconds(5))

        try Data("kept".utf8).write(to: URL(filePath: path))
        let fourth = try server(["unix:" + path])
        #expect(throws: RPCError.bind(address: "unix:" + path, reason: "the file exists and is not a socket")) {
            try fourth.start()
        }
        try #expect(String(contentsOfFile: path, encoding: .utf8) == "kept")
    }

    @Test func `several listeners serve at once, IPv6 among them`() async throws {
        let folder = try TemporaryFolder()
        let server = try server(["127.0.0.1:0", "[::1]:0", "unix:" + folder.path + "/s.sock"])
        for address in try server.start() {
            let channel = try RPCChannel(target: address)
            try await #expect(channel.check("") == 1)
            await channel.close()
        }
        await server.shutdown(grace: .seconds(5))
    }

    @Test func `a shutdown lets calls finish within the grace time, takes no new ones, and says NOT_SERVING first`()
        async throws
    {
        let probe = Probe()
        defer { probe.keep(nil) }
        let server = try RPCServer(
            configuration: .init(listeners: [.init("127.0.0.1:0")]), services: [EchoService.make(probe)])
        let channel = try RPCChannel(target: try server.start()[0])
        let running = Task { try await channel.release("gate") }
        let watching = Task {
            var seen: [UInt32] = []
            do {
                for try await status in channel.watchHealth("") {
                    seen.append(status)
                    probe.add("watching")
                }
            } catch {
                probe.add("watch ended")
            }
            return seen
        }
        #expect(await probe.wait(for: "started"))
        #expect(await probe.wait(for: "watching"))
        let stopping = Task { _ = await server.shutdown(grace: .seconds(60)) }
        // The shutdown waits for the call; the health watch has ended by itself.
        #expect(await probe.wait(for: "watch ended"))
        #expect(await watching.value.last == 2)
        probe.add("gate")
        try await #expect(running.value == "through the gate")
        await stopping.value
        await #expect { try await channel.check("") } throws: { ($0 as? RPCStatus)?.code == .unavailable }
        await server.shutdown(grace: .zero)
        await channel.close()
    }

    @Test func `a shutdown cancels what is left after the grace time`() async throws {
        let probe = Probe()
        defer { probe.keep(nil) }
        let server = try RPCServer(
            configuration: .init(listeners: [.init("127.0.0.1:0")]), services: [EchoService.make(probe)])
        let channel = try RPCChannel(target: try server.start()[0])
        let unary = Task { try await channel.release("wait") }
        let streaming = Task { for try await _ in channel.watch("wait", 1) {} }
        let flood = Task { for try await _ in channel.watch("flood", 1) {} }
        #expect(await probe.wait(for: "started", count: 3))
        await server.shutdown(grace: .milliseconds(50))
        #expect(probe.count("ended") == 3)
        // The flood ends by its next message, unless it has not come to its first.
        #expect((2...3).contains(probe.count("cancelled")))
        await #expect(throws: (any Error).self) { try await unary.value }
        await #expect(throws: (any Error).self) { try await streaming.value }
        await #expect(throws: (any Error).self) { try await flood.value }
        await channel.close()
    }

    @Test func `a connection that says nothing is closed, and all descriptors may be used for connections`()
        async throws
    {
        var limit = rlimit()
        #expect(unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
        limit.rlim_cur = min(1024, limit.rlim_max)
        #expect(unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
        let server = try server(["127.0.0.1:0"])
        let client = try RawClient(try server.start()[0], saysHello: false)
        #expect(unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
        #expect(limit.rlim_cur == limit.rlim_max)
        let isClosed = client.isClosedByServer()
        #expect(isClosed)
        await server.shutdown(grace: .seconds(5))
    }

    @Test func `a shutdown ends the conversations that clients keep open`() async throws {
        let probe = Probe()
        defer { probe.keep(nil) }
        let server = try RPCServer(configuration: .init(listeners: [.init("127.0.0.1:0")]), services: [])
        let client = try RawClient(try server.start()[0])
        let method = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        // list_services: "", and no end of the requests.
        try client.call(method, message: [0x3a, 0], isLast: false)
        let isAnswered = try client.reads("grpc.reflection.v1.ServerReflection")
        #expect(isAnswered)
        let stopping = Task {
            _ = await server.shutdown(grace: .seconds(300))
            probe.add("stopped")
        }
        let isTold = try client.reads("the server stops")
        #expect(isTold)
        // It acknowledges no GOAWAY: the core would wait for that.
        client.close()
        #expect(await probe.wait(for: "stopped"))
        await stopping.value
    }

    @Test func `a reply that is never given does not hold a shutdown for ever, and may come later`() async throws {
        let probe = Probe()
        defer { probe.keep(nil) }
        let server = try RPCServer(
            configuration: .init(listeners: [.init("127.0.0.1:0")]), services: [EchoService.make(probe)])
        let channel = try RPCChannel(target: try server.start()[0])
        let call = Task { try await channel.allocate("keep", "late") }
        #expect(await probe.wait(for: "kept"))
        await #expect(!server.shutdown(grace: .milliseconds(50)))
        await #expect(throws: (any Error).self) { try await call.value }
        probe.doWhatIsKept()
        await channel.close()
    }

    @Test func `a service that is there twice stops the server`() async throws {
        let service = EchoService.make(Probe())
        let server = try server(["127.0.0.1:0"], services: [service, service])
        #expect(throws: RPCError.methods(["/holdfast.ipam.v1.IPAM/Allocate is there twice"])) { try server.start() }
        await server.shutdown(grace: .zero)
    }

    @Test func `hundreds of starts and stops leave no thread and no descriptor behind`() async throws {
        func open(_ what: String) throws -> Int {
            try FileManager.default.contentsOfDirectory(atPath: "/proc/self/" + what).count
        }
        func cycle(_ index: Int) async throws {
            let server = try server(["127.0.0.1:0"], services: [EchoService.make(Probe())])
            let addresses = try server.start()
            if index % 2 == 0 {
                let channel = try RPCChannel(target: addresses[0])
                try await #expect(channel.release("hello") == "hello")
                await channel.close()
            }
            await server.shutdown(grace: .seconds(5))
        }
        for index in 0..<4 { try await cycle(index) }
        let before = (try open("fd"), try open("task"))
        for index in 0..<200 { try await cycle(index) }
        // Tests that run beside this one have their own; leaks of 200 cycles would be hundreds.
        let isBack = await eventually {
            guard let fds = try? open("fd"), let tasks = try? open("task") else { return false }
            return fds < before.0 + 100 && tasks < before.1 + 100
        }
        #expect(isBack)
    }
}
