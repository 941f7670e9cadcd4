import ArgumentParser
import Foundation

/// Three members of etcd (Debian's etcd-server) on loopback.
final class Members {
    let endpoints: [String]
    private var processes: [Process] = []

    init(_ folder: URL) throws {
        let base = Int.random(in: 20_000..<31_000)
        endpoints = (0..<3).map { "127.0.0.1:\(base + $0)" }
        let cluster = (0..<3).map { "m\($0)=http://127.0.0.1:\(base + 10 + $0)" }.joined(separator: ",")
        for index in 0..<3 {
            let (client, peer) = ("http://127.0.0.1:\(base + index)", "http://127.0.0.1:\(base + 10 + index)")
            processes.append(
                try start(
                    "/usr/bin/etcd",
                    [
                        "--name", "m\(index)", "--data-dir", folder.appending(path: "m\(index)").path,
                        "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
                        "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster, "--log-level", "error",
                        "--quota-backend-bytes", "\(6 << 30)",
                    ]))
        }
    }

    func waitUntilTheyAnswer() async throws {
        while try ctl("endpoint", "health").status != 0 { try await Task.sleep(for: .milliseconds(200)) }
    }

    func value(_ key: String) throws -> String {
        try ctl("get", "--print-value-only", key).text.trimmingCharacters(in: .newlines)
    }

    func stop() {
        for process in processes {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
    }

    private func ctl(_ arguments: String...) throws -> (status: Int32, text: String) {
        let output = Pipe()
        let process = try start(
            "/usr/bin/etcdctl", ["--endpoints", endpoints.joined(separator: ",")] + arguments, output: output)
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text)
    }
}

/// A holdfast-server on those members.
final class Server {
    let address: String
    private let process: Process
    private let log: URL

    init(_ binary: String, _ address: String, _ etcd: Members, prefix: String, _ folder: URL) throws {
        self.address = address
        log = folder.appending(path: "\(UUID()).log")
        let pools = folder.appending(path: "pools.yaml")
        try Data("[{name: bench, is_default: true, prefixes: [{prefix: 10.0.0.0/8, gateway: 10.0.0.1}]}]".utf8).write(
            to: pools)
        try Data().write(to: log)
        let store = "etcd:" + etcd.endpoints.map { "http://\($0)" }.joined(separator: ",")
        process = try start(
            binary,
            [
                "--listen", address, "--http", "off", "--store", store, "--etcd-prefix", prefix, "--etcd-lease", "2",
                "--pools", pools.path, "--log-level", "info",
            ], error: try FileHandle(forWritingTo: log))
    }

    /// Returns once it has the ledger: it leads, or knows who does.
    func waitUntilItFollows() async throws {
        while true {
            let text = try String(contentsOf: log, encoding: .utf8)
            if text.contains("leader=unix:") || text.contains("leading") { return }
            guard process.isRunning else { throw ValidationError("the server ended: \(text)") }
            try await Task.sleep(for: .milliseconds(100))
        }
    }

    func kill() {
        guard process.isRunning else { return }
        Foundation.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }
}

private func start(
    _ binary: String, _ arguments: [String], output: Pipe? = nil, error: FileHandle = .nullDevice
) throws -> Process {
    let process = Process()
    process.executableURL = URL(filePath: binary)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(["ETCDCTL_API": "3"]) { $1 }
    process.standardOutput = output ?? FileHandle.nullDevice
    process.standardError = error
    try process.run()
    return process
}
