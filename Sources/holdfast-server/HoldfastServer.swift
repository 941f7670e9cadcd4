import ArgumentParser
import Foundation
import IPAMModel
import IPAMService
import LedgerStore
import Logging
import Program
import RPC
import ServiceLifecycle
import UnixSignals

@main
enum Main {
    static func main() async {
        await HoldfastServer.runProgram(
            variables: ["http", "store", "pools", "tls-cert", "tls-key", "tls-client-ca"] + LogOptions.variables,
            repeatable: ["listen"], flags: ["insecure"])
    }
}

struct HoldfastServer: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast-server",
        abstract: "Owns the addresses of virtual machines: Allocate, Release and Transfer over gRPC.",
        discussion:
            "Each flag can also be given as a variable: --listen as HOLDFAST_LISTEN, --tls-cert as HOLDFAST_TLS_CERT.",
        version: ProgramVersion.current)

    private static let defaultHTTP = "127.0.0.1:9440"

    @Option(help: "HOST:PORT or unix:PATH; may be given several times.")
    var listen: [String] = ["127.0.0.1:7440"]

    @Option(
        help: ArgumentHelp(
            "Where /metrics, /healthz and /readyz are, or off. (default: \(defaultHTTP), unless it is taken)",
            valueName: "host:port"))
    var http: String?

    @Option(help: "Where the ledger is durable: sqlite:PATH.")
    var store = "sqlite:/var/lib/holdfast/ledger.sqlite"

    @Option(help: "YAML list of pools in the API's field names, applied at start and when the file changes.")
    var pools: String?

    @OptionGroup(title: "TLS") var tls: TLSOptions

    @OptionGroup(title: "Logging") var logging: LogOptions

    func validate() throws {
        _ = try storePath
        _ = try httpAddress
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

    private var storePath: String {
        get throws {
            guard store.hasPrefix("sqlite:"), store.count > "sqlite:".count else {
                throw ValidationError("--store \(store): this version knows sqlite:PATH only")
            }
            return String(store.dropFirst("sqlite:".count))
        }
    }

    func run() async throws {
        let logger = logging.logger("holdfast-server")
        do {
            let credentials = try tls.credentials
            let readiness = Readiness()
            try makeFolder(of: try storePath)
            let server = try IPAMServer(
                store: try SQLiteStore(path: try storePath),
                rpc: RPCServer.Configuration(listeners: listen.map { RPCServer.Listener($0, credentials) }),
                wallClock: Timestamp(nanoseconds: Int64(Date().timeIntervalSince1970 * 1_000_000_000)),
                readiness: readiness,
                logger: logger
            ) { addresses in
                for address in addresses { print("listening on \(address)") }
                fflush(nil)
            }
            // They end in the order from last to first.
            var services: [any Service] = [server, readiness]
            if let pools {
                services.insert(try await PoolsFile(path: pools, writer: server.writer, logger: logger), at: 0)
            }
            if let address = try httpAddress {
                services.insert(
                    HTTPServer(
                        host: address.host, port: Int(address.port), isOptional: http == nil, readiness: readiness,
                        logger: logger, metrics: { server.exposition(version: Self.configuration.version) }), at: 0)
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
        }
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
