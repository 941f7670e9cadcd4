import CGRPC
import Synchronization

/// What one side shows of itself, and whom it believes. Everything in PEM.
package struct TLSMaterial: Hashable, Sendable {
    package var certificateChain: String
    package var privateKey: String
    /// CA certificates.
    package var authorities: String?

    package init(certificateChain: String, privateKey: String, authorities: String? = nil) {
        self.certificateChain = certificateChain
        self.privateKey = privateKey
        self.authorities = authorities
    }
}

/// How a server proves who it is, and whom it lets in.
package enum ServerCredentials: Sendable {
    /// Whether clients must show a certificate that an authority of the material signed. `optional`: one that is shown is
    /// verified, and who shows none is let in.
    package enum ClientCertificates: Sendable { case unasked, optional, required }

    case insecure
    /// `current` is asked at each handshake: connections that are open already stay as they are.
    case rotating(clients: ClientCertificates, current: @Sendable () -> TLSMaterial)

    /// With `clientCA` only clients whose certificate it signed are let in.
    package static func tls(certificateChain: String, privateKey: String, clientCA: String?) -> ServerCredentials {
        let material = TLSMaterial(certificateChain: certificateChain, privateKey: privateKey, authorities: clientCA)
        return .rotating(clients: clientCA == nil ? .unasked : .required) { material }
    }

    /// The core's form, which the caller releases, and what must live as long as a server uses it.
    func makeCore() -> (credentials: OpaquePointer?, fetcher: CertificateFetcher?) {
        guard case .rotating(let clients, let current) = self else {
            return unsafe (grpc_insecure_server_credentials_create(), nil)
        }
        let fetcher = CertificateFetcher(asksClients: clients != .unasked, current)
        let wanted =
            switch clients {
            case .unasked: GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
            case .optional: GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY
            case .required: GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
            }
        let options = unsafe grpc_ssl_server_credentials_create_options_using_config_fetcher(
            wanted,
            { fetcher, config in
                guard let fetcher = unsafe fetcher, let config = unsafe config else {
                    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_FAIL
                }
                return unsafe Unmanaged<CertificateFetcher>.fromOpaque(fetcher).takeUnretainedValue().fetch(config)
            }, Unmanaged.passUnretained(fetcher).toOpaque())
        return unsafe (grpc_ssl_server_credentials_create_with_options(options), fetcher)
    }
}

/// Gives the core a server's certificates when they have changed. Where it cannot use them, it goes on with those before.
final class CertificateFetcher: Sendable {
    private let asksClients: Bool
    private let current: @Sendable () -> TLSMaterial
    private let given = Mutex<TLSMaterial?>(nil)

    init(asksClients: Bool, _ current: @escaping @Sendable () -> TLSMaterial) {
        self.asksClients = asksClients
        self.current = current
    }

    /// Called by the core before each handshake, one at a time, and once when a listener is bound.
    func fetch(_ config: UnsafeMutablePointer<OpaquePointer?>) -> grpc_ssl_certificate_config_reload_status {
        let material = current()
        let isNew = given.withLock { given in
            defer { given = material }
            return given != material
        }
        guard isNew else { return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED }
        unsafe material.certificateChain.withCString { chain in
            unsafe material.privateKey.withCString { key in
                var pair = unsafe grpc_ssl_pem_key_cert_pair(private_key: key, cert_chain: chain)
                // The core ends the process where there are no authorities, also where it asks no client for a certificate.
                let authorities = asksClients ? material.authorities : nil
                unsafe config.pointee = unsafe grpc_ssl_server_certificate_config_create(
                    authorities ?? material.certificateChain, &pair, 1)
            }
        }
        return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW
    }
}

/// How a client proves who it is, and whom it believes. Everything in PEM.
package enum ChannelCredentials: Hashable, Sendable {
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
