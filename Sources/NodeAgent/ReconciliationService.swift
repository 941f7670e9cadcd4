import ServiceLifecycle

/// Runs the passes until the agent is shut down.
package struct ReconciliationService: Service {
    private static let interval = Duration.milliseconds(200)

    private let first: Reconciliation

    package init(_ reconciliation: Reconciliation) { first = reconciliation }

    package func run() async throws {
        await cancelWhenGracefulShutdown {
            var reconciliation = first
            while !Task.isCancelled {
                await reconciliation.pass(at: .now)
                try? await Task.sleep(for: Self.interval)
            }
        }
    }
}
