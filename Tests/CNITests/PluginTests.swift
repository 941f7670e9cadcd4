import CNI
import Testing

/// What the plugin does beyond the letter of the specification, whose rows are in `SpecificationTests`.
struct PluginTests {
    private let fixture = PluginFixture()
    private var host: FakeHost { fixture.host }
    private let ipam = PluginFixture.ipam
    private let main = PluginFixture.main

    private func run(_ verb: String, _ input: String) -> (output: JSON?, status: Int32) { fixture.run(verb, input) }

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
        fixture.succeed()
        let (output, status) = run("ADD", main)
        #expect(status == 0)
        #expect(output?["interfaces"] != nil)
        #expect(host.events == ["claim eth0", "post /cni/add", "run /opt/cni/bin/bridge ADD"])
        #expect(host.sockets == ["/run/x.sock"])
        let expected = try JSON(
            parsing: #"""
                {"type":"bridge","bridge":"br0","mtu":9000,"unknown":{"deep":[1.0,null]},"name":"vm-net",
                 "cniVersion":"1.0.0","ipam":{"type":"holdfast-cni","attached":true,"pool":"vms","socket":"/run/x.sock"},
                 "args":{"cni":{"other":1,"mac":"02:00:0a:10:00:0f"}},"runtimeConfig":{"portMappings":[]}}
                """#)
        #expect(host.runs[0].input == expected)
        #expect(
            host.runs[0].environment["CNI_ARGS"]
                == "IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_NAMESPACE=default;MAC=02:00:0a:10:00:0f")
        #expect(host.runs[0].environment["HOME"] == "/root")
    }

    @Test func `a delegate that declares the capability gets the MAC in runtimeConfig too`() throws {
        fixture.succeed()
        _ = run("ADD", main.replacing("\"bridge\":\"br0\"", with: "\"capabilities\":{\"mac\":true}"))
        #expect(host.runs[0].input["runtimeConfig"]?["mac"] == "02:00:0a:10:00:0f")
        #expect(host.runs[0].input["runtimeConfig"]?["portMappings"] == [])
    }

    @Test func `what the delegate is told at its own level stays beside what the runtime and the network say`() throws {
        fixture.succeed()
        let own = #"""
            "args":{"cni":{"labels":[1],"mac":"02:00:00:00:00:01"},"own":{}},"runtimeConfig":{"mine":{"a":1}},
            "deviceID":"0000:00:00.1"
            """#
        let input = main.with(#""deviceID":"0000:01:00.1","pciBusID":"0000:01:00.1""#)
        _ = run("ADD", input.replacing(#""bridge":"br0""#, with: own))
        _ = run("DEL", input)
        #expect(
            host.runs[0].input["args"]
                == ["cni": ["labels": [1], "mac": "02:00:0a:10:00:0f", "other": 1], "own": [:]])
        #expect(host.runs[0].input["runtimeConfig"] == ["mine": ["a": 1], "portMappings": []])
        #expect(host.runs[0].input["deviceID"] == "0000:00:00.1" && host.runs[0].input["pciBusID"] == "0000:01:00.1")
        #expect(host.runs[1].input["deviceID"] == "0000:01:00.1" && host.runs[1].input["pciBusID"] == "0000:01:00.1")
    }

    @Test func `a delegate that gives another MAC is undone, and the error says so`() throws {
        host.outcomes["ADD"] = ProcessOutcome(
            status: 0, output: Array(PluginFixture.made.replacing("02:00:0a:10:00:0f", with: "0a:00:00:00:00:01").utf8))
        let (output, status) = run("ADD", main)
        #expect(status == 1)
        #expect(output?["code"] == 109)
        #expect(output?["msg"]?.string == "bridge gave eth0 the MAC 0a:00:00:00:00:01, not 02:00:0a:10:00:0f")
        #expect(host.events.suffix(2) == ["run /opt/cni/bin/bridge DEL", "post /cni/del"])
    }

    @Test(arguments: [
        #""ips":[]"#, #""ips":null"#, #""ips":[{"address":"10.16.0.15/24"}]"#, #""ips":[{"address":"10.16.0.16/16"}]"#,
        #""interfaces":[{"name":"br0"}],"ips":[{"address":"10.16.0.15/16","interface":0}]"#,
        #""ips":[{"address":"10.16.0.15/16","interface":1}]"#,
    ])
    func `a delegate that gives the pod's interface other addresses than the agent, or none, is undone`(made: String) {
        host.outcomes["ADD"] = ProcessOutcome(status: 0, output: Array("{\"cniVersion\":\"1.0.0\",\(made)}".utf8))
        let (output, status) = run("ADD", main)
        #expect(status == 1 && output?["code"] == 109)
        #expect(output?["msg"] == "bridge did not give eth0 10.16.0.15/16")
        #expect(host.events.suffix(2) == ["run /opt/cni/bin/bridge DEL", "post /cni/del"])
    }

    @Test func `a delegate may say the agent's addresses otherwise, and add more`() {
        host.answer.body = Array(
            #"{"mac":"02:00:0a:10:00:0f","result":{"ips":[{"address":"fd00:0::F/64"},{"address":"10.16.0.15/16"}]}}"#
                .utf8)
        host.outcomes["ADD"] = ProcessOutcome(
            status: 0,
            output: Array(
                #"{"ips":[{"address":"10.16.0.15/16"},{"address":"fd00::f/64"},{"address":"fe80::1/64"}]}"#.utf8))
        #expect(run("ADD", main).status == 0)
    }

    @Test(arguments: [
        "", "nonsense", "[]", "{\"ips\":{}}", "{\"ips\":[{}]}", "{\"ips\":[{\"address\":1}]}",
        "{\"interfaces\":[1]}", "{\"routes\":[{\"gw\":\"10.0.0.1\"}]}", "{\"dns\":[]}",
    ])
    func `a delegate that ends well and prints no result is undone`(printed: String) {
        host.outcomes["ADD"] = ProcessOutcome(status: 0, output: Array(printed.utf8))
        let (output, status) = run("ADD", main)
        #expect(status == 1 && output?["code"] == 109)
        #expect(host.events.suffix(2) == ["run /opt/cni/bin/bridge DEL", "post /cni/del"])
    }

    @Test(arguments: [("0.3.0", "4"), ("0.3.1", "4"), ("0.4.0", "4"), ("1.0.0", nil), ("1.1.0", nil)])
    func `a delegate with a version of its own answers in the network's`(version: String, family: String?) throws {
        host.outcome.output = Array(#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.16.0.15/16"}]}"#.utf8)
        let input = main.with(version: version).replacing("\"bridge\":\"br0\"", with: "\"cniVersion\":\"0.4.0\"")
        let (output, _) = run("ADD", input)
        #expect(host.runs[0].input["cniVersion"] == "0.4.0")
        #expect(output?["cniVersion"]?.string == version)
        #expect(output?["ips"]?.array?[0]["version"]?.string == family)
    }

    @Test func `a delegate is told the previous result in its own version`() throws {
        let previous =
            #""prevResult":{"cniVersion":"1.1.0","ips":[{"address":"fd00::5/64"}],"#
            + #""interfaces":[{"name":"eth0","mtu":1500,"pciID":"1"}],"routes":[{"dst":"::/0","priority":1}]}"#
        _ = run("DEL", main.with(previous).replacing("\"delegate\":{", with: "\"delegate\":{\"cniVersion\":\"0.4.0\","))
        #expect(
            host.runs[0].input["prevResult"]
                == [
                    "cniVersion": "0.4.0", "ips": [["address": "fd00::5/64", "version": "6"]],
                    "interfaces": [["name": "eth0"]], "routes": [["dst": "::/0"]],
                ])
    }

    @Test func `where the guest comes later the interface is silenced before anybody makes it`() {
        fixture.succeed()
        let text = String(decoding: host.answer.body, as: UTF8.self)
        host.answer.body = Array(text.replacing("{\"mac\"", with: "{\"silent\":true,\"mac\"").utf8)
        _ = run("ADD", main)
        #expect(host.events == ["claim eth0", "post /cni/add", "silence eth0", "run /opt/cni/bin/bridge ADD"])
        _ = run("ADD", ipam)
        #expect(host.events.suffix(2) == ["post /cni/add", "silence eth0"])
    }

    @Test func `an error is no result, whatever its exit status says`() {
        fixture.succeed()
        host.outcomes["ADD"] = ProcessOutcome(status: 0, output: Array(#"{"code":7,"msg":"no"}"#.utf8))
        #expect(run("ADD", main).output?["code"] == 109)
    }

    @Test func `a second ADD for an interface that is there changes nothing, not even what the first made`() {
        host.refusal = CNIError(.interfaceExists, "there")
        #expect(run("ADD", main).output?["code"] == 110)
        #expect(host.events == ["claim eth0"])
    }

    @Test func `the agent's error is printed as it is, in the configuration's version, and the delegate is not run`() {
        host.answer = AgentReply(status: 503, body: Array(#"{"code":11,"msg":"later","details":"why"}"#.utf8))
        for input in [ipam, main] {
            let (output, status) = run("ADD", input)
            #expect(status == 1)
            #expect(output == ["cniVersion": "1.0.0", "code": 11, "msg": "later", "details": "why"])
        }
        #expect(host.runs.isEmpty)
    }

    @Test func `an agent that does not answer is code 11, for DEL as well, whose delegate is told all the same`() {
        host.failure = CNIError(.tryAgainLater, "away")
        #expect(run("ADD", ipam).output?["code"] == 11)
        #expect(run("DEL", ipam).output?["code"] == 11)
        #expect(run("DEL", main).output?["code"] == 11)
        #expect(host.runs.map(\.environment["CNI_COMMAND"]) == ["DEL"])
    }

    @Test(arguments: ["", "not JSON", "[]", "{\"code\":0,\"msg\":\"\"}"])
    func `an agent's answer that cannot be read is an error of its own`(body: String) {
        host.answer = AgentReply(status: 500, body: Array(body.utf8))
        let (output, status) = run("ADD", ipam)
        #expect(status == 1 && [6, 100].contains(output?["code"]?.integer))
    }

    @Test func `a delegate that is not in CNI_PATH is named`() {
        host.plugins = [:]
        let (output, _) = run("ADD", main)
        #expect(output?["code"] == 109)
        #expect(output?["details"]?.string == "looked in /opt/cni/bin, /usr/lib/cni")
    }

    /// As a delegate asks it, too.
    @Test(arguments: ["isGateway", "isDefaultGateway"])
    func `a bridge that is to be the gateway of a pool without one is refused`(key: String) throws {
        let (output, status) = run("ADD", ipam.with("\"\(key)\":true"))
        #expect(status == 1 && output?["code"] == 7)
        #expect(output?["msg"] == "bridge is to be the gateway, and the pool has none")
        #expect(run("ADD", ipam.with("\"\(key)\":false")).status == 0)
        host.answer.body = Array(
            #"{"mac":"02:00:0a:10:00:0f","result":{"ips":[{"address":"10.16.0.15/16","gateway":"10.16.0.1"}]}}"#.utf8)
        #expect(run("ADD", ipam.with("\"\(key)\":true")).status == 0)
    }

    @Test(arguments: ["holdfast-cni", "whereabouts"])
    func `as main plugin an "ipam" beside "delegate" is refused, and what is there goes all the same`(type: String) {
        let input = main.with("\"ipam\":{\"type\":\"\(type)\",\"range\":\"10.0.0.0/24\"}")
        let (output, status) = run("ADD", input)
        #expect(status == 1 && output?["code"] == 7)
        #expect(output?["msg"] == #"network "vm-net" has "ipam" beside "type": "holdfast-cni""#)
        #expect(host.events.isEmpty)
        #expect(run("DEL", input).status == 0)
        #expect(host.events == ["claim eth0", "run /opt/cni/bin/bridge DEL", "post /cni/del"])
        fixture.succeed()
        #expect(run("ADD", main.with("\"ipam\":{}")).status == 0)
    }

    /// As Multus 4.2 and 4.3 call it for the cluster's network: of its keys they keep those that libcni knows.
    @Test(arguments: ["", #","delegate":null"#])
    func `a DEL that names no delegate is the agent's alone, and no other verb does without`(member: String) {
        let input = #"{"cniVersion":"1.1.0","name":"vm-net","type":"holdfast-cni"\#(member)}"#
        for verb in ["ADD", "CHECK", "GC", "STATUS"] { #expect(run(verb, input).output?["code"] == 7) }
        #expect(host.events.isEmpty)
        #expect(run("DEL", input).status == 0)
        #expect(host.events == ["claim eth0", "post /cni/del"])
    }

    @Test func `a delegate that was wrapped, ipam and all, says there what goes for its addresses`() {
        fixture.succeed()
        let input = #"""
            {"cniVersion":"1.0.0","name":"vm-net","type":"holdfast-cni","delegate":{"type":"bridge",
             "ipam":{"type":"whereabouts","pool":"vms","socket":"/run/y.sock","dhcp":{"mtu":1400}}}}
            """#
        func told(_ input: String) -> JSON? {
            #expect(run("ADD", input).status == 0)
            return host.runs.last?.input["ipam"]
        }
        #expect(
            told(input) == [
                "type": "holdfast-cni", "attached": true, "pool": "vms", "socket": "/run/y.sock", "dhcp": ["mtu": 1400],
            ])
        // What stands beside it goes before that.
        #expect(
            told(input.with(#""pool":"others","socket":"/run/x.sock","dhcp":false"#)) == [
                "type": "holdfast-cni", "attached": true, "pool": "others", "socket": "/run/x.sock", "dhcp": false,
            ])
        #expect(host.sockets == ["/run/y.sock", "/run/x.sock"])
        #expect(
            run("ADD", input.replacing(#""pool":"vms""#, with: #""pool":1"#)).output?["msg"]
                == #""delegate.ipam.pool" is not a string: 1"#)
    }

    @Test(arguments: [
        ("\"delegate\":{\"type\":\"holdfast-cni\"}", 7), ("\"delegate\":{\"type\":\"../bridge\"}", 7),
        ("\"delegate\":{\"type\":\"bridge\",\"cniVersion\":\"0.2.0\"}", 1),
        ("\"delegate\":{\"type\":\"bridge\",\"cniVersion\":1}", 7),
        ("\"delegate\":{\"type\":\"bridge\"},\"socket\":\"agent.sock\"", 7),
        ("\"delegate\":{\"type\":\"bridge\"},\"prevResult\":[]", 7),
    ])
    func `a configuration that cannot work is refused before anything is done`(member: String, code: Int) {
        let input = "{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"type\":\"holdfast-cni\",\(member)}"
        for verb in ["ADD", "DEL"] { #expect(run(verb, input).output?["code"]?.integer == code) }
        #expect(host.events.isEmpty)
    }
}
