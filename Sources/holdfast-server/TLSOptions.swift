import ArgumentParser
import Foundation
import Program
import RPC

struct TLSOptions: ParsableArguments {
    @Option(help: "Certificate chain of the server (PEM file).")
    var tlsCert: String?

    @Option(help: "Private key of the server (PEM file).")
    var tlsKey: String?

    @Option(help: "CA certificates (PEM file): every client must show a certificate that one of them signed.")
    var tlsClientCa: String?

    @Flag(help: "Listen without TLS on addresses that are not loopback.")
    var insecure = false

    func validate() throws {
        guard (tlsCert == nil) == (tlsKey == nil) else {
            throw ValidationError("--tls-cert and --tls-key need each other")
        }
        guard tlsClientCa == nil || tlsCert != nil else {
            throw ValidationError("--tls-client-ca needs --tls-cert and --tls-key")
        }
    }

    /// Throws `Failure` where a file cannot be read.
    var credentials: ServerCredentials {
        get throws {
            guard let tlsCert, let tlsKey else { return .insecure }
            return .tls(
                certificateChain: try read(tlsCert), privateKey: try read(tlsKey), clientCA: try tlsClientCa.map(read))
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
