import ServiceLifecycle
import Synchronization

/// Whether the server can take changes, or sends its callers to the one that does, and why not: what /readyz answers.
///
/// As the last service of its group it is the first to be told of a graceful shutdown, and says so until the end.
package final class Readiness: Service {
    private struct State {
        var reason: String? = "the server is starting"
        var isShuttingDown = false
    }

    private let state = Mutex(State())

    package init() {}

    /// Nil: ready.
    package var reason: String? {
        state.withLock { $0.isShuttingDown ? "the server is shutting down" : $0.reason }
    }

    /// Why the server is not ready, in words; nil once it is.
    package func set(_ reason: String?) { state.withLock { $0.reason = reason } }

    package func run() async {
        try? await gracefulShutdown()
        state.withLock { $0.isShuttingDown = true }
    }
}
