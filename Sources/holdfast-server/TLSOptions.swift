import ArgumentParser
import Logging
import Program

struct TLSOptions: ParsableArguments {
    @Option(help: "Certificate chain of the server (PEM file).")
    var tlsCert: String?

    @Option(help: "Private key of the server (PEM file).")
    var tlsKey: String?

    @Option(
        help: """
            CA certificates (PEM file): every client must show a certificate that one of them signed, or with --tokens a token.
            """)
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

    /// Nil without TLS. Throws `Failure` where a file cannot be read or used.
    func files(log: Logger) throws -> CertificateFiles? {
        guard let tlsCert, let tlsKey else { return nil }
        return try CertificateFiles(chain: tlsCert, key: tlsKey, authorities: tlsClientCa, log: log)
    }
}
