import Foundation
import KubernetesAPI
import TestCluster
import Testing

/// An API server that speaks TLS, as real ones do; certificates by openssl.
struct TLSTests {
    private let scratch: Scratch
    private var path: String { scratch.path }

    init() throws {
        scratch = try Scratch()
        for authority in ["ca", "other"] {
            try openssl(
                "req -x509 \(Self.key) -days 2 -subj /CN=\(authority) -keyout \(path)/\(authority).key -out \(path)/\(authority).pem"
            )
        }
        try issue("server", extensions: "subjectAltName=IP:127.0.0.1,DNS:kubernetes.default")
        try issue("client", extensions: "extendedKeyUsage=clientAuth")
    }

    private static let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"

    private func issue(_ name: String, by authority: String = "ca", extensions: String) throws {
        try scratch.write(extensions, to: "\(name).ext")
        try openssl("req \(Self.key) -subj /CN=\(name) -keyout \(path)/\(name).key -out \(path)/\(name).csr")
        try openssl(
            """
            x509 -req -days 2 -in \(path)/\(name).csr -CA \(path)/\(authority).pem -CAkey \(path)/\(authority).key \
            -CAcreateserial -extfile \(path)/\(name).ext -out \(path)/\(name).pem
            """)
    }

    private func openssl(_ arguments: String) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["openssl"] + arguments.split(separator: " ").map(String.init)
        process.standardError = Pipe()
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
    }

    /// What a get with this kubeconfig's cluster and user ends in: nil for success.
    private func outcome(
        _ cluster: TestCluster, _ fields: String, user: String = "token: t"
    ) async throws -> KubernetesError? {
        try scratch.write(
            """
            current-context: x
            clusters: [{name: c, cluster: {server: "\(cluster.url)", \(fields)}}]
            users: [{name: u, user: {\(user)}}]
            contexts: [{name: x, context: {cluster: c, user: u}}]
            """, to: "config")
        let client = KubernetesClient(try .kubeconfig("\(path)/config"), log: quiet)
        do {
            _ = try await client.get(Named.self, .pods, namespace: "default", name: "a")
            return nil
        } catch {
            return error
        }
    }

    @Test func `a server is believed by its authority and name, or not at all`() async throws {
        let tls = TestCluster.TLS(certificate: "\(path)/server.pem", key: "\(path)/server.key")
        let cluster = try await TestCluster.start(tls: tls)
        #expect(try await outcome(cluster, "certificate-authority: ca.pem") == nil)
        let data = try Data(contentsOf: URL(filePath: "\(path)/ca.pem")).base64EncodedString()
        #expect(try await outcome(cluster, "certificate-authority-data: \(data)") == nil)
        #expect(try await outcome(cluster, "insecure-skip-tls-verify: true") == nil)
        let stranger = try await outcome(cluster, "certificate-authority: other.pem")
        #expect(stranger?.code == .unreachable)
        let system = try await outcome(cluster, "namespace: x")
        #expect(system?.code == .unreachable)
        let noPEM = try await outcome(cluster, "certificate-authority: ca.key")
        #expect(noPEM?.code == .configuration)
        await cluster.stop()
    }

    @Test func `a server whose certificate has another name than its URL is believed by tls-server-name`() async throws
    {
        try issue("named", extensions: "subjectAltName=DNS:kubernetes.default")
        let cluster = try await TestCluster.start(
            tls: TestCluster.TLS(certificate: "\(path)/named.pem", key: "\(path)/named.key"))
        let authority = "certificate-authority: ca.pem"
        let unnamed = try await outcome(cluster, authority)
        #expect(unnamed?.code == .unreachable)
        #expect(try await outcome(cluster, authority + ", tls-server-name: kubernetes.default") == nil)
        let other = try await outcome(cluster, authority + ", tls-server-name: other.example")
        #expect(other?.code == .unreachable)
        await cluster.stop()
    }

    @Test func `a client shows its certificate, and the one that has replaced it`() async throws {
        let tls = TestCluster.TLS(
            certificate: "\(path)/server.pem", key: "\(path)/server.key", clientAuthority: "\(path)/ca.pem")
        let cluster = try await TestCluster.start(tls: tls)
        let authority = "certificate-authority: ca.pem"
        let nobody = try await outcome(cluster, authority)
        #expect(nobody?.code == .unreachable)
        let user = "client-certificate: client.pem, client-key: client.key"
        #expect(try await outcome(cluster, authority, user: user) == nil)

        try issue("stranger", by: "other", extensions: "extendedKeyUsage=clientAuth")
        func install(_ name: String) throws {
            for kind in ["pem", "key"] {
                try scratch.write(
                    String(contentsOfFile: "\(path)/\(name).\(kind)", encoding: .utf8), to: "own.\(kind)")
            }
        }
        try install("stranger")
        let files = "client-certificate: own.pem, client-key: own.key"
        let stranger = try await outcome(cluster, authority, user: files)
        #expect(stranger?.code == .unreachable)
        let client = KubernetesClient(try .kubeconfig("\(path)/config"), log: quiet)
        await #expect(throws: KubernetesError.self) {
            try await client.get(Named.self, .pods, namespace: "default", name: "a")
        }
        try install("client")
        #expect(try await client.get(Named.self, .pods, namespace: "default", name: "a") == nil)
        await cluster.stop()
    }
}
