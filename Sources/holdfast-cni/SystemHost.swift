import CLinux
import CNI
import Syscalls

/// The real world: this process's environment and streams, the agent's socket, other plugins' processes.
struct SystemHost: PluginHost {
    /// For all that this process asks of the agent. The agent has its own, shorter time-out towards the server, so its
    /// words reach the runtime in most cases.
    private let deadline = Deadline.after(.seconds(15))
    /// For each question, also after a delegate that took all the time.
    private static let shortestTimeout = Duration.seconds(1)

    var environment: [String: String] {
        var variables: [String: String] = [:]
        var index: CInt = 0
        while let text = unsafe environment_variable(index) {
            let pair = unsafe String(cString: text)
            if let equals = pair.firstIndex(of: "=") {
                variables[String(pair[..<equals])] = String(pair[pair.index(after: equals)...])
            }
            index += 1
        }
        return variables
    }

    /// Nil where reading fails; empty for VERSION from a terminal, where nothing would come.
    func input() -> [UInt8]? { isatty(STDIN_FILENO) == 1 ? [] : FileDescriptor(STDIN_FILENO).readAll() }

    /// False where nobody takes it.
    func print(_ json: JSON) -> Bool { FileDescriptor(STDOUT_FILENO).writeAll(Array("\(json)\n".utf8)) }

    func find(plugin name: String, in directories: [String]) -> String? {
        guard !name.contains("/") else { return nil }
        return directories.map { "\($0)/\(name)" }.first { unsafe access($0, X_OK) == 0 }
    }

    func post(_ path: String, body: JSON, socket: String) throws(CNIError) -> AgentReply {
        do {
            let deadline = max(deadline, .after(Self.shortestTimeout))
            return try AgentConnection(socket: socket, deadline: deadline).post(path, body: Array("\(body)".utf8))
        } catch {
            throw CNIError(
                .tryAgainLater, "the holdfast agent on this node does not answer at \(socket): \(error)",
                details: "see whether holdfast-agent runs on this node; the runtime tries again by itself")
        }
    }
}
