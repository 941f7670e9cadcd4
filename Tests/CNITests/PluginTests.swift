import CNI
import Testing

struct PluginTests {
    private let host = FakeHost()

    private func environment(_ verb: String, args: String = "K8S_POD_NAME=web;K8S_POD_NAMESPACE=default") -> [String:
        String]
    {
        [
            "CNI_COMMAND": verb, "CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin:/usr/lib/cni", "CNI_ARGS": args, "HOME": "/root",
        ]
    }

    private func run(_ verb: String, _ input: String) -> (output: JSON?, status: Int32) {
        Plugin(host: host, environment: environment(verb)).run(input: Array(input.utf8))
    }

    private let ipam = #"""
        {"cniVersion":"1.0.0","name":"vm-net","type":"bridge","ipam":{"type":"holdfast-cni","pool":"vms"}}
        """#
    private let main = #"""
        {"cniVersion":"1.0.0","name":"vm-net","type":"holdfast-cni","pool":"vms","socket":"/run/x.sock",
         "args":{"cni":{"other":1}},"runtimeConfig":{"portMappings":[]},
         "delegate":{"type":"bridge","bridge":"br0","mtu":9000,"unknown":{"deep":[1.0,null]}}}
        """#

    // CNI 1.1, section 2, "VERSION"
    @Test func `VERSION names every version, with or without input`() throws {
        for input in ["", #"{"cniVersion":"0.3.1"}"#] {
            let (output, status) = run("VERSION", input)
            #expect(status == 0)
            #expect(
                output == ["cniVersion": "1.1.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]])
        }
    }

    @Test func `as IPAM plugin ADD prints the agent's result and runs nothing`() throws {
        let (output, status) = run("ADD", ipam)
        #expect(status == 0)
        #expect(output == ["cniVersion": "1.0.0", "ips": [["address": "10.16.0.15/16"]]])
        #expect(host.events == ["post /cni/add"])
        #expect(host.sockets == ["/run/holdfast/agent.sock"])
    }

    @Test func `the agent is told the CNI variables and the configuration, and nothing else of the environment`() throws
    {
        _ = run("ADD", ipam)
        let request = try AgentRequest(parsing: Array(host.posts[0].description.utf8))
        #expect(request.configuration == (try JSON(parsing: ipam)).object)
        #expect(
            Set(request.environment.keys)
                == ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH", "CNI_ARGS"])
    }

    @Test func `as main plugin ADD runs the delegate with the MAC, this plugin as its IPAM, and every key as it is`()
        throws
    {
        host.outcome.output = Array(
            #"{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","mac":"02:00:0a:10:00:0f","sandbox":"/x"}]}"#.utf8)
        let (output, status) = run("ADD", main)
        #expect(status == 0)
        #expect(output?["interfaces"] != nil)
        #expect(host.events == ["post /cni/add", "run /opt/cni/bin/bridge ADD"])
        #expect(host.sockets == ["/run/x.sock"])
        let expected = try JSON(
            parsing: #"""
                {"type":"bridge","bridge":"br0","mtu":9000,"unknown":{"deep":[1.0,null]},"name":"vm-net",
                 "cniVersion":"1.0.0","ipam":{"type":"holdfast-cni","pool":"vms","socket":"/run/x.sock"},
                 "args":{"cni":{"other":1,"mac":"02:00:0a:10:00:0f"}},"runtimeConfig":{"portMappings":[]}}
                """#)
        #expect(host.runs[0].input == expected)
        #expect(
            host.runs[0].environment["CNI_ARGS"]
                == "IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_NAMESPACE=default;MAC=02:00:0a:10:00:0f")
        #expect(host.runs[0].environment["HOME"] == "/root")
    }

    @Test func `a delegate that declares the capability gets the MAC in runtimeConfig too`() throws {
        host.outcome.output = Array("{}".utf8)
        _ = run("ADD", main.replacing("\"bridge\":\"br0\"", with: "\"capabilities\":{\"mac\":true}"))
        #expect(host.runs[0].input["runtimeConfig"]?["mac"] == "02:00:0a:10:00:0f")
        #expect(host.runs[0].input["runtimeConfig"]?["portMappings"] == [])
    }

    @Test func `a delegate that gives another MAC is undone, and the error says so`() throws {
        host.outcome.output = Array(
            #"{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","mac":"0a:00:00:00:00:01","sandbox":"/x"}]}"#.utf8)
        let (output, status) = run("ADD", main)
        #expect(status == 1)
        #expect(output?["code"] == 109)
        #expect(output?["msg"]?.string == "bridge gave eth0 the MAC 0a:00:00:00:00:01, not 02:00:0a:10:00:0f")
        #expect(host.events.last == "run /opt/cni/bin/bridge DEL")
    }

    @Test(arguments: [("0.3.1", "4"), ("0.4.0", "4"), ("1.0.0", nil), ("1.1.0", nil)])
    func `a delegate with a version of its own answers in the network's`(version: String, family: String?) throws {
        host.outcome.output = Array(#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.2/8"}]}"#.utf8)
        let input = main.replacing("\"cniVersion\":\"1.0.0\"", with: "\"cniVersion\":\"\(version)\"")
            .replacing("\"bridge\":\"br0\"", with: "\"cniVersion\":\"0.4.0\"")
        let (output, _) = run("ADD", input)
        #expect(host.runs[0].input["cniVersion"] == "0.4.0")
        #expect(output?["cniVersion"]?.string == version)
        #expect(output?["ips"]?.array?[0]["version"]?.string == family)
    }

    @Test func `DEL goes to the delegate first, then to the agent`() throws {
        host.answer.body = Array("{}".utf8)
        let (output, status) = run("DEL", main)
        #expect(status == 0 && output == nil)
        #expect(host.events == ["run /opt/cni/bin/bridge DEL", "post /cni/del"])
        #expect(
            host.runs[0].environment["CNI_ARGS"] == "IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_NAMESPACE=default")
    }

    @Test func `a delegate is told the previous result in its own version`() throws {
        host.answer.body = Array("{}".utf8)
        let previous = #""prevResult":{"cniVersion":"1.0.0","ips":[{"address":"fd00::5/64"}]},"#
        _ = run("DEL", main.replacing("\"delegate\":{", with: previous + "\"delegate\":{\"cniVersion\":\"0.4.0\","))
        #expect(
            host.runs[0].input["prevResult"]
                == ["cniVersion": "0.4.0", "ips": [["address": "fd00::5/64", "version": "6"]]])
    }

    @Test func `DEL of a delegate that fails leaves the address to its interface`() throws {
        host.outcome = ProcessOutcome(status: 1, output: Array(#"{"code":7,"msg":"no bridge"}"#.utf8))
        let (output, status) = run("DEL", main)
        #expect(status == 1 && output?["code"] == 7 && output?["msg"] == "no bridge")
        #expect(host.events == ["run /opt/cni/bin/bridge DEL"])
    }

    @Test func `the agent's error is printed as it is, in the configuration's version`() throws {
        host.answer = AgentReply(status: 503, body: Array(#"{"code":11,"msg":"later","details":"why"}"#.utf8))
        let (output, status) = run("ADD", ipam)
        #expect(status == 1)
        #expect(output == ["cniVersion": "1.0.0", "code": 11, "msg": "later", "details": "why"])
    }

    @Test func `an agent that does not answer is code 11, for DEL as well`() throws {
        host.failure = CNIError(.tryAgainLater, "away")
        #expect(run("ADD", ipam).output?["code"] == 11)
        #expect(run("DEL", ipam).output?["code"] == 11)
    }

    // CNI 1.1, section 4, "STATUS"
    @Test func `STATUS prints nothing when the agent is well, and code 50 with the reason when it is not`() {
        host.answer.body = Array("{}".utf8)
        let well = run("STATUS", ipam)
        #expect(well.status == 0 && well.output == nil)
        host.answer = AgentReply(status: 503, body: Array(#"{"code":11,"msg":"no server","details":"why"}"#.utf8))
        let ill = run("STATUS", ipam)
        #expect(ill.output?["code"] == 50 && ill.output?["msg"] == "no server" && ill.output?["details"] == "why")
        host.failure = CNIError(.tryAgainLater, "no agent")
        #expect(run("STATUS", ipam).output?["code"] == 50)
        #expect(host.events == ["post /cni/status", "post /cni/status", "post /cni/status"])
    }

    @Test func `CHECK asks the agent, and GC frees nothing`() {
        host.answer.body = Array("{}".utf8)
        #expect(run("CHECK", ipam).status == 0)
        #expect(run("GC", ipam).status == 0)
        #expect(host.events == ["post /cni/check"])
        host.answer = AgentReply(status: 422, body: Array(#"{"code":105,"msg":"other addresses"}"#.utf8))
        #expect(run("CHECK", ipam).output?["code"] == 105)
    }

    @Test(arguments: [
        ("CHECK", "1.0.0", true), ("STATUS", "1.0.0", false), ("STATUS", "1.1.0", true),
        ("GC", "1.0.0", false), ("GC", "1.1.0", true), ("CHECK", "0.3.1", false),
    ])
    func `a delegate is asked too where its version has the verb`(verb: String, version: String, isAsked: Bool) {
        host.answer.body = Array("{}".utf8)
        let input = main.replacing("\"cniVersion\":\"1.0.0\"", with: "\"cniVersion\":\"1.1.0\"")
            .replacing("\"runtimeConfig\"", with: "\"cni.dev/valid-attachments\":[],\"runtimeConfig\"")
            .replacing("\"bridge\":\"br0\"", with: "\"cniVersion\":\"\(version)\"")
        #expect(run(verb, input).status == 0)
        #expect(host.events.contains("run /opt/cni/bin/bridge \(verb)") == isAsked)
        #expect(host.runs.allSatisfy { $0.input["cni.dev/valid-attachments"] == [] })
        host.outcome = ProcessOutcome(status: 1, output: Array(#"{"code":50,"msg":"no bridge"}"#.utf8))
        #expect(run(verb, input).status == (isAsked ? 1 : 0))
    }

    // CNI 1.1, section 5, "Error": 1 version, 4 environment, 6 decoding, 7 configuration
    @Test(arguments: [
        ("ADD", "", 6), ("ADD", "[]", 6), ("ADD", #"{"cniVersion":"0.2.0","name":"n"}"#, 1),
        ("ADD", #"{"cniVersion":"9.0.0","name":"n"}"#, 1), ("ADD", #"{"cniVersion":1,"name":"n"}"#, 7),
        ("ADD", #"{"cniVersion":"1.0.0"}"#, 7), ("ADD", #"{"cniVersion":"1.0.0","name":"n","type":"bridge"}"#, 7),
        ("ADD", #"{"cniVersion":"1.0.0","name":"n","type":"holdfast-cni"}"#, 7),
        ("ADD", #"{"cniVersion":"1.0.0","name":"n","type":"holdfast-cni","delegate":{}}"#, 7),
        ("ADD", #"{"cniVersion":"1.0.0","name":"n","type":"b","ipam":{"type":"holdfast-cni","pool":5}}"#, 7),
        ("EAT", "{}", 4), ("", "{}", 4),
    ])
    func `a broken call has the specification's code`(verb: String, input: String, code: Int) {
        let (output, status) = run(verb, input)
        #expect(status == 1)
        #expect(output?["code"]?.integer == code)
        #expect(output?["msg"]?.string?.isEmpty == false)
    }

    @Test func `a delegate that is not in CNI_PATH is named`() {
        host.plugins = [:]
        let (output, _) = run("ADD", main)
        #expect(output?["code"] == 109)
        #expect(output?["details"]?.string == "looked in /opt/cni/bin, /usr/lib/cni")
    }
}
