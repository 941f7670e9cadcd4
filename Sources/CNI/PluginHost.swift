/// What the plugin touches of the world outside: a test gives it another one.
package protocol PluginHost {
    /// Posts `body` to `path` at the agent's socket. Throws code 11 where nobody answers in time.
    func post(_ path: String, body: JSON, socket: String) throws(CNIError) -> AgentReply
    /// The file of a plugin of this name in one of `directories`; nil where there is none.
    func find(plugin name: String, in directories: [String]) -> String?
    /// Keeps other calls of this plugin for a pod out of its network namespace for as long as this process lives. Throws
    /// code 4 where there is no such namespace, 11 where another call does not come to its end, and, with `mustBeNew`, 110
    /// where the pod has an interface of this name.
    func claim(_ interface: String, in netns: String, mustBeNew: Bool) throws(CNIError)
    /// Lets the pod itself neither send nor receive anything by an interface of this name, whether it is there yet or not. A
    /// guest's frames, which are bridged, pass; and once KubeVirt has given the interface another name, all that it sends.
    /// Where that cannot be, standard error says so. Throws code 5 where this process cannot leave the namespace.
    func silence(_ interface: String, in netns: String) throws(CNIError)
    /// Runs a plugin to its end. Throws code 109 where it cannot be started.
    func run(_ executable: String, environment: [String: String], input: JSON) throws(CNIError) -> ProcessOutcome
}

package struct AgentReply: Hashable, Sendable {
    /// HTTP's.
    package var status: Int
    package var body: [UInt8]

    package init(status: Int, body: [UInt8]) {
        self.status = status
        self.body = body
    }
}

package struct ProcessOutcome: Hashable, Sendable {
    /// The exit status; 128 plus its number for a signal.
    package var status: Int
    package var output: [UInt8]

    package init(status: Int, output: [UInt8]) {
        self.status = status
        self.output = output
    }
}
