import IPAMAPI
package import IPAMModel
import Ledger
package import LedgerStore
package import Logging
package import RPC
import ServiceLifecycle

/// The whole service in one process: store, ledger, writer and RPC server.
package struct IPAMServer: Service {
    /// How long calls that are under way may take at shutdown.
    package static let grace = Duration.seconds(10)

    package let writer: Writer
    private let store: any LedgerStore
    let rpc: RPCServer
    private let logger: Logger
    private let readiness: Readiness
    private let onListening: @Sendable ([String]) -> Void

    /// Loads the ledger and binds the listeners; answers only once it runs. `onListening` gets the bound addresses.
    package init(
        store: any LedgerStore, rpc configuration: RPCServer.Configuration, wallClock: Timestamp, readiness: Readiness,
        logger: Logger, onListening: @escaping @Sendable ([String]) -> Void
    ) throws {
        let snapshot = try store.load()
        let newest = max(
            snapshot.bindings.lazy.map(\.updatedAt).max() ?? Timestamp(nanoseconds: 0),
            snapshot.freed.lazy.map(\.freedAt).max() ?? Timestamp(nanoseconds: 0))
        logger.info(
            "ledger loaded",
            metadata: [
                "bindings": "\(snapshot.bindings.count)", "pools": "\(snapshot.pools.count)",
                "revision": "\(snapshot.revision)",
            ])
        self.store = store
        self.logger = logger
        self.readiness = readiness
        self.onListening = onListening
        writer = Writer(
            try Ledger(snapshot), store: store, clock: LedgerClock(wallClock: wallClock, notBefore: newest),
            logger: logger)
        rpc = try RPCServer(configuration: configuration, services: [writer.ipamService, writer.poolsService])
    }

    /// Serves until graceful shutdown: then takes no more calls, answers those it has, and closes the store.
    package func run() async throws {
        let addresses = try rpc.start()
        readiness.set(nil)
        onListening(addresses)
        // A server whose store takes no changes says so to who asks for its health.
        let health = Task {
            for await failure in writer.storeStates {
                readiness.set(failure)
                for service in rpc.health.services { rpc.health.set(service, failure == nil ? .serving : .notServing) }
            }
        }
        try? await gracefulShutdown()
        health.cancel()
        logger.info("shutting down")
        writer.watches.close()
        if await !rpc.shutdown(grace: Self.grace) {
            logger.error("calls that were never answered end with the process")
        }
        writer.close()
        store.close()
    }
}
