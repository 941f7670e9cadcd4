import Access
import Addresses
import ArgumentParser
import EtcdStore
import Foundation
import IPAMModel
import IPAMService
import KubernetesAPI
import LedgerStore
import Lifecycle
import Logging
import Probes
import Program
import RPC
import ServiceLifecycle
import StoreOptions
import UnixSignals

@main
enum Main {
    static func main() async {
        await HoldfastServer.runProgram(
            variables: [
                "http", "max-connections", "store", "pools", "tls-cert", "tls-key", "tls-client-ca", "advertise",
                "audit",
            ]
                + EtcdOptions.variables + LifecycleOptions.variables + AccessOptions.variables + LogOptions.variables,
            repeatable: ["listen"], flags: ["insecure", "kubernetes", "await-restore"])
    }
}

struct HoldfastServer: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast-server",
        abstract: "Owns the addresses of virtual machines: Allocate, Release and Transfer over gRPC.",
        discussion: """
            Each flag can also be given as a variable: --listen as HOLDFAST_LISTEN, --tls-cert as HOLDFAST_TLS_CERT. One \
            without a value, as HOLDFAST_INSECURE, is 1, true, yes or on; or 0, false, no or off.
            """,
        version: ProgramVersion.current)

    private static let defaultHTTP = "127.0.0.1:9440"

    @Option(help: "HOST:PORT or unix:PATH; may be given several times.")
    var listen: [String] = ["127.0.0.1:7440"]

    @Option(
        help: ArgumentHelp(
            "Where /metrics, /healthz and /readyz are, or off. (default: \(defaultHTTP), unless it is taken)",
            valueName: "host:port"))
    var http: String?

    @Option(help: "Clients that may be connected at once; a connection beyond is closed. Each takes about 20 KiB.")
    var maxConnections = 4096

    @Option(help: "Where the ledger is durable: sqlite:PATH, or etcd:http://HOST:PORT,… which several servers share.")
    var store = StoreName.sqlite(path: "/var/lib/holdfast/ledger.sqlite")

    @Option(
        help: ArgumentHelp(
            "With etcd: where clients find this server when it leads. (default: the first --listen)",
            valueName: "host:port"))
    var advertise: String?

    @Option(help: "YAML list of pools in the API's field names, applied at start and when the file changes.")
    var pools: String?

    @Flag(help: "While the ledger is empty, take pools and `holdfast restore` only: what it would give may be in use.")
    var awaitRestore = false

    enum Switch: String, ExpressibleByArgument, CaseIterable { case on, off }

    @Option(help: "A log line of level info for each change, from `audit`: who asked, what, for which owner.")
    var audit = Switch.on

    @OptionGroup(title: "etcd") var etcd: EtcdOptions

    @OptionGroup(title: "Kubernetes") var lifecycle: LifecycleOptions

    @OptionGroup(title: "TLS") var tls: TLSOptions

    @OptionGroup(title: "Who may call") var access: AccessOptions

    @OptionGroup(title: "Logging") var logging: LogOptions

    func validate() throws {
        for address in listen where !address.hasPrefix("unix:") && HostPort(address) == nil {
            throw ValidationError("--listen \(address): give HOST:PORT (IPv6 as [::1]:PORT), or unix:PATH")
        }
        if case .etcd = store, advertise == nil, let first = listen.first, HostPort(first)?.isWildcard == true {
            throw ValidationError("--listen \(first) is no address to find this server at: give --advertise HOST:PORT")
        }
        _ = try httpAddress
        if lifecycle.api.kubeconfig != nil, !lifecycle.kubernetes, !access.asksKubernetes {
            throw ValidationError("--kubeconfig needs --kubernetes or --tokens kubernetes")
        }
        if access.policy != nil, access.tokens == nil, tls.tlsClientCa == nil {
            throw ValidationError("--policy needs --tokens or --tls-client-ca: without, nothing tells who calls")
        }
        guard maxConnections > 0 else { throw ValidationError("--max-connections \(maxConnections): give 1 or more") }
        for address in listen where !isLocal(address) && tls.tlsCert == nil && !tls.insecure {
            throw ValidationError(
                "--listen \(address) can be reached from outside: give --tls-cert and --tls-key, or say --insecure")
        }
    }

    /// Whether nobody outside this machine can reach it.
    private func isLocal(_ address: String) -> Bool {
        address.hasPrefix("unix:") || HostPort(address)?.isLoopback == true
    }

    /// Nil: off.
    private var httpAddress: HostPort? {
        get throws {
            if http == "off" { return nil }
            guard let address = HostPort(http ?? Self.defaultHTTP) else {
                throw ValidationError("--http \(http ?? ""): give HOST:PORT (IPv6 as [::1]:PORT), or off")
            }
            return address
        }
    }

    func run() async throws {
        // The ledger is nobody else's to read.
        umask(0o077)
        let logger = logging.logger("holdfast-server")
        do {
            let tlsFiles = try tls.files(log: logger)
            var certificates = tlsFiles.map { [$0] } ?? []
            let (gate, verifier, gateServices) = try access.gate(
                clientCertificates: tls.tlsClientCa != nil, api: lifecycle.api, logger: logger)
            let readiness = Readiness()
            let credentials = credentials(tlsFiles)
            var rpc = RPCServer.Configuration(listeners: listen.map { RPCServer.Listener($0, credentials) })
            rpc.reflection = access.reflection == .on ? gate.reflection : nil
            rpc.maxConnections = maxConnections
            let clock = LedgerClock(
                wallClock: Timestamp(nanoseconds: Int64(Date().timeIntervalSince1970 * 1_000_000_000)))
            let onListening = { @Sendable (addresses: [String]) in
                for address in addresses { print("listening on \(address)") }
                fflush(nil)
            }
            let audit =
                audit == .on && logging.logLevel <= .info
                ? AuditLog(isJSON: logging.logFormat == .json, write: StandardError.write) : nil
            var server: IPAMServer
            switch store {
            case .sqlite(let path):
                try makeFolder(of: path)
                let store = try SQLiteStore(path: path)
                store.reserveLog()
                server = try IPAMServer(
                    store: store, rpc: rpc, gate: gate, clock: clock,
                    readiness: readiness, logger: logger, audit: audit, awaitsRestore: awaitRestore,
                    onListening: onListening)
            case .etcd(let urls):
                let (configuration, files) = try etcd.configuration(urls: urls, log: logger)
                certificates += files.map { [$0] } ?? []
                server = try IPAMServer(
                    shared: try EtcdLedger(configuration, logger: logger),
                    advertising: advertise, rpc: rpc, gate: gate, clock: clock, readiness: readiness,
                    logger: logger, audit: audit, awaitsRestore: awaitRestore, onListening: onListening)
            }
            if let pools { server.pools = try await PoolsFile(path: pools, server: server, logger: logger) }
            // They end in the order from last to first.
            var services: [any Service] = gateServices + [server, readiness]
            services.insert(contentsOf: certificates, at: 0)
            if let pools = server.pools { services.insert(pools, at: 0) }
            let followed = try lifecycle.service(for: server, logger: logger)
            if let followed { services.append(followed) }
            if let address = try httpAddress {
                services.insert(
                    ProbeServer(
                        host: address.host, port: Int(address.port), isOptional: http == nil, logger: logger,
                        problem: { readiness.reason },
                        metrics: { [server] in
                            server.exposition(
                                version: Self.configuration.version, hasTokenKeys: verifier?.hasKeys ?? true)
                                + (followed?.metrics.exposition ?? "")
                        }), at: 0)
            }
            try await ServiceGroup(
                configuration: .init(services: services, gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
            ).run()
        } catch let error as StoreError {
            throw Failure("\(error)")
        } catch let error as IPAMError {
            throw Failure(error.message)
        } catch let error as RPCError {
            throw Failure("\(error)")
        } catch let error as ProbeServerError {
            throw Failure("\(error)")
        }
    }

    private func credentials(_ files: CertificateFiles?) -> ServerCredentials {
        guard let files else { return .insecure }
        // Who has a token needs no certificate.
        let clients: ServerCredentials.ClientCertificates =
            tls.tlsClientCa == nil ? .unasked : access.tokens == nil ? .required : .optional
        return .rotating(clients: clients) { files.current }
    }

    /// For the server's user alone, where it is missing. Throws `Failure`.
    private func makeFolder(of file: String) throws {
        let folder = URL(filePath: file).deletingLastPathComponent().path
        do {
            try FileManager.default.createDirectory(
                atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw Failure(
                "the folder \(folder) of the ledger cannot be made: \(error.localizedDescription)",
                hint: "make it for the user that runs the server, or name another place with --store sqlite:PATH")
        }
    }
}
