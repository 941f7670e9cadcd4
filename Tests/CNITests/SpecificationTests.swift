import CNI
import Testing

/// The rows of CNI 1.1's SPEC.md that a plugin has to keep, by section. Those that need a pod's interface are in
/// NodeAgentTests and Tests/outside/test_cni.py.
struct SpecificationTests {
    private let fixture = PluginFixture()
    private var host: FakeHost { fixture.host }
    private static let ipam = PluginFixture.ipam
    private static let main = PluginFixture.main
    private static let empty = "\"cni.dev/valid-attachments\":[]"

    private func code(_ verb: String, _ input: String?) -> Int? {
        let (output, status) = fixture.run(verb, input)
        #expect((output?["code"] != nil) == (status != 0))
        return output?["code"]?.integer
    }

    // MARK: Section 1: Network configuration format

    @Test(arguments: ["", "-x", "a/b", "a b", "ä", "..", "a\0b"])
    func `section 1, name: one that is not alphanumeric with _.- is code 7`(name: String) {
        let input = "{\"cniVersion\":\"1.1.0\",\"name\":\(JSON.string(name)),\"ipam\":{\"type\":\"holdfast-cni\"}}"
        #expect(code("ADD", input) == 7)
        #expect(host.events.isEmpty)
    }

    @Test func `section 1, plugin configuration objects: keys that are not known pass through unchanged`() {
        fixture.succeed()
        _ = fixture.run("ADD", Self.main.with("\"anything\":[1e3]"))
        #expect(host.posts[0]["configuration"]?["anything"] == [JSON.number("1e3")])
        #expect(host.runs[0].input["unknown"] == ["deep": [JSON.number("1.0"), .null]])
    }

