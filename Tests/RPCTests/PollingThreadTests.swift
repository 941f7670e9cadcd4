import RPC
import Syscalls
import Testing

/// What the threads of a server leave to each other, and put off.
@Suite(.timeLimit(.minutes(5))) struct PollingThreadTests {
    @Test func `calls are taken while the thread that polls is blocked`() async throws {
        try await withEcho { _, channel, probe in
            async let blocked = channel.allocate("block", "first")
            #expect(await probe.wait(for: "blocked"))
            for number in 1...5 { #expect(try await channel.allocate("here", "\(number)") == "\(number)") }
            probe.add("unblocked")
            let answer = try await blocked
            #expect(answer == "first")
            // Or two would take them.
            #expect(probe.count("turn lost") == 1)
        }
    }

    @Test func `a bell may be waited for longer than the kernel counts, and no time at all`() {
        let bell = Bell()
        bell.ring()
        #expect(bell.wait(.seconds(Int64.max)))
        #expect(!bell.wait(.seconds(-1)))
    }

    @Test func `and again by the other, and the other way round`() async throws {
        for _ in 1...3 {
            try await withEcho { _, channel, probe in
                async let first = channel.allocate("block", "first")
                #expect(await probe.wait(for: "blocked"))
                async let second = channel.allocate("block", "second")
                #expect(await probe.wait(for: "blocked", count: 2))
                probe.add("unblocked")
                let answers = try await [first, second]
                #expect(answers == ["first", "second"])
                #expect(try await channel.allocate("here", "third") == "third")
            }
        }
    }

    @Test func `a server ends while a thread stands by and the other has been blocked`() async throws {
        try await withEcho { server, channel, probe in
            async let blocked = channel.allocate("block", "first")
            #expect(await probe.wait(for: "blocked"))
            async let end = server.shutdown(grace: .seconds(20))
            probe.add("unblocked")
            let answer = try await blocked
            #expect(answer == "first")
            let isEnded = await end
            #expect(isEnded)
        }
    }

    @Test func `what is put off is done after all calls that have come`() async throws {
        let taken = try await takenBeforeWhatWasPutOff(ofClients: 1, calls: 5)
        #expect(taken == 5)
    }

    @Test func `but not after any number`() async throws {
        var taken = 0
        // A poll may find nothing although the calls of other connections have come: once more then.
        for _ in 1...5 where taken < 250 {
            taken = try await takenBeforeWhatWasPutOff(ofClients: 6, calls: 60)
            #expect(taken <= 257)
        }
        #expect(taken >= 250)
    }

    @Test func `nor does it wait for what blocks`() async throws {
        try await withThreeClients { clients, probe in
            try clients[1].allocate("later", "put-off", stream: 3)
            try clients[2].allocate("block", "blocked", stream: 3)
            probe.add("let go")
            #expect(await probe.wait(for: "blocked"))
            #expect(try clients[1].reads("put-off"))
            probe.add("unblocked")
            #expect(try clients[2].reads("blocked"))
            // And the threads go on.
            try clients[0].allocate("later", "again", stream: 5)
            #expect(try clients[0].reads("again"))
        }
    }

    @Test func `and what blocks for a moment does not wait for it`() async throws {
        try await withThreeClients { clients, probe in
            try clients[1].allocate("commit", "put-off", stream: 3)
            try clients[2].allocate("read", "read", stream: 3)
            probe.add("let go")
            #expect(try clients[2].reads("read"))
            probe.add("committed")
            #expect(try clients[1].reads("put-off"))
        }
    }

    @Test func `which it comes after, before any further call`() async throws {
        try await withThreeClients { clients, probe in
            try clients[1].allocate("later", "first", stream: 3)
            try clients[1].allocate("read", "read", stream: 5)
            for call in 3..<40 { try clients[1].allocate("later", "further", stream: UInt8(2 * call + 1)) }
            probe.add("let go")
            #expect(await probe.wait(for: "taken", count: 38))
            #expect(probe.count("taken before") == 1)
        }
    }

    /// Whose calls are there together, once "let go".
    private func withThreeClients(_ body: ([RawClient], Probe) async throws -> Void) async throws {
        let probe = Probe()
        let server = try RPCServer(
            configuration: .init(listeners: [.init("127.0.0.1:0")]), services: [EchoService.make(probe)])
        let address = try server.start()[0]
        // No channels: their threads would take calls for the server's, as all that poll in one process do.
        let clients = try (0..<3).map { _ in try RawClient(address) }
        for client in clients {
            try client.allocate("here", "hello", stream: 1)
            #expect(try client.reads("hello"))
        }
        try clients[0].allocate("hold", "held", stream: 3)
        #expect(await probe.wait(for: "held"))
        try await body(clients, probe)
        for client in clients { client.close() }
        await server.shutdown(grace: .seconds(5))
    }

    /// How many of the calls, all of which are there when the server goes on, are taken before what the first puts off.
    private func takenBeforeWhatWasPutOff(ofClients clients: Int, calls: Int) async throws -> Int {
        let probe = Probe()
        let server = try RPCServer(
            configuration: .init(listeners: [.init("127.0.0.1:0")]), services: [EchoService.make(probe)])
        let address = try server.start()[0]
        let clients = try (0..<clients).map { _ in try RawClient(address) }
        for client in clients {
            try client.allocate("here", "hello", stream: 1)
            #expect(try client.reads("hello"))
        }
        // No channel: its thread would take calls for the server's, as all that poll in one process do.
        let holder = try RawClient(address)
        try holder.allocate("hold", "held", stream: 1)
        #expect(await probe.wait(for: "held"))
        for client in clients {
            for call in 1...calls { try client.allocate("later", "call", stream: UInt8(2 * call + 1)) }
        }
        probe.add("let go")
        #expect(await probe.wait(for: "taken", count: clients.count * calls))
        #expect(await probe.wait(for: "taken before"))
        for client in clients + [holder] { client.close() }
        await server.shutdown(grace: .seconds(5))
        return probe.count("taken before")
    }
}

extension RawClient {
    fileprivate func allocate(_ mode: String, _ name: String, stream: UInt8) throws {
        // owner: { name }, pool.
        let owner = [0x1a, UInt8(name.utf8.count)] + Array(name.utf8)
        try call(
            "/holdfast.ipam.v1.IPAM/Allocate",
            message: [0x0a, UInt8(owner.count)] + owner + [0x1a, UInt8(mode.utf8.count)] + Array(mode.utf8),
            stream: stream)
    }
}
