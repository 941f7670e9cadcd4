import CNI
import Foundation
import Glibc
import Synchronization
import Syscalls
import Testing

@testable import NodeAgent

/// The socket under clients that are slow, silent, talk nonsense or too much: the plugin's calls go on beside them.
struct AgentServerTests {
    private static func exchange(_ text: String, with fixture: NodeFixture) throws -> HTTPMessage? {
        let stream = try connect(fixture)
        try stream.send(Array(text.utf8))
        return try HTTPMessage(from: stream, by: .after(.seconds(30)))
    }

    private static func connect(_ fixture: NodeFixture) throws(StreamError) -> UnixStream {
        try UnixStream(connectingTo: fixture.socket, patience: .seconds(10))
    }

    /// A DEL that finds nothing to do.
    private static var call: HTTPMessage {
        let request = AgentRequest(
            environment: [
                "CNI_COMMAND": "DEL", "CNI_CONTAINERID": "gone", "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin",
            ],
            configuration: [
                "cniVersion": "1.1.0", "name": "vm-net", "type": "bridge", "ipam": ["type": "holdfast-cni"],
            ])
        return HTTPMessage("POST /cni/del HTTP/1.1", body: Array(request.json.description.utf8))
    }

    private static func expectService(of fixture: NodeFixture) throws {
        let stream = try connect(fixture)
        try stream.send(call.bytes)
        let reply = try #require(try HTTPMessage(from: stream, by: .after(.seconds(30))))
        #expect(reply.startLine == "HTTP/1.1 200 OK", "\(String(decoding: reply.body, as: UTF8.self))")
    }

    @Test func `A request may come byte by byte`() async throws {
        try await NodeFixture.run { fixture in
            let stream = try Self.connect(fixture)
            for byte in Self.call.bytes { try stream.send([byte]) }
            #expect(try HTTPMessage(from: stream, by: .after(.seconds(30)))?.startLine == "HTTP/1.1 200 OK")
        }
    }

    private static let brokenPipes = Atomic(0)

    @Test func `A client that is gone before its answer raises no signal`() async throws {
        let before = signal(SIGPIPE) { _ in AgentServerTests.brokenPipes.add(1, ordering: .relaxed) }
        defer { signal(SIGPIPE, before) }
        try await NodeFixture.run { fixture in
            for _ in 0..<50 { try Self.connect(fixture).send(Self.call.bytes) }
            try Self.expectService(of: fixture)
        }
        #expect(Self.brokenPipes.load(ordering: .relaxed) == 0)
    }

    @Test(arguments: [
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found"),
        ("POST /cni/add HTTP/1.1\r\n\r\n", "HTTP/1.1 422 Unprocessable Content"),
        ("POST /cni/add HTTP/1.1\r\nContent-Length: 3\r\n\r\n{{{", "HTTP/1.1 422 Unprocessable Content"),
        ("POST /cni/add HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        ("POST /cni/add HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 400 Bad Request"),
        ("POST /cni/add HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        ("POST /cni/add HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        ("POST /cni/add HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", "HTTP/1.1 413 Content Too Large"),
        ("POST /cni/add HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}more", "HTTP/1.1 400 Bad Request"),
        ("nonsense\r\n\r\n", "HTTP/1.1 404 Not Found"),
        (String(repeating: "x", count: 40_000), "HTTP/1.1 413 Content Too Large"),
    ])
    func `What cannot be served is refused with a CNI error`(_ request: String, _ answer: String) async throws {
        try await NodeFixture.run { fixture in
            let reply = try #require(try Self.exchange(request, with: fixture))
            #expect(reply.startLine == answer)
            #expect(CNIError(try JSON(parsing: reply.body)) != nil)
            try Self.expectService(of: fixture)
        }
    }

    @Test func `Silent connections keep no one waiting, and are ended`() async throws {
        try await NodeFixture.run { fixture in
            let silent = try (0..<100).map { _ in Silent(try Self.connect(fixture)) }
            try silent.first?.stream.send(Array("POST /cni/del HTTP/1.1\r\nContent-".utf8))
            try Self.expectService(of: fixture)
            for one in silent { #expect(try one.stream.receive(by: .after(.seconds(30))).isEmpty) }
        }
    }

    @Test func `More connections than threads all get their turn`() async throws {
        try await NodeFixture.run { fixture in
            let silent = try (0..<300).map { _ in Silent(try Self.connect(fixture)) }
            // Waits in the kernel until the first silent ones are ended.
            try Self.expectService(of: fixture)
            for one in silent { #expect(try one.stream.receive(by: .after(.seconds(30))).isEmpty) }
        }
    }

    @Test func `Calls at once are all answered`() async throws {
        try await NodeFixture.run { fixture in
            try await withThrowingTaskGroup { group in
                for _ in 0..<50 { group.addTask { try Self.expectService(of: fixture) } }
                try await group.waitForAll()
            }
        }
    }

    @Test func `Threads that end without being asked to are told from those that were`() async throws {
        for isAsked in [true, false] {
            let path = "/tmp/holdfast-test-\(UUID().uuidString)"
            defer { try? FileManager.default.removeItem(atPath: path) }
            let threads = ConnectionThreads(try UnixListener(path: path)) { _ in }
            try threads.start()
            if isAsked { threads.close() } else { try Self.shutDownListener(at: path) }
            #expect(await threads.finish() == isAsked)
        }
    }

    /// From behind: by the number under which the kernel knows the socket.
    private static func shutDownListener(at path: String) throws {
        let sockets = try String(contentsOfFile: "/proc/net/unix", encoding: .utf8).split(separator: "\n")
        let line = try #require(sockets.first { $0.hasSuffix(" \(path)") }?.split(separator: " "))
        for name in try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd") {
            let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(name)")
            if target == "socket:[\(line[6])]", let number = Int32(name) { shutdown(number, Int32(SHUT_RDWR)) }
        }
    }

    private final class Silent: Sendable {
        let stream: UnixStream
        init(_ stream: consuming UnixStream) { self.stream = stream }
    }
}
