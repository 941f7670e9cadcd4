import Addresses
import Foundation
import FoundationNetworking
import IPAMAPI
import IPAMModel
import Testing

@testable import IPAMService

/// `--http`: what probes and Prometheus see of the real server.
@Suite struct HTTPTests {
    private static let pools = """
        - name: vm-net
          is_default: true
          prefixes:
            - {prefix: 10.16.0.0/29, gateway: 10.16.0.1}
        """

    private struct Answer {
        var status: Int
        var type: String
        var text: String
    }

    /// Waits until `value` is there; nil after 20 s.
    private func wait<Value>(for value: () async throws -> Value?) async throws -> Value? {
        let deadline = ContinuousClock.now + .seconds(20)
        while ContinuousClock.now < deadline {
            if let found = try await value() { return found }
            try await Task.sleep(for: .milliseconds(20))
        }
        return nil
    }

    /// Starts it on a port that the system chooses, and returns HOST:PORT.
    private func startServer(_ server: ServerProcess) async throws -> String {
        server.http = "127.0.0.1:0"
        server.logLevel = "info"
        try server.start()
        let address = try await wait {
            server.logText.firstMatch(of: /address=(127\.0\.0\.1:[1-9][0-9]*)\D/).map { String($0.1) }
        }
        return try #require(address, "no address in the log:\n\(server.logText)")
    }

