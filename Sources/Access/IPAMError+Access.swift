import IPAMModel

extension IPAMError {
    static let noCredentials = IPAMError(
        .unauthenticated, .credentialsMissing,
        "the call has neither a token (metadata authorization: Bearer …) nor a client certificate: give --token-file, or "
            + "--tls-cert and --tls-key")

    static func tokenRefused(_ why: String) -> IPAMError {
        IPAMError(
            .unauthenticated, .tokenRefused,
            "the token is refused: \(why); ask with a token of this cluster's for this service's audience",
            metadata: ["why": why])
    }

    static let tooManyUnknown = IPAMError(
        .resourceExhausted, .overloaded, "too many callers wait until the API server tells who they are: try again")

    static func keysUnavailable(_ why: String) -> IPAMError {
        IPAMError(.unavailable, .tokenKeysUnavailable, "nobody can be verified: \(why); try again")
    }
}
