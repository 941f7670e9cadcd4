import Foundation
import Yams

extension KubernetesConfiguration {
    /// As a kubeconfig file tells, by its current context unless one is named. Paths in it are relative to it.
    package static func kubeconfig(
        _ path: String, context: String? = nil
    ) throws(KubernetesError) -> KubernetesConfiguration {
        let file: Kubeconfig
        do {
            file = try YAMLDecoder().decode(Kubeconfig.self, from: Data(try Material.file(path).read()))
        } catch let error as KubernetesError {
            throw error
        } catch {
            throw KubernetesError(.configuration, "\(path) is no kubeconfig file: \(error)")
        }
        return try Reader(path: path).configuration(file, context: context)
    }

    private struct Reader {
        let path: String

        func configuration(_ file: Kubeconfig, context: String?) throws(KubernetesError) -> KubernetesConfiguration {
            guard let name = context ?? file.currentContext, !name.isEmpty else {
                throw failure("has no current-context; name one with --kube-context")
            }
            guard let context = file.contexts?.first(where: { $0.name == name })?.context else {
                throw failure("has no context \"\(name)\"")
            }
            guard let cluster = file.clusters?.first(where: { $0.name == context.cluster })?.cluster else {
                throw failure("has no cluster \"\(context.cluster)\"")
            }
            guard let server = cluster.server, let url = URL(string: server), url.host() != nil,
                ["https", "http"].contains(url.scheme)
            else { throw failure("has no server https://… for cluster \"\(context.cluster)\"") }
            guard cluster.proxyURL == nil else { throw failure("has a proxy-url, which is not supported") }
            var configuration = KubernetesConfiguration(server: server)
            configuration.context = name
            configuration.tlsServerName = cluster.tlsServerName
            if cluster.insecureSkipTLSVerify == true {
                configuration.trust = .anyone
            } else if let authority = try material(
                cluster.certificateAuthorityData, cluster.certificateAuthority, "certificate-authority")
            {
                configuration.trust = .certificates(authority)
            }
            guard let userName = context.user, !userName.isEmpty else { return configuration }
            guard let user = file.users?.first(where: { $0.name == userName })?.user else {
                throw failure("has no user \"\(userName)\"")
            }
            try identify(&configuration, as: user, named: userName)
            return configuration
        }

        private func identify(
            _ configuration: inout KubernetesConfiguration, as user: Kubeconfig.User, named name: String
        ) throws(KubernetesError) {
            for (method, isUsed) in [
                ("exec", user.exec != nil), ("auth-provider", user.authProvider != nil),
                ("username and password", user.username != nil),
            ] where isUsed {
                throw failure(
                    """
                    logs user \"\(name)\" in by \(method), which is not supported; make a service account and put its \
                    token there, with tokenFile or token
                    """)
            }
            // As kubectl: the file goes before the token.
            if let tokenFile = user.tokenFile, !tokenFile.isEmpty {
                configuration.token = .file(absolute(tokenFile))
            } else if let token = user.token, !token.isEmpty {
                configuration.token = .bytes(Array(token.utf8))
            }
            let chain = try material(user.clientCertificateData, user.clientCertificate, "client-certificate")
            let key = try material(user.clientKeyData, user.clientKey, "client-key")
            switch (chain, key) {
            case (let chain?, let key?): configuration.certificate = ClientCertificate(chain: chain, key: key)
            case (nil, nil): break
            default: throw failure("needs client-certificate and client-key together for user \"\(name)\"")
            }
        }

        /// Data goes before the file, as kubectl has it.
        private func material(
            _ data: String?, _ file: String?, _ field: String
        ) throws(KubernetesError) -> Material? {
            if let data, !data.isEmpty {
                guard let bytes = Data(base64Encoded: data, options: .ignoreUnknownCharacters) else {
                    throw failure("has no base64 in \(field)-data")
                }
                return .bytes(Array(bytes))
            }
            return file.flatMap { $0.isEmpty ? nil : .file(absolute($0)) }
        }

        private func absolute(_ file: String) -> String {
            URL(filePath: file, relativeTo: URL(filePath: path).deletingLastPathComponent()).path
        }

        private func failure(_ what: String) -> KubernetesError { KubernetesError(.configuration, "\(path) \(what)") }
    }
}

/// A kubeconfig file (client-go tools/clientcmd/api/v1/types.go), as far as it is used.
private struct Kubeconfig: Decodable {
    struct NamedCluster: Decodable {
        var name: String
        var cluster: Cluster
    }
    struct Cluster: Decodable {
        var server: String?
        var certificateAuthority: String?
        var certificateAuthorityData: String?
        var insecureSkipTLSVerify: Bool?
        var tlsServerName: String?
        var proxyURL: String?

        private enum CodingKeys: String, CodingKey {
            case server
            case certificateAuthority = "certificate-authority"
            case certificateAuthorityData = "certificate-authority-data"
            case insecureSkipTLSVerify = "insecure-skip-tls-verify"
            case tlsServerName = "tls-server-name"
            case proxyURL = "proxy-url"
        }
    }
    struct NamedContext: Decodable {
        var name: String
        var context: Context
    }
    struct Context: Decodable {
        var cluster: String
        var user: String?
    }
    struct NamedUser: Decodable {
        var name: String
        var user: User?
    }
    struct Present: Decodable { init(from decoder: any Decoder) {} }
    struct User: Decodable {
        var token: String?
        var tokenFile: String?
        var clientCertificate: String?
        var clientCertificateData: String?
        var clientKey: String?
        var clientKeyData: String?
        var username: String?
        var exec: Present?
        var authProvider: Present?

        private enum CodingKeys: String, CodingKey {
            case token, tokenFile, username, exec
            case clientCertificate = "client-certificate"
            case clientCertificateData = "client-certificate-data"
            case clientKey = "client-key"
            case clientKeyData = "client-key-data"
            case authProvider = "auth-provider"
        }
    }
    var currentContext: String?
    var clusters: [NamedCluster]?
    var contexts: [NamedContext]?
    var users: [NamedUser]?

    private enum CodingKeys: String, CodingKey {
        case clusters, contexts, users
        case currentContext = "current-context"
    }
}
