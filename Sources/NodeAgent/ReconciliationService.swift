import ServiceLifecycle

/// Runs the passes until the agent is shut down.
package struct ReconciliationService: Service {
    /// The latest that a pass is repeated; one comes sooner where the source has something new.
    private static let interval = Duration.seconds(1)

    private let first: Reconciliation

    package init(_ reconciliation: Reconciliation) { first = reconciliation }

    package func run() async throws {
        await cancelWhenGracefulShutdown {
            var reconciliation = first
            while !Task.isCancelled {
                await reconciliation.pass(at: .now)
                await reconciliation.change(within: Self.interval)
            }
        }
    }
}
