import Foundation
import Glibc

/// One run of a CNI plugin, as a runtime makes it: environment, configuration on standard input.
struct PluginRun {
    var executable: String
    var environment: [String]
    /// A file with the network's configuration.
    var configuration: String

    /// Starts it; both of the plugin's outputs go to `output`, a file.
    func start(output: String) throws -> pid_t {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, configuration, O_RDONLY, 0)
        unsafe posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        unsafe posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO)
        var arguments: [UnsafeMutablePointer<CChar>?] = unsafe [strdup(executable), nil]
        var variables: [UnsafeMutablePointer<CChar>?] = unsafe environment.map { unsafe strdup($0) } + [nil]
        defer { for index in unsafe arguments.indices { unsafe free(arguments[index]) } }
        defer { for index in unsafe variables.indices { unsafe free(variables[index]) } }
        var process = pid_t()
        let status = unsafe posix_spawn(&process, executable, &actions, nil, &arguments, &variables)
        guard status == 0 else { throw BenchError("\(executable): \(unsafe String(cString: strerror(status)))") }
        return process
    }

    /// Milliseconds from before its start to after its end.
    func time(output: String) throws -> Double {
        let started = ContinuousClock.now
        let process = try start(output: output)
        var status: CInt = 0
        while unsafe waitpid(process, &status, 0) < 0, errno == EINTR {}
        let elapsed = (ContinuousClock.now - started) / .milliseconds(1)
        try Self.check(status, executable, output)
        return elapsed
    }

    /// All at once: each one's milliseconds.
    static func time(atOnce runs: [PluginRun], outputs folder: String) throws -> [Double] {
        var started: [pid_t: (Int, ContinuousClock.Instant)] = [:]
        var times: [Double] = []
        for (index, run) in runs.enumerated() {
            let now = ContinuousClock.now
            started[try run.start(output: "\(folder)/out-\(index)")] = (index, now)
        }
        while !started.isEmpty {
            var status: CInt = 0
            let process = unsafe waitpid(-1, &status, 0)
            if process < 0, errno == EINTR { continue }
            // Another child's end, as of the server, is none of ours.
            guard let (index, start) = started.removeValue(forKey: process) else {
                if process < 0 { throw BenchError("no child to wait for") }
                continue
            }
            times.append((ContinuousClock.now - start) / .milliseconds(1))
            try check(status, runs[index].executable, "\(folder)/out-\(index)")
        }
        return times
    }

    private static func check(_ status: CInt, _ executable: String, _ output: String) throws {
        if status == 0 { return }
        throw BenchError("\(executable) failed: \((try? String(contentsOfFile: output, encoding: .utf8)) ?? "")")
    }
}

struct BenchError: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}
