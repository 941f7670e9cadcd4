import Foundation
package import KubernetesAPI

/// Where the keys are that tokens are signed with, and what issuer signs with them.
package enum KeySource: Sendable {
    /// The API server's own, for tokens of its service accounts.
    case kubernetes(KubernetesClient)
    /// A file with a JSON Web Key Set (RFC 7517).
    case file(String, issuer: String)

    struct Keys: Sendable {
        var issuer: String
        var json: String
    }

    /// Whether the issuer may be another at the next fetch.
    var discoversIssuer: Bool { if case .kubernetes = self { true } else { false } }

    /// As they are now. Throws where they cannot be had.
    func fetch() async throws -> Keys {
        switch self {
        case .kubernetes(let client):
            let discovered = try await client.serviceAccountKeys()
            return Keys(issuer: discovered.issuer, json: discovered.keys)
        case .file(let path, let issuer):
            return Keys(issuer: issuer, json: try String(contentsOfFile: path, encoding: .utf8))
        }
    }

    /// The node of a pod that a token is bound to, where the token does not tell; nil: nobody else does.
    func node(ofPod name: String, uid: String, namespace: String) async throws -> String? {
        guard case .kubernetes(let client) = self else { return nil }
        let pod = try await client.get(BoundPod.self, .pods, namespace: namespace, name: name)
        guard let pod, pod.metadata.uid == uid else { return nil }
        return pod.spec.nodeName
    }
}

/// What of a pod tells its node.
private struct BoundPod: Decodable, Sendable {
    struct Metadata: Decodable, Sendable { var uid: String }
    struct Spec: Decodable, Sendable { var nodeName: String? }
    var metadata: Metadata
    var spec: Spec
}
