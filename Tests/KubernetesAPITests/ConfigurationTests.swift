import Foundation
import KubernetesAPI
import TestCluster
import Testing

/// A folder of the test's own, which goes with it.
final class Scratch: Sendable {
    let path = "/tmp/holdfast-test-\(UUID().uuidString.prefix(8).lowercased())"

    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ text: String, to file: String) throws {
        try text.write(toFile: "\(path)/\(file)", atomically: true, encoding: .utf8)
    }
}

struct ConfigurationTests {
    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    private func kubeconfig(
        cluster: String = "server: https://10.0.0.1:6443", user: String = "token: t", context: String? = nil
    ) throws -> KubernetesConfiguration {
        try scratch.write(
            """
            apiVersion: v1
            kind: Config
            current-context: one
            unknown: [1]
            clusters: [{name: c, cluster: {\(cluster)}}]
            users: [{name: u, user: {\(user)}}, {name: other, user: {token: o}}]
            contexts:
            - {name: one, context: {cluster: c, user: u, namespace: vms}}
            - {name: two, context: {cluster: c, user: other}}
            - {name: lost, context: {cluster: nowhere, user: u}}
            """, to: "config")
        return try .kubeconfig("\(scratch.path)/config", context: context)
    }

    @Test func `a kubeconfig's current context is taken unless one is named`() throws {
        let one = try kubeconfig()
        #expect(one.server == "https://10.0.0.1:6443" && one.trust == .system)
        #expect(one.token == .bytes(Array("t".utf8)) && one.certificate == nil)
        let two = try kubeconfig(context: "two")
        #expect(two.token == .bytes(Array("o".utf8)))
    }

    @Test func `data go before files, tokenFile before token, and files are relative to the kubeconfig`() throws {
        let encoded = Data("PEM".utf8).base64EncodedString()
        let configuration = try kubeconfig(
            cluster: """
                server: "https://api.example/k8s/", certificate-authority: ca.crt, tls-server-name: kubernetes
                """,
            user: """
                token: t, tokenFile: /run/token, client-certificate: x, client-certificate-data: \(encoded), \
                client-key: keys/own.key
                """)
        #expect(configuration.server == "https://api.example/k8s" && configuration.tlsServerName == "kubernetes")
        #expect(configuration.trust == .certificates(.file("\(scratch.path)/ca.crt")))
        #expect(configuration.token == .file("/run/token"))
        #expect(configuration.certificate?.chain == .bytes(Array("PEM".utf8)))
        #expect(configuration.certificate?.key == .file("\(scratch.path)/keys/own.key"))
        #expect(
            try kubeconfig(cluster: "server: https://x, insecure-skip-tls-verify: true").trust == .anyone)
    }

    @Test(arguments: [
        ("server: https://x", "exec: {command: aws}", nil as String?, "logs user \"u\" in by exec"),
        ("server: https://x", "auth-provider: {name: gcp}", nil, "by auth-provider"),
        ("server: https://x", "username: admin, password: x", nil, "by username and password"),
        ("server: https://x", "client-certificate: a", nil, "client-certificate and client-key together"),
        ("server: https://x", "client-certificate-data: '!'", nil, "no base64 in client-certificate-data"),
        ("server: ftp://x", "token: t", nil, "no server https://"),
        ("insecure-skip-tls-verify: true", "token: t", nil, "no server https://"),
        ("server: https://x, proxy-url: http://p", "token: t", nil, "proxy-url"),
        ("server: https://x", "token: t", "three", "no context \"three\""),
        ("server: https://x", "token: t", "lost", "no cluster \"nowhere\""),
        ("server: [", "token: t", nil, "is no kubeconfig file"),
    ])
    func `a kubeconfig that cannot be used is refused in a sentence`(
        cluster: String, user: String, context: String?, says: String
    ) throws {
        #expect {
            try kubeconfig(cluster: cluster, user: user, context: context)
        } throws: { error in
            let error = error as? KubernetesError
            return error?.code == .configuration && error?.message.contains(says) == true
                && error?.message.hasPrefix("\(scratch.path)/config ") == true
        }
        #expect(throws: KubernetesError.self) { try KubernetesConfiguration.kubeconfig("/nowhere/config") }
    }

    @Test func `in a pod the service account's files tell`() throws {
        for (file, text) in [("token", "t\n"), ("ca.crt", "PEM")] {
            try scratch.write(text, to: file)
        }
        var environment = ["KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"]
        let inCluster = try KubernetesConfiguration.inCluster(environment: environment, files: scratch.path)
        #expect(inCluster.server == "https://[fd00::1]:443")
        #expect(inCluster.token == .file("\(scratch.path)/token"))
        #expect(inCluster.trust == .certificates(.file("\(scratch.path)/ca.crt")))
        environment["KUBERNETES_SERVICE_HOST"] = "10.96.0.1"
        #expect(
            try KubernetesConfiguration.inCluster(environment: environment, files: scratch.path).server
                == "https://10.96.0.1:443")
        #expect(throws: KubernetesError.self) {
            try KubernetesConfiguration.inCluster(environment: environment, files: scratch.path + "/none")
        }
        #expect {
            try KubernetesConfiguration.inCluster(environment: [:], files: scratch.path)
        } throws: { ($0 as? KubernetesError)?.message.contains("--kubeconfig") == true }
    }

    @Test func `a token that is replaced is used at once, and one that is lost for a moment is kept`() async throws {
        try scratch.write("first\n", to: "token")
        try await TestCluster.run { cluster in
            let client = KubernetesClient(
                KubernetesConfiguration(server: cluster.url, token: .file("\(scratch.path)/token")), log: quiet)
            func tokens() async throws -> [String?] {
                _ = try await client.get(Named.self, .pods, namespace: "default", name: "a")
                return cluster.requests.map(\.authorization)
            }
            cluster.require(token: "first")
            #expect(try await tokens() == ["Bearer first"])
            cluster.require(token: "second")
            await #expect(throws: KubernetesError.self) { try await tokens() }
            try scratch.write("second", to: "token")
            #expect(try await tokens().last == "Bearer second")
            try FileManager.default.removeItem(atPath: "\(scratch.path)/token")
            #expect(try await tokens().last == "Bearer second")
        }
    }

    @Test func `a copy whose token has run out goes on once there is another`() async throws {
        try scratch.write("first", to: "token")
        try await TestCluster.run { cluster in
            var patience = KubernetesClient.Patience()
            patience.longestPause = .milliseconds(20)
            let following = Following(
                KubernetesClient(
                    KubernetesConfiguration(server: cluster.url, token: .file("\(scratch.path)/token")),
                    patience: patience, log: quiet))
            cluster.require(token: "second")
            try cluster.put(pod("a"))
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await following.watch.run() }
                await following.wait { _ in cluster.requests.count { $0.status == 401 } > 2 }
                #expect(!following.copy.isSynced)
                try scratch.write("second", to: "token")
                await following.wait { $0.names == ["a"] }
                group.cancelAll()
            }
        }
    }
}
