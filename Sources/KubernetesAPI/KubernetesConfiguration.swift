import Foundation

/// Where the API server is, whom it is believed to be, and who asks.
package struct KubernetesConfiguration: Hashable, Sendable {
    /// `https://HOST:PORT`, with a path where a proxy wants one; no slash at the end.
    package var server: String
    package var trust: Trust
    /// The name in the server's certificate, where it is not the URL's host.
    package var tlsServerName: String?
    package var certificate: ClientCertificate?
    package var token: Material?
    /// The context's name, where a kubeconfig file told all this.
    package var context: String?

    package enum Trust: Hashable, Sendable {
        case system
        case certificates(Material)
        /// insecure-skip-tls-verify.
        case anyone
    }

    /// Bytes, or the file that holds them; a file is read again for each request, so it may be replaced at any time.
    package enum Material: Hashable, Sendable {
        case bytes([UInt8])
        case file(String)
    }

    package struct ClientCertificate: Hashable, Sendable {
        package var chain: Material
        package var key: Material
    }

    /// An API server that wants to know nothing: `kubectl proxy`, or one of the tests'.
    package init(server: String, token: Material? = nil) {
        self.server = server.hasSuffix("/") ? String(server.dropLast()) : server
        trust = .system
        self.token = token
    }

    private static let serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

    /// As a pod's service account is told. Throws `configuration` outside of a pod.
    package static func inCluster(
        environment: [String: String] = ProcessInfo.processInfo.environment, files: String = serviceAccount
    ) throws(KubernetesError) -> KubernetesConfiguration {
        guard let host = environment["KUBERNETES_SERVICE_HOST"], !host.isEmpty,
            let port = environment["KUBERNETES_SERVICE_PORT"], !port.isEmpty
        else {
            throw KubernetesError(
                .configuration,
                """
                this process is in no pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; name a \
                kubeconfig file with --kubeconfig
                """)
        }
        let token = Material.file(files + "/token")
        guard try !token.read().isEmpty else {
            throw KubernetesError(.configuration, "the service account's token \(files)/token is empty")
        }
        var configuration = KubernetesConfiguration(
            server: "https://\(host.contains(":") ? "[\(host)]" : host):\(port)", token: token)
        configuration.trust = .certificates(.file(files + "/ca.crt"))
        return configuration
    }
}

extension KubernetesConfiguration.Material {
    /// Throws `configuration` where the file cannot be read.
    func read() throws(KubernetesError) -> [UInt8] {
        switch self {
        case .bytes(let bytes): return bytes
        case .file(let path):
            do {
                return try Array(Data(contentsOf: URL(filePath: path)))
            } catch {
                // Of a directory Foundation says by itself no more than a number.
                let cause = ((error as? CocoaError)?.underlying as NSError?)?.localizedFailureReason
                throw KubernetesError(
                    .configuration, "\(path) cannot be read: \(cause ?? error.localizedDescription)")
            }
        }
    }
}
