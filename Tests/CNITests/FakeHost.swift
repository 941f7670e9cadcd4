import CNI

/// An agent and a delegate that answer what the test says, and remember what they were asked.
final class FakeHost: PluginHost {
    struct Run: Equatable {
        var executable: String
        var environment: [String: String]
        var input: JSON
    }

    /// In order: "post /cni/add", "run bridge ADD".
    private(set) var events: [String] = []
    private(set) var runs: [Run] = []
    private(set) var posts: [JSON] = []
    var sockets: [String] = []
    var answer = AgentReply(
        status: 200,
        body: Array(
            #"{"mac":"02:00:0a:10:00:0f","result":{"cniVersion":"1.0.0","ips":[{"address":"10.16.0.15/16"}]}}"#.utf8))
    var outcome = ProcessOutcome(status: 0, output: [])
    var failure: CNIError?
    var plugins = ["bridge": "/opt/cni/bin/bridge"]

    func post(_ path: String, body: JSON, socket: String) throws(CNIError) -> AgentReply {
        events.append("post \(path)")
        posts.append(body)
        sockets.append(socket)
        if let failure { throw failure }
        return answer
    }

    func find(plugin name: String, in directories: [String]) -> String? { plugins[name] }

    func run(_ executable: String, environment: [String: String], input: JSON) throws(CNIError) -> ProcessOutcome {
        events.append("run \(executable) \(environment["CNI_COMMAND"] ?? "")")
        runs.append(Run(executable: executable, environment: environment, input: input))
        return outcome
    }
}
