import ArgumentParser
import Foundation
import IPAMAPI
import IPAMModel
import Program
import RPC

/// What every command that talks to a server takes.
struct ClientOptions: ParsableArguments {
    @Option(help: "The server, HOST:PORT or unix:PATH (variable HOLDFAST_SERVER).")
    var server = Self.variable("HOLDFAST_SERVER") ?? "127.0.0.1:7440"

    @Option(
        help: "How long to wait for one answer: 500ms, 10s, 1m.",
        transform: { text in
            do throws(IPAMError) {
                return Duration.nanoseconds(try Rules.delay(text, "--timeout").nanoseconds)
            } catch {
                throw ValidationError(error.message)
            }
        })
    var timeout = Duration.seconds(10)

    @Option(name: .shortAndLong, help: "table, json or yaml; json and yaml have the API's field names.")
    var output = OutputFormat.table

    @Option(help: "CA certificates of the server (PEM file): speak TLS (variable HOLDFAST_TLS_CA).")
    var tlsCa: String?

    @Option(help: "Client certificate chain (PEM file, variable HOLDFAST_TLS_CERT).")
    var tlsCert: String?

    @Option(help: "Private key of the client certificate (PEM file, variable HOLDFAST_TLS_KEY).")
    var tlsKey: String?

    mutating func validate() throws {
        tlsCa = tlsCa ?? Self.variable("HOLDFAST_TLS_CA")
        tlsCert = tlsCert ?? Self.variable("HOLDFAST_TLS_CERT")
        tlsKey = tlsKey ?? Self.variable("HOLDFAST_TLS_KEY")
        guard (tlsCert == nil) == (tlsKey == nil) else {
            throw ValidationError("--tls-cert and --tls-key need each other")
        }
        guard tlsCert == nil || tlsCa != nil else { throw ValidationError("--tls-cert needs --tls-ca") }
    }

    /// Throws `Failure` where a certificate's file cannot be read.
    var credentials: ChannelCredentials {
        get throws {
            guard let tlsCa else { return .insecure }
            return .tls(
                roots: try read(tlsCa), certificateChain: try tlsCert.map(read), privateKey: try tlsKey.map(read))
        }
    }

    private func read(_ path: String) throws -> String {
        do {
            return try String(contentsOfFile: path, encoding: .utf8)
        } catch {
            throw Failure("\(path): \(error.localizedDescription)")
        }
    }

    private static func variable(_ name: String) -> String? {
        ProcessInfo.processInfo.environment[name].flatMap { $0.isEmpty ? nil : $0 }
    }
}

enum OutputFormat: String, ExpressibleByArgument, CaseIterable { case table, json, yaml }
