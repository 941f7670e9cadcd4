import Foundation
import RPC
import Testing

@Suite struct CredentialsTests {
    /// An authority, a server's certificate for localhost, and a client's, made by openssl.
    private struct Certificates {
        let folder: TemporaryFolder

        init() throws {
            folder = try TemporaryFolder()
            try folder.write("server.ext", "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            try folder.write("client.ext", "subjectAltName=URI:spiffe://holdfast/node/node-a,DNS:node-a\n")
            try openssl(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem"
            )
            for (name, subject) in [("server", "/CN=localhost"), ("client", "/CN=node-a")] {
                try openssl(
                    "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj \(subject) -keyout \(name).key -out \(name).csr"
                )
                try openssl(
                    "x509 -req -days 2 -in \(name).csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile \(name).ext -out \(name).pem"
                )
            }
        }

        private func openssl(_ arguments: String) throws {
            try #require(try folder.run("openssl", arguments.split(separator: " ").map(String.init)))
        }

        func pem(_ name: String) throws -> String { try folder.read(name) }
    }

    private func withServer(
        _ credentials: ServerCredentials, _ body: (String) async throws -> Void
    ) async throws {
        let server = try RPCServer(
            configuration: .init(listeners: [.init("127.0.0.1:0", credentials)]), services: [EchoService.make(Probe())])
        let address = try server.start()[0]
        let result: Result<Void, any Error>
        do { result = .success(try await body(address)) } catch { result = .failure(error) }
        await server.shutdown(grace: .seconds(5))
        try result.get()
    }

    private func ask(_ address: String, _ credentials: ChannelCredentials) async throws -> String {
        let channel = try RPCChannel(target: address, credentials: credentials)
        let result: Result<String, any Error>
        do { result = .success(try await channel.release("peer")) } catch { result = .failure(error) }
        await channel.close()
        return try result.get()
    }

    @Test func `TLS proves the server, and a client that does not believe it gets no answer`() async throws {
        let certificates = try Certificates()
        let ca = try certificates.pem("ca.pem")
        let credentials = ServerCredentials.tls(
            certificateChain: try certificates.pem("server.pem"), privateKey: try certificates.pem("server.key"),
            clientCA: nil)
        try await withServer(credentials) { address in
            try await #expect(ask(address, .tls(roots: ca)) == "false [] -")
            try await #expect(ask(address, .tls(roots: ca, serverName: "localhost")) == "false [] -")
            let others = [
                ChannelCredentials.tls(roots: ca, serverName: "elsewhere"), .insecure,
                .tls(roots: try certificates.pem("client.pem")),
            ]
            for other in others {
                await #expect { try await ask(address, other) } throws: { ($0 as? RPCStatus)?.code == .unavailable }
            }
        }
    }

    @Test func `mTLS names the client to the handler, and lets no other in`() async throws {
        let certificates = try Certificates()
        let ca = try certificates.pem("ca.pem")
        let credentials = ServerCredentials.tls(
            certificateChain: try certificates.pem("server.pem"), privateKey: try certificates.pem("server.key"),
            clientCA: ca)
        try await withServer(credentials) { address in
            let client = ChannelCredentials.tls(
                roots: ca, certificateChain: try certificates.pem("client.pem"),
                privateKey: try certificates.pem("client.key"))
            let peer = try await ask(address, client)
            #expect(peer == #"true ["spiffe://holdfast/node/node-a", "node-a"] node-a"#)
            await #expect { try await ask(address, .tls(roots: ca)) } throws: {
                ($0 as? RPCStatus)?.code == .unavailable
            }
        }
    }

    @Test func `a certificate that cannot be used stops the server`() async throws {
        let server = try RPCServer(
            configuration: .init(
                listeners: [.init("127.0.0.1:0", .tls(certificateChain: "no", privateKey: "no", clientCA: nil))]),
            services: [])
        #expect(throws: RPCError.bind(address: "127.0.0.1:0", reason: "the TLS certificate or key cannot be used")) {
            try server.start()
        }
    }
}
