package import IPAMAPI
import IPAMModel
import Synchronization

/// Whether a new pod can be served, which is where the server answers. An agent that cannot serve the plugin's socket ends, so
/// of that nothing is said.
///
/// Asked once however many want to know, and once in a second at most: the port of probes is open to whoever reaches the node.
package final class ServerQuestion: Sendable {
    /// Less than a probe waits.
    private static let patience = Duration.seconds(3)
    private static let validity = Duration.seconds(1)

    private let ipam: any IPAMCalls
    private let node: String
    private let asked = Mutex<(at: ContinuousClock.Instant, task: Task<String?, Never>)?>(nil)

    package init(_ ipam: any IPAMCalls, node: String) { (self.ipam, self.node) = (ipam, node) }

    /// Why it does not; nil where it does.
    package func problem() async -> String? {
        let task = asked.withLock { asked in
            if let asked, .now - asked.at < Self.validity { return asked.task }
            let task = Task { [ipam, node] () -> String? in
                do throws(IPAMError) {
                    // As little as the server can be asked for, however many nodes and addresses there are.
                    _ = try await ipam.bindings(
                        matching: BindingFilter(node: node), pageSize: 1, pageToken: nil, timeout: Self.patience)
                    return nil
                } catch { return "the server does not answer: \(error.message)" }
            }
            asked = (.now, task)
            return task
        }
        return await task.value
    }
}