    @Test(arguments: CNIVersion.allCases)
    func `section 1, version considerations: each version from 0.3.0 on is spoken, and said in the answer`(
        version: CNIVersion
    ) {
        fixture.succeed()
        #expect(
            fixture.run("ADD", Self.main.with(version: version.rawValue)).output?["cniVersion"]?.string
                == version.rawValue)
        fixture.refuse("ADD", code: 999)
        let (error, _) = fixture.run("ADD", Self.main.with(version: version.rawValue))
        #expect(error?["cniVersion"]?.string == version.rawValue && error?["code"] == 999)
    }

    // MARK: Section 2: Execution protocol

    @Test func `section 2, Parameters: a CNI_COMMAND that is missing or unknown is code 4`() {
        #expect(code("", Self.ipam) == 4)
        #expect(code("add", Self.ipam) == 4)
        #expect(host.events.isEmpty)
    }

    @Test(arguments: [
        ("ADD", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]), ("DEL", ["CNI_CONTAINERID", "CNI_IFNAME"]),
        ("CHECK", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]), ("GC", ["CNI_PATH"]), ("STATUS", []),
    ])
    func `section 2, Parameters: what a verb requires it requires, and nothing else`(
        verb: String, required: [String]
    ) {
        let input = Self.ipam.with(version: "1.1.0", Self.empty)
        for variable in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"] {
            for value in [nil, ""] {
                var fixture = PluginFixture()
                fixture.environment[variable] = value
                let (output, status) = fixture.run(verb, input)
                if required.contains(variable) {
                    #expect(status == 1 && output?["code"] == 4, "\(verb) without \(variable)")
                    #expect(output?["msg"]?.string?.contains(variable) == true)
                    #expect(fixture.host.events.isEmpty)
                } else {
                    #expect(status == 0, "\(verb) without \(variable)")
                }
            }
        }
    }

    @Test func `section 2, Parameters: as main plugin no verb does without CNI_PATH`() {
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            var fixture = PluginFixture()
            fixture.environment["CNI_PATH"] = nil
            let (output, _) = fixture.run(verb, Self.main.with(version: "1.1.0", Self.empty))
            #expect(output?["code"] == 4 && output?["msg"]?.string?.contains("CNI_PATH") == true)
            #expect(fixture.host.events.isEmpty)
        }
    }

    @Test func `section 2, ADD: a result is printed, and the status is 0`() {
        fixture.succeed()
        for input in [Self.ipam, Self.main] {
            let (output, status) = fixture.run("ADD", input)
            #expect(status == 0 && output?.object?.isResult == true)
        }
    }

    @Test func `section 2, ADD: as main plugin it wants the interface to be new, unless it is in a chain`() {
        fixture.succeed()
        _ = fixture.run("ADD", Self.main)
        _ = fixture.run("ADD", Self.main.with("\"prevResult\":{\"ips\":[{\"address\":\"10.0.0.1/8\"}]}"))
        #expect(host.claims == [true, false])
        #expect(host.runs.last?.input["prevResult"]?["ips"] == [["address": "10.0.0.1/8"]])
    }

    @Test func `section 2, DEL: prints nothing, with prevResult or without`() {
        for input in [Self.ipam, Self.main, Self.main.with("\"prevResult\":{}"), Self.ipam.with("\"prevResult\":null")]
        {
            let (output, status) = fixture.run("DEL", input)
            #expect(status == 0 && output == nil)
        }
    }

    @Test func `section 2, DEL: waits for an ADD that runs, and goes to the delegate first, then to the agent`() {
        _ = fixture.run("DEL", Self.main)
        #expect(host.events == ["claim eth0", "run /opt/cni/bin/bridge DEL", "post /cni/del"])
        #expect(host.claims == [false])
        #expect(
            host.runs[0].environment["CNI_ARGS"] == "IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_NAMESPACE=default")
    }

    @Test func `section 2, DEL: to the fullest extent: both are told when one fails, and the first error is reported`()
    {
        fixture.refuse("DEL", code: 42)
        // Nor does it need a namespace, or wait for ever.
        host.refusal = CNIError(.tryAgainLater, "another call has it")
        #expect(code("DEL", Self.main) == 42)
        #expect(host.events == ["claim eth0", "run /opt/cni/bin/bridge DEL", "post /cni/del"])
        host.failure = CNIError(.tryAgainLater, "away")
        #expect(code("DEL", Self.main) == 42)
        host.outcomes = [:]
        #expect(code("DEL", Self.main) == 11)
        host.plugins = [:]
        host.failure = nil
        #expect(code("DEL", Self.main) == 109)
        #expect(host.events.last == "post /cni/del")
    }

    @Test func `section 2, CHECK: asks the agent, then the delegate, and passes any error on`() {
        #expect(fixture.run("CHECK", Self.main).output == nil)
        #expect(host.events == ["post /cni/check", "run /opt/cni/bin/bridge CHECK"])
        fixture.refuse("CHECK", code: 42)
        #expect(code("CHECK", Self.main) == 42)
        host.answer = AgentReply(status: 422, body: Array(#"{"code":105,"msg":"other addresses"}"#.utf8))
        #expect(code("CHECK", Self.ipam) == 105)
        #expect(code("CHECK", Self.main) == 105)
    }

    @Test func `section 2, STATUS: prints nothing when both can serve, else 50 with the agent's words`() {
        let (well, status) = fixture.run("STATUS", Self.main.with(version: "1.1.0"))
        #expect(status == 0 && well == nil)
        #expect(host.events == ["post /cni/status", "run /opt/cni/bin/bridge STATUS"])
        host.answer = AgentReply(status: 422, body: Array(#"{"code":50,"msg":"full","details":"why"}"#.utf8))
        #expect(
            fixture.run("STATUS", Self.ipam.with(version: "1.1.0")).output
                == ["cniVersion": "1.1.0", "code": 50, "msg": "full", "details": "why"])
        host.failure = CNIError(.tryAgainLater, "no agent")
        #expect(code("STATUS", Self.ipam.with(version: "1.1.0")) == 50)
    }

    @Test func `section 2, STATUS: an error of the delegate's is the plugin's`() {
        fixture.refuse("STATUS", code: 50)
        #expect(code("STATUS", Self.main.with(version: "1.1.0")) == 50)
    }

    @Test func `section 2, VERSION: names every version, with or without input, whatever the environment`() {
        var fixture = fixture
        fixture.environment = ["CNI_ARGS": "malformed"]
        for (input, version) in [(nil, "1.1.0"), ("", "1.1.0"), (#"{"cniVersion":"0.3.1"}"#, "0.3.1")] {
            let (output, status) = fixture.run("VERSION", input)
            #expect(status == 0)
            #expect(
                output == [
                    "cniVersion": .string(version), "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
                ])
        }
    }

    @Test func `section 2, GC: goes to the agent and to the delegate with its list, and prints nothing`() {
        let list = #""cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}]"#
        let (output, status) = fixture.run("GC", Self.main.with(version: "1.1.0", list))
        #expect(status == 0 && output == nil)
        #expect(host.events == ["post /cni/gc", "run /opt/cni/bin/bridge GC"])
        let expected: JSON = [["containerID": "c1", "ifname": "eth0"]]
        #expect(host.posts[0]["configuration"]?["cni.dev/valid-attachments"] == expected)
        #expect(host.runs[0].input["cni.dev/valid-attachments"] == expected)
    }

    @Test func `section 2, GC: goes on after an error, and reports the first`() {
        let input = Self.main.with(version: "1.1.0", Self.empty)
        fixture.refuse("GC", code: 42)
        #expect(code("GC", input) == 42)
        host.failure = CNIError(.tryAgainLater, "away")
        #expect(code("GC", input) == 11)
        #expect(host.events.suffix(2) == ["post /cni/gc", "run /opt/cni/bin/bridge GC"])
    }

    @Test(arguments: [
        "\"x\":1", "\"cni.dev/valid-attachments\":0", "\"cni.dev/valid-attachments\":{}",
        "\"cni.dev/valid-attachments\":[1]", "\"cni.dev/valid-attachments\":[{\"containerID\":\"c\"}]",
        "\"cni.dev/valid-attachments\":[{\"containerID\":\"c\",\"ifname\":1}]",
    ])
    func `section 2, GC: a list that is missing or malformed is code 7, and nobody is told`(member: String) {
        for input in [Self.ipam, Self.main] { #expect(code("GC", input.with(version: "1.1.0", member)) == 7) }
        #expect(host.events.isEmpty)
    }

    /// As CRI-O says that nothing is valid.
    @Test func `section 2, GC: a list that is null is empty`() throws {
        let network = try NetworkConfiguration(
            parsing: Array(Self.ipam.with(version: "1.1.0", "\"cni.dev/valid-attachments\":null").utf8))
        #expect(try network.validAttachments() == [])
    }

    @Test func `section 2, GC: the list is taken by the name that libcni before 1_2_3 gave it`() throws {
        let input = Self.ipam.with(version: "1.1.0", #""cni.dev/attachments":[{"containerID":"c1","ifname":"eth0"}]"#)
        #expect(fixture.run("GC", input).status == 0)
        let network = try NetworkConfiguration(parsing: Array(input.utf8))
        #expect(try network.validAttachments() == [ValidAttachment(containerID: "c1", interface: "eth0")])
    }

    @Test(arguments: [
        ("CHECK", "0.3.0"), ("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0"), ("GC", "0.3.1"),
        ("STATUS", "0.4.0"),
    ])
    func `section 2, CNI operations: a verb that the version does not have is code 1`(verb: String, version: String) {
        #expect(code(verb, Self.ipam.with(version: version, Self.empty)) == 1)
        #expect(host.events.isEmpty)
    }

    // MARK: Section 4: Plugin delegation

    @Test func `section 4: the delegate gets the same environment, but for its verb, its arguments and its MAC`() {
        fixture.succeed()
        _ = fixture.run("ADD", Self.main)
        var expected = fixture.environment
        expected["CNI_COMMAND"] = "ADD"
        expected["CNI_ARGS"] = host.runs[0].environment["CNI_ARGS"]
        #expect(host.runs[0].environment == expected)
    }

    @Test func `section 4: after a delegate's ADD that failed comes its DEL, the agent's too, and the ADD's own error`()
    {
        fixture.refuse("ADD", code: 42)
        fixture.refuse("DEL", code: 43)
        #expect(code("ADD", Self.main) == 42)
        #expect(
            host.events == [
                "claim eth0", "post /cni/add", "run /opt/cni/bin/bridge ADD", "run /opt/cni/bin/bridge DEL",
                "post /cni/del",
            ])
        #expect(host.posts.last?["environment"]?["CNI_COMMAND"] == "DEL")
    }

    @Test(arguments: [
        ("CHECK", "1.0.0", true), ("STATUS", "1.0.0", false), ("STATUS", "1.1.0", true),
        ("GC", "1.0.0", false), ("GC", "1.1.0", true), ("CHECK", "0.3.1", false),
    ])
    func `section 4: a delegate is asked too where its version has the verb`(
        verb: String, version: String, isAsked: Bool
    ) {
        let input = Self.main.with(version: "1.1.0", Self.empty)
            .replacing("\"bridge\":\"br0\"", with: "\"cniVersion\":\"\(version)\"")
        #expect(fixture.run(verb, input).status == 0)
        #expect(host.events.contains("run /opt/cni/bin/bridge \(verb)") == isAsked)
        fixture.refuse(verb)
        #expect(fixture.run(verb, input).status == (isAsked ? 1 : 0))
    }

    // MARK: Section 5: Result types

    @Test(arguments: CNIVersion.allCases)
    func `section 5, ADD Success: the result has just the keys of the version asked for`(version: CNIVersion) throws {
        host.outcomes["ADD"] = ProcessOutcome(
            status: 0,
            output: Array(
                #"""
                {"cniVersion":"1.1.0","interfaces":[{"name":"eth0","mac":"02:00:0a:10:00:0f","sandbox":"/x","mtu":1400,
                  "socketPath":"/s","pciID":"0:1"}],"ips":[{"address":"10.16.0.15/16","interface":0},
                  {"address":"fd00::5/64","interface":0}],"routes":[{"dst":"0.0.0.0/0","gw":"10.16.0.1","mtu":1400,
                  "advmss":1360,"priority":10,"table":5,"scope":0}],"dns":{"domain":"x"}}
                """#.utf8))
        let (output, _) = fixture.run("ADD", Self.main.with(version: version.rawValue))
        func keys(_ list: String) -> Set<String> {
            Set(output?[list]?.array?.flatMap { $0.object?.members.map(\.key) ?? [] } ?? [])
        }
        let isNewest = version == .v1_1_0
        #expect(
            keys("interfaces")
                == (isNewest ? ["name", "mac", "sandbox", "mtu", "socketPath", "pciID"] : ["name", "mac", "sandbox"]))
        #expect(
            keys("routes")
                == (isNewest ? ["dst", "gw", "mtu", "advmss", "priority", "table", "scope"] : ["dst", "gw"]))
        #expect(keys("ips") == (version < .v1_0_0 ? ["address", "interface", "version"] : ["address", "interface"]))
        #expect(output?["dns"] == ["domain": "x"])
        #expect(output?["cniVersion"]?.string == version.rawValue)
    }

    @Test func `section 5, Delegated plugins (IPAM): the result has no interfaces, nor do its addresses name one`() {
        let (output, _) = fixture.run("ADD", Self.ipam)
        #expect(output?["interfaces"] == nil)
        #expect(output?["ips"]?.array?.allSatisfy { $0["interface"] == nil } == true)
    }

    @Test(arguments: [
        (nil, 5), ("", 6), ("[]", 6), ("{\"cniVersion\":", 6), ("{\"cniVersion\":\"1.0.0\"}", 7),
        ("{\"cniVersion\":\"0.2.0\",\"name\":\"n\"}", 1), ("{\"name\":\"n\"}", 1),
        ("{\"cniVersion\":\"2.0.0\",\"name\":\"n\"}", 1), ("{\"cniVersion\":7,\"name\":\"n\"}", 7),
        ("{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"type\":\"bridge\"}", 7),
        ("{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"ipam\":{\"type\":\"holdfast-cni\",\"pool\":1}}", 7),
    ])
    func `section 5, Error: 1 for the version, 5 for the input, 6 for decoding, 7 for the configuration`(
        input: String?, code: Int
    ) {
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            let (output, status) = fixture.run(verb, input)
            #expect(status == 1 && output?["code"]?.integer == code)
            #expect(output?["msg"]?.string?.isEmpty == false)
        }
        #expect(host.events.isEmpty)
    }

    // MARK: Section 5: Result

    @Test func `section 5, ips: an address has its prefix's length, within its family's bits and plainly written`() {
        for text in ["10.16.0.15/16", "10.16.0.15/0", "fd00::1/128"] {
            #expect(InterfaceAddress(text)?.description == text)
        }
        for text in ["10.16.0.15", "10.16.0.15/", "10.16.0.15/+16", "10.16.0.15/016", "10.16.0.15/33", "fd00::1/129"] {
            #expect(InterfaceAddress(text) == nil)
        }
    }
}
