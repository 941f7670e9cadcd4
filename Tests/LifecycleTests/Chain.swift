import Foundation
import IPAMAPI
import IPAMModel
import TestCluster
import Testing

/// A whole installation of processes on one machine: server, two agents, and the plugin, called as kubelet calls it; the
/// pods' interfaces in network namespaces where those can be made. All is cleaned up in reverse order.
final class Chain {
    static let nodes = ["node-a", "node-b"]

    let client: IPAMClient
    private let scratch: String
    private let bridge: String
    private let usesNamespaces: Bool
    private let followsCluster: Bool
    private var processes: [String: Process] = [:]
    private var namespaces: [String: String] = [:]

    /// `followsCluster`: the server does; there are agents in any case.
    init(_ cluster: TestCluster, followsCluster: Bool = true) throws {
        self.followsCluster = followsCluster
        let id = UUID().uuidString.prefix(8).lowercased()
        scratch = "/tmp/holdfast-chain-\(id)"
        bridge = "hf\(id)"
        client = try IPAMClient(server: "unix:\(scratch)/server.sock")
        usesNamespaces = (try? Tool.run(["ip", "netns", "add", "hf-\(id)"]).status) == 0
        if usesNamespaces { _ = try Tool.run(["ip", "netns", "del", "hf-\(id)"]) }
        try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true)
        try """
        - name: vms
          prefixes: [{prefix: 10.16.0.0/24, gateway: 10.16.0.1}]
          is_default: true
        """.write(toFile: "\(scratch)/pools.yaml", atomically: true, encoding: .utf8)
        try """
        apiVersion: v1
        kind: Config
        current-context: test
        contexts: [{name: test, context: {cluster: test}}]
        clusters: [{name: test, cluster: {server: "\(cluster.url)"}}]
        """.write(toFile: "\(scratch)/kubeconfig", atomically: true, encoding: .utf8)
        try startServer()
        for node in Self.nodes { try startAgent(node) }
    }

    func startServer() throws {
        try start(
            "holdfast-server",
            [
                "--listen", "unix:\(scratch)/server.sock", "--store", "sqlite:\(scratch)/ledger.sqlite", "--http",
                "off",
                "--pools", "\(scratch)/pools.yaml", "--log-level", "info",
            ]
                + (followsCluster
                    ? ["--kubernetes", "--kubeconfig", "\(scratch)/kubeconfig", "--grace", "500ms"] : []),
            as: "server")
    }

    func startAgent(_ node: String) throws {
        try start(
            "holdfast-agent",
            [
                "--node", node, "--server", "unix:\(scratch)/server.sock", "--socket", "\(scratch)/\(node).sock",
                "--state-dir", "\(scratch)/\(node)", "--pods", "kubernetes", "--kubeconfig", "\(scratch)/kubeconfig",
                "--annotate-pods", "--log-level", "info",
            ], as: node)
    }

    /// As by a crash.
    func kill(_ name: String) {
        guard let process = processes.removeValue(forKey: name) else { return }
        Foundation.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    func log(of name: String) -> String {
        (try? String(contentsOfFile: "\(scratch)/\(name).log", encoding: .utf8)) ?? ""
    }

    func stop() async {
        for name in processes.keys { kill(name) }
        await client.close()
        cleanUp()
    }

    /// Also where `init` has thrown after it had started some of them.
    deinit {
        for name in processes.keys { kill(name) }
        cleanUp()
    }

    private func cleanUp() {
        guard FileManager.default.fileExists(atPath: scratch) else { return }
        for name in namespaces.values { _ = try? Tool.run(["ip", "netns", "del", name]) }
        if usesNamespaces { _ = try? Tool.run(["ip", "link", "del", bridge]) }
        try? FileManager.default.removeItem(atPath: scratch)
    }

    private func start(_ program: String, _ arguments: [String], as name: String) throws {
        let process = Process()
        process.executableURL = URL(filePath: "\(Tool.products)/\(program)")
        process.arguments = arguments
        let file = "\(scratch)/\(name).log"
        if !FileManager.default.fileExists(atPath: file) { try Data().write(to: URL(filePath: file)) }
        let log = try FileHandle(forWritingTo: URL(filePath: file))
        try log.seekToEnd()
        process.standardError = log
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        processes[name] = process
        let line = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
        try #require(line.hasPrefix("listening on"), "\(name): \(self.log(of: name))")
    }

    /// The operator's command.
    func holdfast(_ arguments: String...) throws -> Tool.Outcome {
        try Tool.run(
            ["\(Tool.products)/holdfast"] + arguments + ["--server", "unix:\(scratch)/server.sock"],
            environment: ["KUBECONFIG": "\(scratch)/kubeconfig", "PATH": "/usr/bin:/bin"])
    }

    // MARK: What kubelet does

    /// The pod's network namespace, where those can be made.
    private func makeNamespace(of pod: PlayedPod) throws {
        guard usesNamespaces, namespaces[pod.uid] == nil else { return }
        let name = "hf-\(UUID().uuidString.prefix(8).lowercased())"
        _ = try Tool.run(["ip", "netns", "add", name])
        namespaces[pod.uid] = name
    }

    /// Makes the pod's interfaces, and tries again for as long as the plugin says that this may help.
    func add(_ pod: PlayedPod) async throws {
        for network in pod.networks {
            try await eventually("ADD of \(pod.name) on \(network.interface)") {
                let outcome = try plugin("ADD", pod, network)
                if outcome.status == 0 { return true }
                try #require(outcome.output.contains(#""code""#), "\(outcome)")
                // kubelet kills what it could not set up.
                _ = try plugin("DEL", pod, network)
                return false
            }
        }
    }

    func delete(_ pod: PlayedPod) async throws {
        for network in pod.networks {
            try await eventually("DEL of \(pod.name)") { try plugin("DEL", pod, network).status == 0 }
        }
        if let name = namespaces.removeValue(forKey: pod.uid) { _ = try Tool.run(["ip", "netns", "del", name]) }
    }

    /// The addresses of a pod's interface; nil where no namespaces can be made.
    func addresses(of pod: PlayedPod, _ network: PlayedPod.Network) throws -> [String]? {
        guard let name = namespaces[pod.uid] else { return nil }
        let output = try Tool.run(["ip", "-n", name, "-4", "-o", "addr", "show", "dev", network.interface]).output
        return output.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            return words.firstIndex(of: "inet").map { String(words[$0 + 1].prefix { $0 != "/" }) }
        }
    }

    func plugin(_ verb: String, _ pod: PlayedPod, _ network: PlayedPod.Network) throws -> Tool.Outcome {
        if verb == "ADD" { try makeNamespace(of: pod) }
        let ipam = #"{"type":"holdfast-cni","socket":"\#(scratch)/\#(pod.node).sock"}"#
        return try Tool.run(
            [usesNamespaces ? "/usr/lib/cni/bridge" : "\(Tool.products)/holdfast-cni"],
            environment: [
                "CNI_COMMAND": verb, "CNI_CONTAINERID": "sandbox-\(pod.name)", "CNI_IFNAME": network.interface,
                "CNI_NETNS": "/var/run/netns/\(namespaces[pod.uid] ?? "none")",
                "CNI_PATH": "/usr/lib/cni:\(Tool.products)", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "CNI_ARGS": """
                IgnoreUnknown=1;K8S_POD_NAMESPACE=\(pod.namespace);K8S_POD_NAME=\(pod.name);K8S_POD_UID=\(pod.uid)
                """,
            ],
            input: """
                {"cniVersion":"1.0.0","name":"\(network.name)","type":"bridge","bridge":"\(bridge)","ipam":\(ipam)}
                """)
    }
}

