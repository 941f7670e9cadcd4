import ArgumentParser
import Foundation
import IPAMAPI
import KubernetesAPI
import Logging
import NodeAgent
import Program
import ServiceLifecycle
import UnixSignals

/// The agent of one node: gives pods their addresses on behalf of the CNI plugin, and tells the server what becomes of
/// migrations and VMs.
struct AgentCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast-agent",
        abstract:
            "Holdfast's agent on a node: serves the CNI plugin holdfast-cni, and follows VMs and their migrations.",
        discussion: """
            Each option may also come from a variable: --state-dir from HOLDFAST_STATE_DIR.

            `holdfast-agent install` puts the plugin on this node, `holdfast-agent uninstall` takes it away: each has --help.
            """)

    static let variables =
        ["node", "server", "socket", "state-dir", "pods", "kubeconfig", "kube-context"] + LogOptions.variables

    @Option(help: "This node's name, as in spec.nodeName of its pods.")
    var node: String

    @Option(help: "The server: HOST:PORT or unix:PATH.")
    var server = "127.0.0.1:7440"

    @Option(help: "The unix socket on which the plugin finds this agent.")
    var socket = "/run/holdfast/agent.sock"

    @Option(help: "The directory for what must outlive the agent.")
    var stateDir = "/var/lib/holdfast-agent"

    @Option(
        help: ArgumentHelp(
            """
            Where pods and VMs are seen: kubernetes, as the pod's service account or --kubeconfig tells; or directory:PATH, \
            with one manifest a file, JSON or YAML.
            """, valueName: "source"))
    var pods: PodSource

    @Option(
        help: "The kubeconfig file of the API server; without one, the service account of the pod that this runs in.")
    var kubeconfig: String?

    @Option(help: "The context in the kubeconfig file; without one, its current one.")
    var kubeContext: String?

    @OptionGroup(title: "TLS") var tls: ClientTLSOptions

    @OptionGroup(title: "Logging") var logging: LogOptions

    func run() async throws {
        let log = logging.logger("holdfast-agent")
        // Socket and state are for root alone; whoever reaches the socket can have any pod's address.
        umask(0o077)
        try prepareDirectories()
        let lock: SocketLock
        do {
            lock = try SocketLock(socket: socket)
        } catch {
            throw Failure("cannot serve the plugin at \(socket): \(error)", hint: "name another file with --socket")
        }
        defer { withExtendedLifetime(lock) {} }
        let ipam = try IPAMClient(server: server, credentials: try tls.credentials)
        let (source, watches) = try objectSource(log)
        let application = AgentServer.application(
            handler: AttachmentHandler(node: node, ipam: ipam, source: source, log: log), socket: socket, log: log
        ) { [socket] in
            FileHandle.standardOutput.write(Data("listening on unix:\(socket)\n".utf8))
        }
        let reconciliation = Reconciliation(node: node, ipam: ipam, source: source, log: log)
        let services = ServiceGroup(
            services: watches + [ReconciliationService(reconciliation), application],
            gracefulShutdownSignals: [.sigterm, .sigint], logger: log)
        do {
            try await services.run()
        } catch {
            throw Failure("cannot serve the plugin at \(socket): \(error)", hint: "name another file with --socket")
        }
        await ipam.close()
    }

    /// Where pods and VMs are seen, and what must run for it.
    private func objectSource(_ log: Logger) throws -> (any ObjectSource, [any Service]) {
        switch pods {
        case .directory(let path): return (DirectorySource(path: path, log: log), [])
        case .kubernetes:
            let configuration: KubernetesConfiguration
            do throws(KubernetesError) {
                configuration =
                    if let kubeconfig { try .kubeconfig(kubeconfig, context: kubeContext) } else { try .inCluster() }
            } catch {
                throw Failure("the API server cannot be asked: \(error.message)")
            }
            let source = KubernetesSource(
                node: node, client: KubernetesClient(configuration, log: log), log: log)
            return (source, [source])
        }
    }

    private func prepareDirectories() throws {
        for directory in [stateDir, URL(filePath: socket).deletingLastPathComponent().path] {
            do {
                try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            } catch {
                throw Failure("the directory \(directory) cannot be made: \(error.localizedDescription)")
            }
        }
    }
}

/// `--pods`.
enum PodSource: ExpressibleByArgument {
    case kubernetes
    case directory(String)

    init?(argument: String) {
        if argument == "kubernetes" {
            self = .kubernetes
        } else if argument.hasPrefix("directory:"), argument.count > "directory:".count {
            self = .directory(String(argument.dropFirst("directory:".count)))
        } else {
            return nil
        }
    }
}
