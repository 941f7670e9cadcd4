import Dispatch
import Synchronization
import Testing

@testable import RPC

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

    /// A client that goes just when a status changes: its call's task is cancelled on the thread that takes the server's calls.
    @Test func `who goes and who tells of a change do not wait for each other`() async throws {
        let health = HealthService(services: [])
        for round in 0..<2_000 {
            let (taken, done) = (Counter(), Counter())
            let watch = Task {
                let (number, changes) = health.watch("")
                defer { health.unwatch(number) }
                for await _ in changes { taken.add() }
            }
            try #require(await taken.reaches(1))
            // Threads, for those that wait for each other for ever would keep the tasks' own.
            let start = Counter()
            let acts: [@Sendable () -> Void] = [
                { watch.cancel() }, { health.set("", round % 2 == 0 ? .notServing : .serving) },
            ]
            for act in acts {
                DispatchQueue(label: "test.health").async {
                    start.add()
                    while start.value < 2 {}
                    act()
                    done.add()
                }
            }
            try #require(await done.reaches(2))
            await watch.value
        }
    }

    private final class Counter: Sendable {
        private let count = Atomic(0)

        func add() { count.add(1, ordering: .sequentiallyConsistent) }

        var value: Int { count.load(ordering: .sequentiallyConsistent) }

        /// False where it does not within 20 s.
        func reaches(_ wanted: Int) async -> Bool {
            let deadline = ContinuousClock.now + .seconds(20)
            while value < wanted {
                if ContinuousClock.now > deadline { return false }
                await Task.yield()
            }
            return true
        }
    }
}
