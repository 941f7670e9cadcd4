import RPC
import Testing

@Suite struct StreamingTests {
    private func collect(_ responses: RPCResponses<UInt64>) async throws -> [UInt64] {
        var all: [UInt64] = []
        for try await revision in responses { all.append(revision) }
        return all
    }

    /// Waits until the windows of HTTP/2 are full and nothing more is taken.
    private func isHeldBack(_ probe: Probe) async -> Bool {
        var before = -1
        return await eventually {
            let now = probe.count("sent")
            defer { before = now }
            if now != before { try? await Task.sleep(for: .milliseconds(200)) }
            return now == before && now > 0
        }
    }

    @Test(arguments: [0, 1, 2, 1000])
    func `every message arrives, in order`(_ count: Int) async throws {
        try await withEcho { _, channel, _ in
            try await #expect(collect(channel.watch("", count)) == (0..<UInt64(count)).map { $0 })
        }
    }

    @Test func `a stream that ends with an error delivers its messages and then the error with its details`()
        async throws
    {
        try await withEcho { _, channel, _ in
            var got: [UInt64] = []
            let expected = RPCStatus(.aborted, "enough", errorInfo: .init(reason: "ENOUGH", domain: "holdfast"))
            await #expect(throws: expected) {
                for try await revision in channel.watch("fail", 3) { got.append(revision) }
            }
            #expect(got == [0, 1, 2])
        }
    }

    @Test func `letting go of a stream cancels the handler's task`() async throws {
        try await withEcho { _, channel, probe in
            for try await revision in channel.watch("wait", 2) where revision == 1 { break }
            #expect(await probe.wait(for: "cancelled"))
        }
    }

    @Test func `cancelling the reader's task cancels the handler's task`() async throws {
        try await withEcho { _, channel, probe in
            let task = Task { try await collect(channel.watch("wait", 1)) }
            #expect(await probe.wait(for: "sent"))
            task.cancel()
            await #expect { try await task.value } throws: { ($0 as? RPCStatus)?.code == .cancelled }
            #expect(await probe.wait(for: "cancelled"))
        }
    }

    @Test func `the deadline of a stream cancels the handler's task`() async throws {
        try await withEcho { _, channel, probe in
            // On a busy machine a short deadline passes before the server knows of the call.
            var timeout = Duration.milliseconds(200)
            while probe.count("started") == 0, timeout < .seconds(30) {
                await #expect { try await collect(channel.watch("wait", 1, timeout: timeout)) } throws: {
                    ($0 as? RPCStatus)?.code == .deadlineExceeded
                }
                timeout *= 2
            }
            #expect(await probe.wait(for: "cancelled"))
        }
    }

    @Test func `a client that does not read holds the sender back, and its going ends the sender`() async throws {
        try await withEcho { _, channel, probe in
            do {
                var iterator = channel.watch("flood", 0).makeAsyncIterator()
                let first = try await iterator.next()
                #expect(first == .max)
                #expect(await isHeldBack(probe))
                #expect(probe.count("flood ended") == 0)
                _ = iterator
            }
            #expect(await probe.wait(for: "flood ended"))
        }
    }

    @Test func `an abort wakes a sender whose client does not read, and tells the client why`() async throws {
        try await withEcho { _, channel, probe in
            var iterator = channel.watch("flood", 0).makeAsyncIterator()
            let first = try await iterator.next()
            #expect(first == .max)
            #expect(await isHeldBack(probe))
            probe.doWhatIsKept()
            #expect(await probe.wait(for: "flood ended"))
            await #expect(throws: RPCStatus(.resourceExhausted, "you do not read")) {
                while try await iterator.next() != nil {}
            }
            // Of a call that has ended there is nothing left to break off.
            probe.doWhatIsKept()
            try await #expect(channel.allocate("here", "x") == "x")
        }
    }

    @Test func `a connection that breaks cancels the handler's task`() async throws {
        let probe = Probe()
        defer { probe.keep(nil) }
        let server = try RPCServer(
            configuration: .init(listeners: [.init("127.0.0.1:0")]), services: [EchoService.make(probe)])
        let address = try server.start()[0]
        let client = try RawClient(address)
        try client.call("/holdfast.ipam.v1.IPAM/Release", message: [0x0a, 6, 0x1a, 4] + Array("wait".utf8))
        #expect(await probe.wait(for: "started"))
        client.close()
        #expect(await probe.wait(for: "cancelled"))
        await server.shutdown(grace: .seconds(5))
    }
}
