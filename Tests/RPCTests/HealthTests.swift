import RPC
import Testing

@Suite struct HealthTests {
    @Test func `Check says how each service is, and NOT_FOUND for others`() async throws {
        try await withEcho { server, channel, _ in
            try await #expect(channel.check("") == 1)
            try await #expect(channel.check("holdfast.ipam.v1.IPAM") == 1)
            server.health.set("holdfast.ipam.v1.IPAM", .notServing)
            try await #expect(channel.check("holdfast.ipam.v1.IPAM") == 2)
            try await #expect(channel.check("") == 1)
            await #expect(throws: RPCStatus(.notFound, "no service nothing")) { try await channel.check("nothing") }
        }
    }

    @Test func `Watch sends the present status and every change, and SERVICE_UNKNOWN until there is such a service`()
        async throws
    {
        try await withEcho { server, channel, _ in
            var iterator = channel.watchHealth("new").makeAsyncIterator()
            var seen: [UInt32?] = [try await iterator.next()]
            for status in [HealthService.Status.notServing, .serving, .serving, .notServing] {
                server.health.set("new", status)
                if seen.last != (status == .serving ? 1 : 2) { seen.append(try await iterator.next()) }
            }
            #expect(seen == [3, 2, 1, 2])
        }
    }

    @Test func `a hundred watchers all learn of a change`() async throws {
        try await withEcho { server, channel, _ in
            let probe = Probe()
            let watchers = (0..<100).map { _ in
                Task {
                    for try await status in channel.watchHealth("") {
                        probe.add("\(status)")
                        if status == 2 { break }
                    }
                }
            }
            #expect(await probe.wait(for: "1", count: 100))
            server.health.set("", .notServing)
            #expect(await probe.wait(for: "2", count: 100))
            for watcher in watchers { try await watcher.value }
        }
    }
}
