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
        let before = try await client.pools(timeout: Self.timeout).map(\.pool)
        try Data("- {name: a, prefixes: [{prefix: 10.9.0.1/24}]}".utf8).write(to: file)
        #expect(try await eventually { server.logText.contains("pools file refused") })
        #expect(try await client.pools(timeout: Self.timeout).map(\.pool) == before)
        try Data((moved + entry("c", "10.4.0.0/24")).utf8).write(to: file)
        #expect(try await eventually { try await client.pools(timeout: Self.timeout).count == 3 })
        await client.close()
        #expect(server.kill(SIGTERM) == 0)
    }

    @Test func `a file that is refused stops only a server that has no pools yet`() async throws {
        let wrong = "- {name: a, prefixes: [{prefix: 10.9.0.1/24}]}"
        let empty = try ServerProcess(pools: wrong)
        let failure = #expect(throws: ServerProcess.StartFailure.self) { try empty.start() }
        #expect(failure?.status == 1 && failure?.log.contains("10.9.0.0/24") == true)

        let server = try ServerProcess(pools: entry("a", "10.1.0.0/24"))
        try server.start()
        #expect(server.kill(SIGTERM) == 0)
        try Data(wrong.utf8).write(to: server.folder.appending(path: "pools.yaml"))
        try server.start()
        #expect(server.logText.contains("pools file refused"))
        let client = try IPAMClient(server: server.socket)
        #expect(try await client.pools(timeout: Self.timeout).map(\.pool.name) == ["a"])
        await client.close()
        #expect(server.kill(SIGTERM) == 0)
    }

    @Test func `a file that is taken away is told once, and comes back`() async throws {
        let content = entry("a", "10.1.0.0/24")
        let server = try ServerProcess(pools: content)
        try server.start()
        let client = try IPAMClient(server: server.socket)
        let file = server.folder.appending(path: "pools.yaml")
        try FileManager.default.removeItem(at: file)
        #expect(try await eventually { server.logText.contains("cannot be read") })
        try Data((content + entry("b", "10.2.0.0/24")).utf8).write(to: file)
        #expect(try await eventually { try await client.pools(timeout: Self.timeout).count == 2 })
        #expect(server.logText.split(separator: "pools file refused").count == 2, "\(server.logText)")
        #expect(server.logText.contains("No such file or directory"), "\(server.logText)")
        await client.close()
        #expect(server.kill(SIGTERM) == 0)
    }

    /// A start begins each quarantine anew.
    @Test func `a prefix leaves its pool after a start, once its quarantine is over`() async throws {
        let slow = "- {name: a, is_default: true, reuse_delay: 2s, prefixes: [{prefix: 10.1.0.0/24}]}\n"
        let server = try ServerProcess(pools: slow)
        try server.start()
        var client = try IPAMClient(server: server.socket)
        let owner = Owner(kind: .virtualMachine, namespace: "default", name: "vm", uid: "u", network: "vm-net/eth0")
        _ = try await client.allocate(AllocateRequest(owner: owner), timeout: Self.timeout)
        _ = try await client.release(.binding(owner), timeout: Self.timeout)
        await client.close()
        #expect(server.kill(SIGTERM) == 0)
        let moved = slow.replacing("10.1.0.0", with: "10.2.0.0")
        try Data(moved.utf8).write(to: server.folder.appending(path: "pools.yaml"))
        try server.start()
        client = try IPAMClient(server: server.socket)
        #expect(
            try await eventually {
                try await client.pools(timeout: Self.timeout).map { "\($0.pool.prefixes[0].prefix)" } == ["10.2.0.0/24"]
            })
        await client.close()
        #expect(server.kill(SIGTERM) == 0)
    }

    @Test func `what may be taken later is, though another pool of the file is refused for good; both are told`()
        async throws
    {
        func file(_ a: String, _ b: String) -> String {
            entry("b", b) + "- {name: a, is_default: true, reuse_delay: 2s, prefixes: [{prefix: \(a)}]}\n"
        }
        let server = try ServerProcess(pools: file("10.1.0.0/24", "10.9.0.0/24"))
        try server.start()
        let client = try IPAMClient(server: server.socket)
        let gone = Owner(kind: .virtualMachine, namespace: "default", name: "vm", uid: "u", network: "vm-net/eth0")
        _ = try await client.allocate(AllocateRequest(owner: gone), timeout: Self.timeout)
        var held = gone
        held.name = "held"
        _ = try await client.allocate(AllocateRequest(owner: held, pool: "b"), timeout: Self.timeout)
        _ = try await client.release(.binding(gone), timeout: Self.timeout)
        try Data(file("10.2.0.0/24", "10.10.0.0/24").utf8).write(to: server.folder.appending(path: "pools.yaml"))
        #expect(
            try await eventually {
                try await client.pool(named: "a", timeout: Self.timeout).pool.prefixes.map { "\($0.prefix)" }
                    == ["10.2.0.0/24"]
            })
        #expect(
            server.logText.split(separator: "\n").contains {
                $0.contains("pools file refused") && $0.contains("pool 'a'") && $0.contains("pool 'b'")
            }, "\(server.logText)")
        #expect(
            try await client.pool(named: "b", timeout: Self.timeout).pool.prefixes.map { "\($0.prefix)" }
                == ["10.9.0.0/24"])
        await client.close()
        #expect(server.kill(SIGTERM) == 0)
    }

    @Test func `a file that is taken back is taken back whole, though a part of it was refused`() async throws {
        func file(_ prefix: String, quota: Int) -> String {
            entry("a", prefix, isDefault: true)
                + "- {name: b, namespace_quota: \(quota), prefixes: [{prefix: 10.9.0.0/24}]}\n"
        }
        let server = try ServerProcess(pools: file("10.1.0.0/24", quota: 7))
        try server.start()
        let client = try IPAMClient(server: server.socket)
        // It waits for a minute.
        let owner = Owner(kind: .virtualMachine, namespace: "default", name: "vm", uid: "u", network: "vm-net/eth0")
        _ = try await client.allocate(AllocateRequest(owner: owner), timeout: Self.timeout)
        _ = try await client.release(.binding(owner), timeout: Self.timeout)
        let path = server.folder.appending(path: "pools.yaml")
        func quota() async throws -> UInt32 {
            UInt32(try await client.pool(named: "b", timeout: Self.timeout).pool.namespaceQuota)
        }
        try Data(file("10.2.0.0/24", quota: 5).utf8).write(to: path)
        #expect(try await eventually { try await quota() == 5 && server.logText.contains("pools file refused") })
        try Data(file("10.1.0.0/24", quota: 7).utf8).write(to: path)
        #expect(try await eventually { try await quota() == 7 })
        await client.close()
        #expect(server.kill(SIGTERM) == 0)
    }
}
