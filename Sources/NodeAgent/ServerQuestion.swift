package import IPAMAPI
import IPAMModel
import Synchronization

/// Whether the server has answered this agent. From then on the agent is ready, also while the server is away: a DaemonSet's
/// rollout replaces all pods that are not ready at once (`rollingUpdate` in Kubernetes' pkg/controller/daemon/update.go), so a
/// server that is away for its own upgrade would end every node's agent, and with them what nodes go on with. An agent that cannot
/// serve the plugin's socket ends, so of that nothing is said.
///
/// Asked once however many want to know, and once in a second at most: the port of probes is open to whoever reaches the node.
package final class ServerQuestion: Sendable {
    /// Less than a probe waits.
    private static let patience = Duration.seconds(3)
    private static let validity = Duration.seconds(1)

    private let ipam: any IPAMCalls
    private let node: String
    private let hasAnswered = Atomic(false)
    private let asked = Mutex<(at: ContinuousClock.Instant, task: Task<String?, Never>)?>(nil)

    package init(_ ipam: any IPAMCalls, node: String) { (self.ipam, self.node) = (ipam, node) }

    /// Why it has not; nil once it has.
    package func problem() async -> String? {
        if hasAnswered.load(ordering: .relaxed) { return nil }
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
        let problem = await task.value
        if problem == nil { hasAnswered.store(true, ordering: .relaxed) }
        return problem
    }
}
