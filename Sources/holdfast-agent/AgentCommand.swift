import Addresses
import ArgumentParser
import CNI
import Foundation
import IPAMAPI
import KubernetesAPI
import Logging
import NodeAgent
import Probes
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
            Each option may also come from a variable: --state-dir from HOLDFAST_STATE_DIR. One without a value, as \
            HOLDFAST_DHCP, is 1, true, yes or on; or 0, false, no or off.

            `holdfast-agent install` puts the plugin on this node, `holdfast-agent uninstall` takes it away: each has --help.
            """,
        version: ProgramVersion.current)

    static let variables =
        ["node", "server", "socket", "state-dir", "pods", "http"] + KubernetesOptions.variables + LogOptions.variables
    static let flags = ["dhcp", "announce", "annotate-pods"]

    @Option(help: "This node's name, as in spec.nodeName of its pods.")
    var node: String

    @Option(help: "The server, HOST:PORT or unix:PATH; several are separated by commas.")
    var server = "127.0.0.1:7440"

    @Option(help: "The unix socket on which the plugin finds this agent.")
    var socket = NetworkConfiguration.defaultSocket

    @Option(help: "The directory for what must outlive the agent.")
    var stateDir = "/var/lib/holdfast-agent"

    @Option(
        help: ArgumentHelp(
            """
            Where pods and VMs are seen: kubernetes, as the pod's service account or --kubeconfig tells; or directory:PATH, \
            with one manifest a file, JSON or YAML.
            """, valueName: "source"))
    var pods: PodSource

    @OptionGroup var kubernetes: KubernetesOptions

    @Flag(help: "Write addresses and MACs as holdfast.dev/ annotations on pods; only with --pods kubernetes.")
    var annotatePods = false

    @Flag(
        help: ArgumentHelp(
            "Answer the DHCP of all VMs' guests (KubeVirt's binding managedTap).",
            discussion: "A network's \"dhcp\" and a VM's annotation holdfast.dev/dhcp say so, or otherwise, for one."))
    var dhcp = false

    @Flag(help: "Tell the network by gratuitous ARP and neighbour advertisements when a migration to this node ends.")
    var announce = false

    @Option(help: ArgumentHelp("Where /metrics, /healthz and /readyz are; else nowhere.", valueName: "host:port"))
    var http: HostPort?

    @OptionGroup(title: "Credentials") var credentials: CredentialOptions

    @OptionGroup(title: "Logging") var logging: LogOptions

    func validate() throws {
        if case .directory = pods, kubernetes.kubeconfig != nil || kubernetes.kubeContext != nil || annotatePods {
            throw ValidationError("--kubeconfig, --kube-context and --annotate-pods are for --pods kubernetes")
        }
        try credentials.check(servers: server)
    }

    func run() async throws {
        var log = logging.logger("holdfast-agent")
        log[metadataKey: "node"] = "\(node)"
        // Socket and state are for root alone; whoever reaches the socket can have any pod's address.
        umask(0o077)
        try prepareDirectories()
        let lock: AgentLock
        do {
            lock = try AgentLock(socket: socket)
        } catch {
            throw Failure(
                "cannot serve the plugin at \(socket): \(error)",
                hint: "name another file with --socket, and another directory with --state-dir")
        }
        defer { withExtendedLifetime(lock) {} }
        let stateLock: AgentLock
        do {
            stateLock = try AgentLock(stateDirectory: stateDir)
        } catch {
            throw Failure(
                "cannot keep what must outlive the agent in \(stateDir): \(error)",
                hint: "name another directory with --state-dir")
        }
        defer { withExtendedLifetime(stateLock) {} }
        let (outage, sight): (Outage, Sight)
        do {
            outage = try Outage(directory: stateDir, log: log)
            sight = try self.sight(log)
        } catch let error as JournalError {
            throw Failure(
                "what must outlive the agent cannot be kept: \(error)", hint: "name another directory with --state-dir")
        }
        let current = try credentials.current(log: log)
        let client = try IPAMClient(
            server: server, currentCredentials: { current.credentials }, currentToken: { current.token })
        let ipam = ObservedIPAM(client, reach: outage.reach)
        let metrics = AgentMetrics()
        let guests = GuestService(
            ports: try GuestPorts(folder: PortFolder(path: "\(stateDir)/ports"), log: log, metrics: metrics),
            answersByDefault: dhcp, announces: announce, log: log)
        let application = AgentServer(
            handler: AttachmentHandler(
                node: node, ipam: ipam, source: sight.source, cluster: sight.notes, guests: guests, log: log,
                outage: outage, metrics: metrics),
            metrics: metrics, socket: socket
        ) { [socket] in
            try? FileHandle.standardOutput.write(contentsOf: Data("listening on unix:\(socket)\n".utf8))
        }
        let reconciliation = Reconciliation(
            node: node, ipam: ipam, source: sight.source, cluster: sight.notes, guests: guests,
            seen: sight.seen, log: log, metrics: metrics)
        let exposition = AgentExposition(
            version: ProgramVersion.current, metrics: metrics, outage: outage, source: sight.source)
        let question = ServerQuestion(ipam, node: node)
        let probes = http.map {
            ProbeServer(
                host: $0.host, port: Int($0.port), logger: log, problem: { await question.problem() },
                metrics: { exposition.text })
        }
        let services = ServiceGroup(
            services: (current.files.map { [$0] } ?? []) + sight.services
                + outage.services(node: node, ipam: ipam, log: log)
                + [guests, ReconciliationService(reconciliation), application] + (probes.map { [$0] } ?? []),
            gracefulShutdownSignals: [.sigterm, .sigint], logger: log)
        do {
            try await services.run()
        } catch let error as ProbeServerError {
            throw Failure("\(error)", hint: "name another address with --http")
        } catch {
            throw Failure("cannot serve the plugin at \(socket): \(error)", hint: "name another file with --socket")
        }
        await client.close()
    }

    /// Where pods and VMs are seen, where people are told, and what must run for it.
    private struct Sight {
        var source: any ObjectSource
        var notes: ClusterNotes?
        /// Where nobody else frees what belongs to deleted VMs.
        var seen: SeenMachines?
        var services: [any Service] = []
    }

    private func sight(_ log: Logger) throws -> Sight {
        switch pods {
        case .directory(let path):
            let seen = try SeenMachines(path: "\(stateDir)/machines", directory: path, log: log)
            return Sight(source: DirectorySource(path: path, log: log), seen: seen)
        case .kubernetes:
            let client = KubernetesClient(try kubernetes.configuration, log: log)
            let source = KubernetesSource(node: node, client: client, log: log)
            let notes = ClusterNotes(node: node, client: client, annotatesPods: annotatePods, log: log)
            return Sight(source: source, notes: notes, services: [source, notes])
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

extension HostPort: ExpressibleByArgument {
    package init?(argument: String) { self.init(argument) }
}
