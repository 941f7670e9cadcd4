import Addresses
package import ArgumentParser
import Foundation
package import Logging
package import RPC

/// How a client of the service proves who it is, and whom it believes: `--tls-ca`, `--tls-cert` and `--tls-key`,
/// `--token-file`, or the variables of those names.
package struct CredentialOptions: ParsableArguments {
    @Option(help: "CA certificates of the server (PEM file): speak TLS (variable HOLDFAST_TLS_CA).")
    package var tlsCa: String?

    @Option(help: "Client certificate chain (PEM file, variable HOLDFAST_TLS_CERT).")
    package var tlsCert: String?

    @Option(help: "Private key of the client certificate (PEM file, variable HOLDFAST_TLS_KEY).")
    package var tlsKey: String?

    @Option(
        help: """
            A token that says who calls, read for each call: a service account's, for the audience holdfast (variable \
            HOLDFAST_TOKEN_FILE).
            """)
    package var tokenFile: String?

    package init() {}

    package mutating func validate() throws {
        tlsCa = tlsCa ?? variable("HOLDFAST_TLS_CA")
        tlsCert = tlsCert ?? variable("HOLDFAST_TLS_CERT")
        tlsKey = tlsKey ?? variable("HOLDFAST_TLS_KEY")
        tokenFile = tokenFile ?? variable("HOLDFAST_TOKEN_FILE")
        guard (tlsCert == nil) == (tlsKey == nil) else {
            throw ValidationError("--tls-cert and --tls-key need each other")
        }
        guard tlsCert == nil || tlsCa != nil else { throw ValidationError("--tls-cert needs --tls-ca") }
    }

    /// Throws `ValidationError` unless `servers` are HOST:PORT or unix:PATH, separated by commas, and where a token would go
    /// to one of them over a network in the clear.
    package func check(servers: String) throws {
        // The C core takes any number for a port, modulo 65,536, and none for 0.
        let named = servers.split(separator: ",")
        for server in named.isEmpty ? [""] : named {
            let server = server.trimmingCharacters(in: .whitespaces)
            if server.hasPrefix("unix:"), server.count > "unix:".count { continue }
            guard let place = HostPort(server), place.port != 0, !place.host.contains("/") else {
                throw ValidationError(
                    """
                    the server \"\(server)\" is neither HOST:PORT nor unix:PATH: as 10.0.0.1:7440 (7440 is the usual port), \
                    [fd00::1]:7440 or unix:/run/holdfast/server.sock
                    """)
            }
            guard tokenFile != nil, tlsCa == nil, !place.isLoopback else { continue }
            throw ValidationError("--token-file needs --tls-ca: whoever hears the token on the way could use it")
        }
    }

    /// What a client shows, as the files have it at each moment.
    package struct Current: Sendable {
        /// Nil without TLS.
        package var files: CertificateFiles?
        private var tokenFile: SecretFile?

        fileprivate init(_ files: CertificateFiles?, _ tokenFile: SecretFile?) {
            self.files = files
            self.tokenFile = tokenFile
        }

        package var credentials: ChannelCredentials { files?.channelCredentials ?? .insecure }

        package var token: String? { tokenFile?.current }
    }

    /// Throws `Failure` where a file cannot be read or used.
    package func current(log: Logger) throws -> Current {
        let files = try tlsCa.map {
            try CertificateFiles(chain: tlsCert, key: tlsKey, authorities: $0, log: log)
        }
        return Current(files, try tokenFile.map { try SecretFile(.token, path: $0, option: "--token-file", log: log) })
    }
}

/// An environment variable's value; nil where it is empty.
package func variable(_ name: String) -> String? {
    ProcessInfo.processInfo.environment[name].flatMap { $0.isEmpty ? nil : $0 }
}
