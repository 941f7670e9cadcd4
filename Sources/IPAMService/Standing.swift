import RPC
import Synchronization

/// Whether this server can serve, told to /readyz and to gRPC's health service: by its role among the servers, and by what
/// its store says. They differ for a server that stands by, warm: it serves nobody, and yet need not be replaced.
final class Standing: Sendable {
    private struct State {
        var role: String? = "the server is starting"
        var standsBy = false
        var store: String?
    }

    private let state = Mutex(State())
    private let readiness: Readiness
    private let health: HealthService

    init(_ readiness: Readiness, _ health: HealthService) {
        self.readiness = readiness
        self.health = health
    }

    /// Why this server does not serve, being what it is; nil: it does. It `standsBy` where it follows one that does.
    func set(role reason: String?, standsBy: Bool = false) {
        set { state in
            state.role = reason
            state.standsBy = standsBy
        }
    }

    /// Why the store takes no changes; nil: it does.
    func set(store reason: String?) { set { $0.store = reason } }

    private func set(_ change: (inout State) -> Void) {
        state.withLock { state in
            change(&state)
            let reason = state.role ?? state.store
            readiness.set(state.standsBy ? nil : reason)
            for service in health.services { health.set(service, reason == nil ? .serving : .notServing) }
        }
    }
}
