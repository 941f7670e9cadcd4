import CNI
import Foundation
import Hummingbird
import IPAMModel
import Logging
import ServiceLifecycle
import Synchronization
import Testing

@testable import NodeAgent

/// What a test runs on: scratch folder, directory of manifests, an agent in this process, network namespaces; all cleaned
/// up in reverse order.
final class NodeFixture: Sendable {
    let node: String
    let scratch: String
    let ipam: LedgerIPAM
    let source: DirectorySource
    private let namespaces = Mutex<[String]>([])
    private let bridges = Mutex<[String]>([])

    var manifests: String { scratch + "/manifests" }
    var socket: String { scratch + "/agent.sock" }

    private init(node: String, ipam: LedgerIPAM) throws {
        self.node = node
        self.ipam = ipam
        scratch = "/tmp/holdfast-test-\(UUID().uuidString.prefix(8).lowercased())"
        try FileManager.default.createDirectory(
            atPath: scratch + "/manifests", withIntermediateDirectories: true)
        source = DirectorySource(path: scratch + "/manifests", log: Logger(label: "test"))
    }

    /// Runs `body` with an agent that answers at `socket`; of a service of its own unless it is to share another's.
    static func run(
        node: String = "node-a", ipam: LedgerIPAM? = nil, _ body: (NodeFixture) async throws -> Void
    ) async throws {
        let ipam = try ipam ?? LedgerIPAM()
        let fixture = try NodeFixture(node: node, ipam: ipam)
        var log = Logger(label: "agent")
        log.logLevel = .error
        let (listening, continuation) = AsyncStream.makeStream(of: Void.self)
        let application = AgentServer(
            handler: AttachmentHandler(node: node, ipam: ipam, source: fixture.source, log: log),
            socket: fixture.socket, onListening: { continuation.finish() })
        let group = ServiceGroup(configuration: .init(services: [.init(service: application)], logger: log))
        let outcome = try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            for await _ in listening {}
            let outcome: Result<Void, any Error>
            do {
                outcome = .success(try await body(fixture))
            } catch {
                outcome = .failure(error)
            }
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
            return outcome
        }
        fixture.cleanUp()
        try outcome.get()
    }

    private func cleanUp() {
        for name in namespaces.withLock({ $0 }) { _ = try? Executable.run(["ip", "netns", "del", name]) }
        for name in bridges.withLock({ $0 }) { _ = try? Executable.run(["ip", "link", "del", name]) }
        try? FileManager.default.removeItem(atPath: scratch)
    }

    /// A new network namespace's name.
    func makeNamespace() throws -> String {
        let name = "hf-\(UUID().uuidString.prefix(8).lowercased())"
        try Executable.run(["ip", "netns", "add", name]).requireSuccess()
        namespaces.withLock { $0.append(name) }
        return name
    }

    /// The name of a bridge that the plugin will make.
    func bridgeName() -> String {
        let name = "hf\(UUID().uuidString.prefix(8).lowercased())"
        bridges.withLock { $0.append(name) }
        return name
    }

    func write(_ manifest: String, to file: String) throws {
        try manifest.write(toFile: "\(manifests)/\(file)", atomically: true, encoding: .utf8)
    }

    func remove(_ file: String) throws { try FileManager.default.removeItem(atPath: "\(manifests)/\(file)") }

    /// Calls the network's main plugin as a runtime does, with what kubelet says in CNI_ARGS.
    func runtime(
        _ verb: String, configuration: JSON, container: String, netns: String, pod: String, uid: String? = nil,
        interface: String = "eth0"
    ) throws -> Executable.Outcome {
        var arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=\(pod)"
        if let uid { arguments += ";K8S_POD_UID=\(uid)" }
        let type = configuration["type"]?.string ?? ""
        return try Executable.run(
            [type == NetworkConfiguration.pluginType ? "\(Executable.products)/\(type)" : "/usr/lib/cni/\(type)"],
            environment: [
                "CNI_COMMAND": verb, "CNI_CONTAINERID": container, "CNI_NETNS": "/var/run/netns/\(netns)",
                "CNI_IFNAME": interface, "CNI_PATH": "/usr/lib/cni:\(Executable.products)", "CNI_ARGS": arguments,
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            ], input: configuration.description)
    }
}

/// A program, run to its end; one that takes a minute is killed, with what it has started.
enum Executable {
    struct Outcome {
        var status: Int32
        var output: String
        var errors: String

        @discardableResult
        func requireSuccess(sourceLocation: SourceLocation = #_sourceLocation) throws -> String {
            try #require(status == 0, "\(output)\(errors)", sourceLocation: sourceLocation)
            return output
        }

        var json: JSON { get throws { try JSON(parsing: output) } }
    }

    /// From the making of a process's pipes until ours of its ends are closed: Foundation's processes inherit what others'
    /// have open, and a pipe ends once the last has closed it.
    static let spawning = Mutex(())

    /// Where this package's programs are: beside the test bundle.
    static let products: String = Bundle.main.executableURL?.deletingLastPathComponent().path ?? ""

    @discardableResult
    static func run(
        _ arguments: [String], environment: [String: String]? = nil, input: String = ""
    ) throws -> Outcome {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/timeout")
        process.arguments = ["--signal=KILL", "60"] + arguments
        if let environment { process.environment = environment }
        let (stdout, stderr) = try spawning.withLock { _ in
            let (stdin, stdout, stderr) = (Pipe(), Pipe(), Pipe())
            (process.standardInput, process.standardOutput, process.standardError) = (stdin, stdout, stderr)
            try process.run()
            stdin.fileHandleForWriting.write(Data(input.utf8))
            try stdin.fileHandleForWriting.close()
            return (stdout, stderr)
        }
        let output = String(decoding: stdout.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        let errors = String(decoding: stderr.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return Outcome(status: process.terminationStatus, output: output, errors: errors)
    }
}

extension FileHandle {
    /// What a program says first; empty where it has ended. Throws where it is silent for 30 s.
    func firstWords(sourceLocation: SourceLocation = #_sourceLocation) throws -> String {
        var ready = pollfd(fd: fileDescriptor, events: Int16(POLLIN), revents: 0)
        try #require(poll(&ready, 1, 30_000) == 1, "it says nothing", sourceLocation: sourceLocation)
        return String(decoding: availableData, as: UTF8.self)
    }
}
