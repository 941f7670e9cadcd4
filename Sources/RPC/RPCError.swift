/// Why a server or a channel could not be made.
package enum RPCError: Error, Sendable, Hashable {
    /// Methods of the proto without a handler, or handlers without a method: each named.
    case methods([String])
    case bind(address: String, reason: String)
    case credentials(String)
    /// Started twice, or after its shutdown.
    case state(String)
}

extension RPCError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .methods(let problems): "the services do not fit the proto: " + problems.joined(separator: "; ")
        case .bind(let address, let reason): "cannot listen on \(address): \(reason)"
        case .credentials(let reason): "TLS: \(reason)"
        case .state(let reason): reason
        }
    }
}
