package import ArgumentParser
import Foundation
package import RPC

/// How a client of the service proves who it is, and whom it believes: `--tls-ca`, `--tls-cert` and `--tls-key`, or the
/// variables of those names.
package struct ClientTLSOptions: ParsableArguments {
    @Option(help: "CA certificates of the server (PEM file): speak TLS (variable HOLDFAST_TLS_CA).")
    package var tlsCa: String?

    @Option(help: "Client certificate chain (PEM file, variable HOLDFAST_TLS_CERT).")
    package var tlsCert: String?

    @Option(help: "Private key of the client certificate (PEM file, variable HOLDFAST_TLS_KEY).")
    package var tlsKey: String?

    package init() {}

    package mutating func validate() throws {
        tlsCa = tlsCa ?? variable("HOLDFAST_TLS_CA")
        tlsCert = tlsCert ?? variable("HOLDFAST_TLS_CERT")
        tlsKey = tlsKey ?? variable("HOLDFAST_TLS_KEY")
        guard (tlsCert == nil) == (tlsKey == nil) else {
            throw ValidationError("--tls-cert and --tls-key need each other")
        }
        guard tlsCert == nil || tlsCa != nil else { throw ValidationError("--tls-cert needs --tls-ca") }
    }

    /// Throws `Failure` where a certificate's file cannot be read.
    package var credentials: ChannelCredentials {
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
}

/// An environment variable's value; nil where it is empty.
package func variable(_ name: String) -> String? {
    ProcessInfo.processInfo.environment[name].flatMap { $0.isEmpty ? nil : $0 }
}
