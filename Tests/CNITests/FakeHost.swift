import CNI

/// An agent and delegates that answer what the test says, and remember what they were asked.
final class FakeHost: PluginHost {
    struct Run: Equatable {
        var executable: String
        var environment: [String: String]
        var input: JSON
    }

    /// In order: "claim eth0", "post /cni/add", "run /opt/cni/bin/bridge ADD".
    private(set) var events: [String] = []
    private(set) var runs: [Run] = []
    private(set) var posts: [JSON] = []
    /// `mustBeNew` of each claim.
    private(set) var claims: [Bool] = []
    private(set) var sockets: [String] = []
    var answer = AgentReply(
        status: 200,
        body: Array(
            #"{"mac":"02:00:0a:10:00:0f","result":{"cniVersion":"1.0.0","ips":[{"address":"10.16.0.15/16"}]}}"#.utf8))
    /// What the delegate does at every verb that is not in `outcomes`.
    var outcome = ProcessOutcome(status: 0, output: [])
    var outcomes: [String: ProcessOutcome] = [:]
    /// Thrown by every post while it is set.
    var failure: CNIError?
    /// Thrown by every claim while it is set.
    var refusal: CNIError?
    var plugins = ["bridge": "/opt/cni/bin/bridge"]

    func post(_ path: String, body: JSON, socket: String) throws(CNIError) -> AgentReply {
        events.append("post \(path)")
        posts.append(body)
        sockets.append(socket)
        if let failure { throw failure }
        return answer
    }

    func claim(_ interface: String, in netns: String, mustBeNew: Bool) throws(CNIError) {
        events.append("claim \(interface)")
        claims.append(mustBeNew)
        if let refusal { throw refusal }
    }

    func silence(_ interface: String, in netns: String) throws(CNIError) { events.append("silence \(interface)") }

    func find(plugin name: String, in directories: [String]) -> String? { plugins[name] }

    func run(_ executable: String, environment: [String: String], input: JSON) throws(CNIError) -> ProcessOutcome {
        let verb = environment["CNI_COMMAND"] ?? ""
        events.append("run \(executable) \(verb)")
        runs.append(Run(executable: executable, environment: environment, input: input))
        return outcomes[verb] ?? outcome
    }
}

/// Calls of the plugin as a runtime makes them, on a `FakeHost`.
struct PluginFixture {
    let host = FakeHost()
    var environment = [
        "CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin:/usr/lib/cni", "CNI_ARGS": "K8S_POD_NAME=web;K8S_POD_NAMESPACE=default",
        "HOME": "/root",
    ]

    /// Each way of use, at version 1.0.0.
    static let ipam = #"""
        {"cniVersion":"1.0.0","name":"vm-net","type":"bridge","ipam":{"type":"holdfast-cni","pool":"vms"}}
        """#
    static let main = #"""
        {"cniVersion":"1.0.0","name":"vm-net","type":"holdfast-cni","pool":"vms","socket":"/run/x.sock",
         "args":{"cni":{"other":1}},"runtimeConfig":{"portMappings":[]},
         "delegate":{"type":"bridge","bridge":"br0","mtu":9000,"unknown":{"deep":[1.0,null]}}}
        """#

    func run(_ verb: String, _ input: String?) -> (output: JSON?, status: Int32) {
        var environment = environment
        environment["CNI_COMMAND"] = verb
        return Plugin(host: host, environment: environment).run(input: input.map { Array($0.utf8) })
    }

    /// The agent has nothing to say, and the delegate gives the interface the binding's MAC.
    func succeed() {
        host.answer.body = Array(
            #"{"mac":"02:00:0a:10:00:0f","result":{"cniVersion":"1.0.0","ips":[{"address":"10.16.0.15/16"}]}}"#.utf8)
        host.outcomes["ADD"] = ProcessOutcome(status: 0, output: Array(Self.made.utf8))
    }

    static let made =
        #"{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","mac":"02:00:0a:10:00:0f","sandbox":"/run/netns/x"}],"#
        + #""ips":[{"address":"10.16.0.15/16","interface":0}]}"#

    /// The delegate refuses with this code at this verb.
    func refuse(_ verb: String, code: Int = 7) {
        host.outcomes[verb] = ProcessOutcome(
            status: 1, output: Array(#"{"code":\#(code),"msg":"the delegate refuses"}"#.utf8))
    }
}

extension String {
    /// A configuration of the fixture with another version, and with one member more in its outermost object.
    func with(version: String? = nil, _ member: String? = nil) -> String {
        var text = self
        if let version { text = text.replacing("\"cniVersion\":\"1.0.0\"", with: "\"cniVersion\":\"\(version)\"") }
        if let member { text = text.replacing("\"name\":\"vm-net\"", with: "\"name\":\"vm-net\",\(member)") }
        return text
    }
}
