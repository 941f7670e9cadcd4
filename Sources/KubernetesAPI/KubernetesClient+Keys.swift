import NIOCore

extension KubernetesClient {
    private struct Discovery: Decodable { var issuer: String }

    /// What service accounts' tokens are verified with: their issuer, and its keys as a JSON Web Key Set. Every service
    /// account may read them (ClusterRole system:service-account-issuer-discovery).
    package func serviceAccountKeys() async throws(KubernetesError) -> (issuer: String, keys: String) {
        let discovery = try decode(
            Discovery.self, try await answer(to: Call(path: "/.well-known/openid-configuration")))
        // The document's jwks_uri may be an address for others; the API server has the same keys here.
        let keys = try await answer(to: Call(path: "/openid/v1/jwks", accept: "application/jwk-set+json"))
        return (discovery.issuer, String(buffer: keys))
    }
}