    private func get(_ address: String, _ path: String) async throws -> Answer {
        let session = URLSession(configuration: .ephemeral)
        defer { session.invalidateAndCancel() }
        let (body, response) = try await session.data(from: try #require(URL(string: "http://\(address)\(path)")))
        let http = try #require(response as? HTTPURLResponse)
        return Answer(
            status: http.statusCode, type: http.value(forHTTPHeaderField: "Content-Type") ?? "",
            text: String(decoding: body, as: UTF8.self))
    }

    /// A port of the loopback address that is taken until `release`.
    private func takePort(_ wanted: UInt16 = 0) -> (port: UInt16, release: () -> Void) {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        address.sin_port = wanted.bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                // Where another has the wanted port, it is taken as well.
                _ = bind(descriptor, $0, length)
                _ = listen(descriptor, 1)
                _ = getsockname(descriptor, $0, &length)
            }
        }
        return (UInt16(bigEndian: address.sin_port), { close(descriptor) })
    }

    private func startFailure(of server: ServerProcess) -> ServerProcess.StartFailure? {
        do {
            try server.start()
            return nil
        } catch {
            return error as? ServerProcess.StartFailure
        }
    }

    @Test func `the server is healthy and ready once it listens, and other paths are not found`() async throws {
        let server = try ServerProcess()
        let address = try await startServer(server)
        for path in ["/healthz", "/readyz"] {
            let answer = try await get(address, path)
            #expect(answer.status == 200 && answer.text == "ok\n", "\(path)")
        }
        #expect(try await get(address, "/metrics/more").status == 404)
        #expect(try await get(address, "/").status == 404)
        #expect(server.kill(SIGTERM) == 0)
    }

    @Test func `metrics tell of pools, migrations, allocations, commits and calls`() async throws {
        let server = try ServerProcess(pools: Self.pools)
        let address = try await startServer(server)
        let client = try IPAMClient(server: server.socket)
        let owner = Owner(kind: .virtualMachine, namespace: "default", name: "db-1", uid: "u", network: "a/eth0")
        func pod(_ name: String) -> Attachment {
            Attachment(node: "node-a", pod: name, podUID: name, containerID: name)
        }
        for _ in 0..<2 {
            _ = try await client.allocate(
                AllocateRequest(owner: owner, attachment: pod("one")), timeout: .seconds(10))
        }
        let reserved = Owner(kind: .virtualMachine, namespace: "default", name: "db-2", network: "a/eth0")
        _ = try await client.allocate(AllocateRequest(owner: reserved), timeout: .seconds(10))
        let taken = Owner(kind: .virtualMachine, namespace: "default", name: "db-3", network: "a/eth0")
        await #expect(throws: IPAMError.self) {
            _ = try await client.allocate(
                AllocateRequest(owner: taken, addresses: [#require(IPAddress("10.16.0.2"))]), timeout: .seconds(10))
        }
        _ = try await client.transfer(
            TransferRequest(owner: owner, migrationUID: "m", phase: .prepare(target: pod("two"))),
            timeout: .seconds(10))
        await client.close()

        let answer = try await get(address, "/metrics")
        #expect(answer.status == 200 && answer.type == "text/plain; version=0.0.4; charset=utf-8")
        let lines = Set(answer.text.split(separator: "\n").map(String.init))
        let pool = #"pool="vm-net",prefix="10.16.0.0/29""#
        let allocate = #"grpc_type="unary",grpc_service="holdfast.ipam.v1.IPAM",grpc_method="Allocate""#
        for line in [
            #"holdfast_build_info{version="0.1.0"} 1"#,
            "holdfast_ledger_revision 4",
            "holdfast_pool_addresses{\(pool),state=\"bound\"} 1",
            "holdfast_pool_addresses{\(pool),state=\"reserved\"} 1",
            "holdfast_pool_addresses{\(pool),state=\"quarantined\"} 0",
            "holdfast_pool_addresses{\(pool),state=\"free\"} 3",
            "holdfast_migrations_open 1",
            #"holdfast_allocations_total{result="created",reason=""} 2"#,
            #"holdfast_allocations_total{result="kept",reason=""} 1"#,
            #"holdfast_allocations_total{result="refused",reason="ADDRESS_TAKEN"} 1"#,
            // The pool, two new bindings and the migration; what changes nothing needs no commit.
            "holdfast_store_commit_seconds_count 4",
            #"holdfast_store_commit_commands_bucket{le="1"} 4"#,
            "holdfast_store_commit_failures_total 0",
            "grpc_server_handled_total{\(allocate),grpc_code=\"OK\"} 3",
            "grpc_server_handled_total{\(allocate),grpc_code=\"AlreadyExists\"} 1",
            "grpc_server_handling_seconds_count{\(allocate)} 4",
        ] {
            #expect(lines.contains(line), "no \(line) in:\n\(answer.text)")
        }
        let age = try #require(
            answer.text.firstMatch(of: /\nholdfast_migration_oldest_seconds ([0-9.e-]+)\n/)?.1)
        #expect(try #require(Double(age)) > 0)
        #expect(server.kill(SIGTERM) == 0)
    }

    @Test func `readiness has the last reason that was set, and begins with one`() {
        let readiness = Readiness()
        #expect(readiness.reason == "the server is starting")
        readiness.set(nil)
        #expect(readiness.reason == nil)
        readiness.set("the disk is full")
        #expect(readiness.reason == "the disk is full")
    }

    @Test func `a taken address that was asked for is an error`() throws {
        let (port, release) = takePort()
        defer { release() }
        let server = try ServerProcess()
        server.http = "127.0.0.1:\(port)"
        // gRPC may have said before that it listens.
        let status = startFailure(of: server)?.status ?? server.waitForFailure()
        #expect(status == 1)
        #expect(
            server.logText.contains("error: cannot listen on 127.0.0.1:\(port) (--http): Address already in use"))
    }

    @Test func `the server goes on without a default address that is taken`() async throws {
        let (_, release) = takePort(9440)
        defer { release() }
        let server = try ServerProcess()
        server.http = nil
        try server.start()
        let warning = try await wait {
            server.logText.contains("127.0.0.1:9440 (--http): Address already in use") ? server.logText : nil
        }
        #expect(warning?.contains("warning") == true)
        #expect(server.kill(SIGTERM) == 0)
    }

    @Test(arguments: ["nonsense", "127.0.0.1", "127.0.0.1:70000", ":9440", "::1:9440", ""])
    func `an address that is none is wrong usage`(http: String) throws {
        let server = try ServerProcess()
        server.http = http
        let failure = try #require(startFailure(of: server))
        #expect(failure.status == 2)
        #expect(failure.log.contains("--http \(http): give HOST:PORT"))
    }

    @Test(arguments: ["127.evil.example:7440", "localhost.evil.example:7440", "[::ffff:10.0.0.1]:7440", "127.1:7440"])
    func `gRPC without TLS is refused on a name that only looks like loopback`(listen: String) throws {
        let server = try ServerProcess()
        server.listen = [listen]
        let failure = try #require(startFailure(of: server))
        #expect(failure.status == 2)
        #expect(failure.log.contains("--listen \(listen) can be reached from outside"))
    }

    private func permissions(_ path: String) throws -> Int? {
        try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    }

    @Test func `the store's folder is made, for its user alone, and so are its files`() throws {
        let server = try ServerProcess()
        server.storeFolder = "deep/er"
        try server.start()
        let folder = "\(server.folder.path)/deep/er"
        #expect(try permissions(folder) == 0o700)
        let files = try FileManager.default.contentsOfDirectory(atPath: folder)
        #expect(files.count >= 2, "the ledger and its lock")
        for file in files { #expect(try permissions("\(folder)/\(file)") == 0o600, "\(file)") }
    }

    @Test func `the lock of an older version is taken from others`() throws {
        let server = try ServerProcess()
        server.storeFolder = "here"
        let folder = server.folder.appending(path: "here")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        try server.start()
        #expect(server.kill(SIGTERM) == 0)
        let file = try #require(
            try FileManager.default.contentsOfDirectory(atPath: folder.path).first { $0.hasSuffix(".lock") })
        let lock = "\(folder.path)/\(file)"
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: lock)
        try server.start()
        #expect(try permissions(lock) == 0o600)
    }

    @Test func `a folder that cannot be made is named, with what to do`() throws {
        let server = try ServerProcess()
        try Data().write(to: server.folder.appending(path: "file"))
        server.storeFolder = "file/inside"
        let failure = try #require(startFailure(of: server))
        #expect(failure.status == 1)
        #expect(
            failure.log.contains("error: the folder \(server.folder.path)/file/inside of the ledger cannot be made"))
        #expect(failure.log.contains("hint: "))
    }
}
