import RPC
import Synchronization

/// Whether this server can serve, told alike to /readyz and to gRPC's health service: by its role among the servers, and by
/// what its store says.
final class Standing: Sendable {
    private struct State {
        var role: String? = "the server is starting"
        var store: String?
    }

    private let state = Mutex(State())
    private let readiness: Readiness
    private let health: HealthService

    init(_ readiness: Readiness, _ health: HealthService) {
        self.readiness = readiness
        self.health = health
    }

    /// Why this server does not serve, being what it is; nil: it does.
    func set(role reason: String?) { set { $0.role = reason } }

    /// Why the store takes no changes; nil: it does.
    func set(store reason: String?) { set { $0.store = reason } }

    private func set(_ change: (inout State) -> Void) {
        state.withLock { state in
            change(&state)
            let reason = state.role ?? state.store
            readiness.set(reason)
            for service in health.services { health.set(service, reason == nil ? .serving : .notServing) }
        }
    }
}
