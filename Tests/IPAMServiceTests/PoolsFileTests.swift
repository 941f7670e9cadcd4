import Foundation
import IPAMAPI
import IPAMModel
import Testing

/// `--pools FILE` of the real server, changed while it runs.
@Suite struct PoolsFileTests {
    private static let timeout = Duration.seconds(10)

    private func entry(_ name: String, _ prefix: String, isDefault: Bool = false) -> String {
        "- {name: \(name), is_default: \(isDefault), prefixes: [{prefix: \(prefix)}]}\n"
    }

    /// Polls until `condition` holds, for 20 s at most.
    private func eventually(_ condition: () async throws -> Bool) async throws -> Bool {
        let deadline = ContinuousClock.now + .seconds(20)
        while ContinuousClock.now < deadline {
            if try await condition() { return true }
            try await Task.sleep(for: .milliseconds(50))
        }
        return false
    }

    @Test("the default moves to another pool, and a prefix too, in whatever order the file names them")
    func movesWithinTheFile() async throws {
        let server = try ServerProcess(pools: entry("a", "10.1.0.0/24", isDefault: true) + entry("b", "10.2.0.0/24"))
        try server.start()
        let client = try IPAMClient(server: server.socket)
        let file = server.folder.appending(path: "pools.yaml")
        let moved = entry("b", "10.1.0.0/24", isDefault: true) + entry("a", "10.2.0.0/24")
        // b comes first, but must wait until a has given up the default's place.
        try Data((entry("b", "10.3.0.0/24", isDefault: true) + entry("a", "10.1.0.0/24")).utf8).write(to: file)
        #expect(try await eventually { try await client.pool(named: "b", timeout: Self.timeout).pool.isDefault })
        #expect(try await client.pool(named: "a", timeout: Self.timeout).pool.isDefault == false)

        // And until a has given up its prefix.
        try Data(moved.utf8).write(to: file)
        #expect(
            try await eventually {
                try await client.pools(timeout: Self.timeout).map { "\($0.pool.prefixes[0].prefix)" } == [
                    "10.2.0.0/24", "10.1.0.0/24",
                ]
            })

        // A file that is wrong leaves the pools as they are; the next one that is right is taken.
        try Data("- {name: a, prefixes: [{prefix: 10.9.0.1/24}]}".utf8).write(to: file)
        try Data((moved + entry("c", "10.4.0.0/24")).utf8).write(to: file)
        #expect(try await eventually { try await client.pools(timeout: Self.timeout).count == 3 })
        await client.close()
        #expect(server.kill(SIGTERM) == 0)
    }
}
