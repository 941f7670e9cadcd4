import Foundation
import IPAMAPI
import Testing

/// A temporary folder with the real holdfast-server in it, as a process of its own.
final class ServerProcess {
    let folder: URL
    private var process: Process?
    var pools: String?
    /// `--http`; nil: the flag is not given. Off, so that suites side by side do not want the same port.
    var http: String? = "off"
    var logLevel = "warning"
    /// Beside the socket, which is always there.
    var listen: [String] = []
    /// Of the ledger, inside `folder`.
    var storeFolder = "."

    init(pools: String? = nil) throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "holdfast-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        self.pools = pools
        if let pools { try Data(pools.utf8).write(to: folder.appending(path: "pools.yaml")) }
    }

    deinit {
        kill(SIGKILL)
        try? FileManager.default.removeItem(at: folder)
    }

    private var log: URL { folder.appending(path: "server.log") }

    var logText: String { (try? String(contentsOf: log, encoding: .utf8)) ?? "" }

    var socket: String { "unix:\(folder.path)/server.sock" }

    /// Beside the test runner, where SwiftPM builds both.
    static var binary: URL {
        URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().appending(path: "holdfast-server")
    }

    /// Starts the server and returns once it says that it listens; throws with its log where it does not within 20 s.
    func start() throws {
        let process = Process()
        process.executableURL = Self.binary
        process.arguments = [
            "--listen", socket, "--store", "sqlite:\(folder.path)/\(storeFolder)/ledger.sqlite", "--log-level",
            logLevel,
        ]
        for address in listen { process.arguments? += ["--listen", address] }
        if let http { process.arguments? += ["--http", http] }
        if pools != nil { process.arguments? += ["--pools", folder.appending(path: "pools.yaml").path] }
        if !FileManager.default.fileExists(atPath: log.path) { try Data().write(to: log) }
        let handle = try FileHandle(forWritingTo: log)
        try handle.seekToEnd()
        process.standardError = handle
        let output = folder.appending(path: "server.out")
        try Data().write(to: output)
        process.standardOutput = try FileHandle(forWritingTo: output)
        try process.run()
        self.process = process
        _ = wait {
            let text = (try? String(contentsOf: output, encoding: .utf8)) ?? ""
            return text.hasPrefix("listening on \(self.socket)\n") || !process.isRunning
        }
        guard let text = try? String(contentsOf: output, encoding: .utf8), text.hasPrefix("listening on \(socket)")
        else {
            throw StartFailure(log: logText, status: process.isRunning ? -1 : process.terminationStatus)
        }
    }

    /// Whether `condition` came true within 20 s.
    private func wait(until condition: () -> Bool) -> Bool {
        let deadline = ContinuousClock.now + .seconds(20)
        while !condition() {
            if ContinuousClock.now > deadline { return false }
            usleep(2_000)
        }
        return true
    }

    struct StartFailure: Error {
        let log: String
        let status: Int32
    }

    /// Sends `signal` and does not wait.
    func send(_ signal: Int32) {
        guard let process else { return }
        Foundation.kill(process.processIdentifier, signal)
    }

    /// Sends `signal` and waits for the end; the exit status, or nil where a signal ended it.
    @discardableResult
    func kill(_ signal: Int32) -> Int32? {
        send(signal)
        return waitUntilExit()
    }

    /// Waits for an end that nobody asked for; the exit status, or nil where it goes on after 20 s.
    func waitForFailure() -> Int32? { waitUntilExit() }

    private func waitUntilExit() -> Int32? {
        guard let process else { return nil }
        guard wait(until: { !process.isRunning }) else {
            Issue.record("holdfast-server does not end")
            return nil
        }
        self.process = nil
        return process.terminationReason == .exit ? process.terminationStatus : nil
    }
}
