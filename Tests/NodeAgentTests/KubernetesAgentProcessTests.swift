import CNI
import Foundation
import KubernetesAPI
import TestCluster
import Testing

/// The agent as a process of its own, before an API server.
struct KubernetesAgentProcessTests {
    private let scratch = "/tmp/holdfast-test-\(UUID().uuidString.prefix(8).lowercased())"

    private func run(_ options: [String], _ body: (Process, FileHandle) async throws -> Void) async throws {
        let agent = Process()
        agent.executableURL = URL(filePath: Executable.products + "/holdfast-agent")
        agent.arguments =
            [
                "--node", "node-a", "--server", "unix:\(scratch)/server.sock", "--socket", "\(scratch)/agent.sock",
                "--state-dir", "\(scratch)/state", "--log-level", "critical", "--pods", "kubernetes",
            ] + options
        let output = Pipe()
        agent.standardOutput = output
        try agent.run()
        defer { if agent.isRunning { kill(agent.processIdentifier, SIGKILL) } }
        try await body(agent, output.fileHandleForReading)
    }

    private func kubeconfig(_ server: String, user: String = "token: secret") throws -> String {
        try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true)
        let path = "\(scratch)/kubeconfig"
        try """
        current-context: x
        clusters: [{name: c, cluster: {server: "\(server)"}}]
        users: [{name: u, user: {\(user)}}]
        contexts: [{name: x, context: {cluster: c, user: u}}, {name: other, context: {cluster: c, user: u}}]
        """.write(toFile: path, atomically: true, encoding: .utf8)
        return path
    }

    @Test func `it watches its node by a kubeconfig, looks pods up for the plugin, and ends with 0 on SIGTERM`()
        async throws
    {
        defer { try? FileManager.default.removeItem(atPath: scratch) }
        try await TestCluster.run { cluster in
            cluster.require(token: "secret")
            try cluster.put(Manifest.pod("web", node: "node-b"))
            let options = ["--kubeconfig", try kubeconfig(cluster.url), "--kube-context", "other"]
            try await run(options) { agent, lines in
                #expect(try lines.firstWords().hasPrefix("listening on unix:"))
                let deadline = ContinuousClock.now + .seconds(30)
                while cluster.watchCount < 3, .now < deadline { try await Task.sleep(for: .milliseconds(5)) }
                let asked = Set(
                    cluster.requests.map {
                        "\($0.verb) \($0.resource.plural) \($0.query["fieldSelector"] ?? $0.query["labelSelector"] ?? "")"
                    })
                #expect(
                    asked == [
                        "list pods spec.nodeName=node-a", "watch pods spec.nodeName=node-a",
                        "list virtualmachineinstances kubevirt.io/nodeName=node-a",
                        "watch virtualmachineinstances kubevirt.io/nodeName=node-a",
                        "list virtualmachineinstances kubevirt.io/migrationTargetNodeName=node-a",
                        "watch virtualmachineinstances kubevirt.io/migrationTargetNodeName=node-a",
                    ])
                func add(_ pod: String) throws -> JSON {
                    try Executable.run(
                        [Executable.products + "/holdfast-cni"],
                        environment: [
                            "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/x",
                            "CNI_IFNAME": "eth0", "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=\(pod)",
                        ],
                        input: #"{"cniVersion":"1.1.0","name":"n","type":"bridge","ipam":{"type":"holdfast-cni","#
                            + #""socket":"\#(scratch)/agent.sock"}}"#
                    ).json
                }
                #expect(try add("web")["msg"] == "pod default/web belongs to node node-b")
                #expect(try add("none")["msg"] == "pod default/none is not known")
                agent.terminate()
                agent.waitUntilExit()
                #expect(agent.terminationReason == .exit && agent.terminationStatus == 0)
            }
        }
    }

    @Test func `what it cannot work with is said before it listens`() async throws {
        defer { try? FileManager.default.removeItem(atPath: scratch) }
        func errors(_ options: [String], status: Int32) throws -> String {
            let agent = try Executable.run(
                [Executable.products + "/holdfast-agent", "--node", "a"] + options,
                environment: [
                    "HOLDFAST_SOCKET": "\(scratch)/a.sock", "HOLDFAST_STATE_DIR": "\(scratch)/state",
                    "PATH": "/usr/bin:/bin",
                ])
            #expect(agent.status == status, "\(agent.errors)")
            return agent.errors
        }
        #expect(try errors(["--pods", "kubernetes"], status: 1).contains("--kubeconfig"))
        let path = try kubeconfig("https://127.0.0.1:1", user: "exec: {command: x}")
        #expect(try errors(["--pods", "kubernetes", "--kubeconfig", path], status: 1).contains("by exec"))
        #expect(
            try errors(["--pods", "directory:/x", "--kubeconfig", path], status: 2).contains("--pods kubernetes"))
    }
}
