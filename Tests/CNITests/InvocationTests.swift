import CNI
import Testing

struct InvocationTests {
    private let valid = [
        "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "a1-b_c.d", "CNI_NETNS": "/run/netns/x",
        "CNI_IFNAME": "pod37a8eec1ce1",
        "CNI_PATH": "/a:/b", "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=web;EMPTY=;X=a=b",
    ]

    @Test func `variables are taken apart`() throws {
        let invocation = try Invocation(environment: valid)
        #expect(invocation.verb == .add)
        #expect(invocation.path == ["/a", "/b"])
        #expect(
            invocation.arguments == ["IgnoreUnknown": "1", "K8S_POD_NAME": "web", "EMPTY": "", "X": "a=b"])
    }

    // CNI 1.1, section 2, "Parameters"
    @Test(arguments: [
        ("CNI_CONTAINERID", ""), ("CNI_CONTAINERID", "-x"), ("CNI_CONTAINERID", "a/b"), ("CNI_CONTAINERID", "ä"),
        ("CNI_IFNAME", ""), ("CNI_IFNAME", "."), ("CNI_IFNAME", ".."), ("CNI_IFNAME", "a/b"), ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "a b"), ("CNI_IFNAME", "sixteen-bytes-xx"), ("CNI_NETNS", ""), ("CNI_ARGS", "NOVALUE"),
    ])
    func `a missing or malformed variable is code 4 and named`(variable: String, value: String) {
        var environment = valid
        environment[variable] = value
        #expect {
            try Invocation(environment: environment)
        } throws: { error in
            (error as? CNIError)?.code == .invalidEnvironment
                && (error as? CNIError)?.message.contains(variable) == true
        }
    }

    @Test func `DEL needs no network namespace`() throws {
        var environment = valid
        environment["CNI_COMMAND"] = "DEL"
        environment["CNI_NETNS"] = nil
        #expect(try Invocation(environment: environment).netns == "")
    }
}
