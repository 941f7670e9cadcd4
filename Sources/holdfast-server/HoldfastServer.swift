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
            variables: ["store", "pools", "tls-cert", "tls-key", "tls-client-ca"] + LogOptions.variables,
            repeatable: ["listen"], flags: ["insecure"])
    }
}

struct HoldfastServer: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast-server",
        abstract: "Owns the addresses of virtual machines: Allocate, Release and Transfer over gRPC.",
        discussion:
            "Each flag can also be given as a variable: --listen as HOLDFAST_LISTEN, --tls-cert as HOLDFAST_TLS_CERT.")

    @Option(help: "HOST:PORT or unix:PATH; may be given several times.")
    var listen: [String] = ["127.0.0.1:7440"]

    @Option(help: "Where the ledger is durable: sqlite:PATH.")
    var store = "sqlite:/var/lib/holdfast/ledger.sqlite"

    @Option(help: "YAML list of pools in the API's field names, applied at start and when the file changes.")
    var pools: String?

    @OptionGroup(title: "TLS") var tls: TLSOptions

    @OptionGroup(title: "Logging") var logging: LogOptions

    func validate() throws {
        _ = try storePath
        for address in listen where !ListenAddress.isLocal(address) && tls.tlsCert == nil && !tls.insecure {
            throw ValidationError(
                "--listen \(address) can be reached from outside: give --tls-cert and --tls-key, or say --insecure")
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
            let server = try IPAMServer(
                store: try SQLiteStore(path: try storePath),
                rpc: RPCServer.Configuration(listeners: listen.map { RPCServer.Listener($0, credentials) }),
                wallClock: Timestamp(nanoseconds: Int64(Date().timeIntervalSince1970 * 1_000_000_000)), logger: logger
            ) { addresses in
                for address in addresses { print("listening on \(address)") }
                fflush(nil)
            }
            var services: [any Service] = [server]
            if let pools {
                services.insert(try await PoolsFile(path: pools, writer: server.writer, logger: logger), at: 0)
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
}