/// A pod that kubelet has been given.
struct PlayedPod: Hashable {
    struct Network: Hashable {
        /// In the CNI configuration.
        var name: String
        var interface: String
    }

    var namespace: String
    var name: String
    var uid: String
    var node: String
    var networks: [Network]
    var hasEnded = false
}

extension PlayedPod {
    /// Nil where it is no pod, or has no node yet.
    init?(_ event: Story.Event, networks: [Network]) {
        let members = event.members
        guard event.kind == "Pod", let node = (members["spec"] as? [String: Any])?["nodeName"] as? String else {
            return nil
        }
        let phase = (members["status"] as? [String: Any])?["phase"] as? String
        namespace = event.namespace
        name = event.name
        uid = event.uid
        self.node = node
        self.networks = networks
        hasEnded = event.change == .deleted || phase == "Succeeded" || phase == "Failed"
    }
}

/// A program, run to its end.
enum Tool {
    struct Outcome {
        var status: Int32
        var output: String
    }

    /// Where this package's programs are: beside the test bundle.
    static let products = Bundle.main.executableURL?.deletingLastPathComponent().path ?? ""

    static func run(
        _ arguments: [String], environment: [String: String]? = nil, input: String = ""
    ) throws -> Outcome {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = arguments
        if let environment { process.environment = environment }
        let (stdin, stdout) = (Pipe(), Pipe())
        (process.standardInput, process.standardOutput, process.standardError) = (stdin, stdout, stdout)
        try process.run()
        stdin.fileHandleForWriting.write(Data(input.utf8))
        try stdin.fileHandleForWriting.close()
        let output = String(decoding: stdout.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return Outcome(status: process.terminationStatus, output: output)
    }
}
