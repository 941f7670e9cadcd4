import CGRPC

/// How a server proves who it is, and whom it lets in. Everything in PEM.
package enum ServerCredentials: Sendable {
    case insecure
    /// With `clientCA` only clients whose certificate it signed are let in.
    case tls(certificateChain: String, privateKey: String, clientCA: String?)

    /// The core's form; the caller releases it. Nil where the PEM is not usable.
    func makeCore() -> OpaquePointer? {
        switch self {
        case .insecure: return unsafe grpc_insecure_server_credentials_create()
        case .tls(let chain, let key, let clientCA):
            return unsafe chain.withCString { chain in
                unsafe key.withCString { key in
                    var pair = unsafe grpc_ssl_pem_key_cert_pair(private_key: key, cert_chain: chain)
                    guard let clientCA else {
                        return unsafe grpc_ssl_server_credentials_create_ex(
                            nil, &pair, 1, GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE, nil)
                    }
                    return unsafe grpc_ssl_server_credentials_create_ex(
                        clientCA, &pair, 1, GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY, nil)
                }
            }
        }
    }
}

/// How a client proves who it is, and whom it believes. Everything in PEM.
package enum ChannelCredentials: Sendable {
    case insecure
    /// `roots` nil: the system's. A certificate is shown where both chain and key are given. `serverName` is looked for
    /// in the server's certificate in place of the target's host.
    case tls(roots: String?, certificateChain: String? = nil, privateKey: String? = nil, serverName: String? = nil)

    var serverName: String? {
        guard case .tls(_, _, _, let serverName) = self else { return nil }
        return serverName
    }

    /// The core's form; the caller releases it. Nil where the PEM is not usable.
    func makeCore() -> OpaquePointer? {
        switch self {
        case .insecure: return unsafe grpc_insecure_credentials_create()
        case .tls(let roots, let chain, let key, _):
            guard let chain, let key else { return unsafe grpc_ssl_credentials_create_ex(roots, nil, nil, nil) }
            return unsafe chain.withCString { chain in
                unsafe key.withCString { key in
                    var pair = unsafe grpc_ssl_pem_key_cert_pair(private_key: key, cert_chain: chain)
                    return unsafe grpc_ssl_credentials_create_ex(roots, &pair, nil, nil)
                }
            }
        }
    }
}

/// Who stands at the other end of a connection, as far as its certificate was verified.
package struct PeerIdentity: Sendable, Hashable {
    package var isAuthenticated: Bool
    /// Subject alternative names, as the certificate has them.
    package var alternativeNames: [String]
    package var commonName: String?

    init(call: OpaquePointer) {
        isAuthenticated = false
        alternativeNames = []
        guard let context = unsafe grpc_call_auth_context(call) else { return }
        defer { unsafe grpc_auth_context_release(context) }
        isAuthenticated = unsafe grpc_auth_context_peer_is_authenticated(context) != 0
        alternativeNames = unsafe Self.values(GRPC_X509_SAN_PROPERTY_NAME, in: context)
        commonName = unsafe Self.values(GRPC_X509_CN_PROPERTY_NAME, in: context).first
    }

    init() {
        isAuthenticated = false
        alternativeNames = []
    }

    private static func values(_ name: String, in context: OpaquePointer) -> [String] {
        // The iterator keeps the pointer to the name.
        unsafe name.withCString { name in
            var values: [String] = []
            var iterator = unsafe grpc_auth_context_find_properties_by_name(context, name)
            while let property = unsafe grpc_auth_property_iterator_next(&iterator) {
                let value = unsafe UnsafeRawBufferPointer(
                    start: property.pointee.value, count: property.pointee.value_length)
                unsafe values.append(String(decoding: value, as: UTF8.self))
            }
            return values
        }
    }
}
