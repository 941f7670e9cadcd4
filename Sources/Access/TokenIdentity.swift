package import Foundation

/// Who a token says that its bearer is, verified.
package struct TokenIdentity: Hashable, Sendable {
    /// `system:serviceaccount:NAMESPACE:NAME` of a service account's.
    package var name: String
    /// A service account's are those that the API server gives it; another's are in its claim `groups`.
    package var groups: Set<String>
    /// Where the pod runs that the token is bound to.
    package var node: String?
    package var expires: Date

    package init(name: String, groups: Set<String> = [], node: String? = nil, expires: Date) {
        self.name = name
        self.groups = groups
        self.node = node
        self.expires = expires
    }
}

/// What of a token's payload is looked at. Upstream: kubernetes pkg/serviceaccount/claims.go; `kubernetes.io.node` is in
/// tokens that are bound to pods since 1.30 (feature ServiceAccountTokenPodNodeInfo).
struct TokenClaims: Hashable, Sendable, Codable {
    /// RFC 7519, section 4.1.3: one, or a list.
    struct Audience: Hashable, Sendable, Codable {
        var names: [String]

        init(names: [String]) { self.names = names }

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            names = try (try? [container.decode(String.self)]) ?? container.decode([String].self)
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            try container.encode(names)
        }
    }

    struct Reference: Hashable, Sendable, Codable {
        var name: String
        var uid: String?
    }

    struct Kubernetes: Hashable, Sendable, Codable {
        var namespace: String?
        var pod: Reference?
        var node: Reference?
    }

    var issuer: String
    var subject: String
    var audience: Audience
    /// Seconds since 1970.
    var expires: Double
    var notBefore: Double?
    var groups: [String]?
    var kubernetes: Kubernetes?

    private enum CodingKeys: String, CodingKey {
        case issuer = "iss"
        case subject = "sub"
        case audience = "aud"
        case expires = "exp"
        case notBefore = "nbf"
        case groups
        case kubernetes = "kubernetes.io"
    }

    /// Upstream: apiserver pkg/authentication/serviceaccount/util.go, MakeGroupNames.
    var allGroups: Set<String> {
        guard let namespace = kubernetes?.namespace, subject.hasPrefix("system:serviceaccount:\(namespace):") else {
            // No token gives itself a name that is Kubernetes' own.
            return Set((groups ?? []).filter { !$0.hasPrefix("system:") })
        }
        return ["system:serviceaccounts", "system:serviceaccounts:\(namespace)", "system:authenticated"]
    }
}
