import IPAMAPI
import Ledger
package import LedgerStore
package import Logging
package import RPC
import ServiceLifecycle

/// The whole service in one process: store, ledger, writer and RPC server.
package struct IPAMServer: Service {
    /// How long calls that are under way may take at shutdown.
    package static let grace = Duration.seconds(10)

    /// Where the ledger is durable: this server's alone, or shared with others.
    private enum Source: Sendable {
        case store(any LedgerStore)
        /// `address` is where clients find this server; nil: its first listener's.
        case shared(any SharedLedger, address: String?)
    }

    package let writer: Writer
    /// Whether this server leads, whenever that changes; the newest only. One that shares its ledger with nobody does.
    package let leadership: AsyncStream<Bool>
    private let leads: AsyncStream<Bool>.Continuation
    private let source: Source
    let rpc: RPCServer
    private let logger: Logger
    private let audit: AuditLog?
    private let standing: Standing
    /// What the ledger has to have before this server says that it serves.
    package var pools: PoolsFile?
    private let onListening: @Sendable ([String]) -> Void

    /// Commits on a local disk take 1 ms or so, few of them longer than this. 2 ms instead cost 5 % more of CPU a call. With a
    /// store that others share one waits for longer than either, and calls are taken meanwhile.
    private static let moment = Duration.milliseconds(10)

    /// Loads the ledger and binds the listeners; answers only once it runs. `onListening` gets the bound addresses.
    package init(
        store: any LedgerStore, rpc configuration: RPCServer.Configuration, gate: Gate = .open, clock: LedgerClock,
        readiness: Readiness, logger: Logger, audit: AuditLog? = nil, awaitsRestore: Bool = false,
        onListening: @escaping @Sendable ([String]) -> Void
    ) throws {
        let ledger = try Ledger(try store.load())
        logger.info("ledger loaded", metadata: ["revision": "\(ledger.committedRevision)"])
        var configuration = configuration
        configuration.moment = Self.moment
        try self.init(
            .store(store), ledger, store, configuration, gate, clock, readiness, logger, audit, awaitsRestore,
            onListening)
    }

    /// Binds the listeners, and takes part in a ledger that several servers share once it runs.
    package init(
        shared: any SharedLedger, advertising address: String?, rpc configuration: RPCServer.Configuration,
        gate: Gate = .open, clock: LedgerClock, readiness: Readiness, logger: Logger, audit: AuditLog? = nil,
        awaitsRestore: Bool = false, onListening: @escaping @Sendable ([String]) -> Void
    ) throws {
        try self.init(
            .shared(shared, address: address), Ledger(), FollowersStore(leader: nil), configuration, gate, clock,
            readiness, logger, audit, awaitsRestore, onListening)
    }

    private init(
        _ source: Source, _ ledger: Ledger, _ store: any LedgerStore, _ configuration: RPCServer.Configuration,
        _ gate: Gate, _ clock: LedgerClock, _ readiness: Readiness, _ logger: Logger,
        _ audit: AuditLog?, _ awaitsRestore: Bool, _ onListening: @escaping @Sendable ([String]) -> Void
    ) throws {
        self.source = source
        self.logger = logger
        self.audit = audit
        self.onListening = onListening
        (leadership, leads) = AsyncStream.makeStream(of: Bool.self, bufferingPolicy: .bufferingNewest(1))
        // The wall clock may have jumped since the last process, or be another machine's: what was freed before waits its
        // whole time again, and copies that were granted before are waited for.
        let clock = clock.carriedOn(notBefore: ledger.newestTime)
        var ledger = ledger
        ledger.start(at: clock.now())
        writer = Writer(ledger, store: store, clock: clock, logger: logger, audit: audit, awaitsRestore: awaitsRestore)
        rpc = try RPCServer(configuration: configuration, services: writer.services(gate))
        standing = Standing(readiness, rpc.health)
    }

    /// The newest revision of the ledger that this server knows, also where another serves it; 0: it knows none.
    var newestRevision: UInt64 {
        let served = writer.read { ledger, _ in ledger.committedRevision }
        guard case .shared(let ledger, _) = source else { return served }
        return max(served, ledger.newestRevision)
    }

    /// Serves until graceful shutdown: then takes no more calls, answers those it has, and closes the store.
    package func run() async throws {
        let addresses = try rpc.start()
        if case .shared(let ledger, let address) = source {
            standing.set(role: "no server leads yet")
            ledger.start(advertising: address ?? addresses.first ?? "")
        } else {
            tellWhatIsAwaited()
            standing.set(role: nil)
            leads.yield(true)
        }
        onListening(addresses)
        // A server that cannot serve says so to who asks for its health.
        let health = Task { for await failure in writer.storeStates { standing.set(store: failure) } }
        let roles = Task { await followRoles() }
        let keeper = Task {
            var keeper = HistoryKeeper(writer: writer, logger: logger)
            await keeper.run()
        }
        try? await gracefulShutdown()
        logger.info("shutting down")
        writer.watches.close()
        if await !rpc.shutdown(grace: Self.grace) {
            logger.error("calls that were never answered end with the process")
        }
        // Before the writer: a commit that etcd does not take ends with the lease only.
        if case .shared(let ledger, _) = source { await blocking { ledger.close() } }
        keeper.cancel()
        await keeper.value
        await blocking { [writer, source] in
            writer.close()
            if case .store(let store) = source { store.close() }
        }
        health.cancel()
        roles.cancel()
    }

    private func followRoles() async {
        guard case .shared(let ledger, _) = source else { return }
        for await role in ledger.roles {
            switch role {
            case .leading(let ledger, let store):
                await serve(ledger, from: store)
                tellWhatIsAwaited()
                await pools?.applyAgain()
                standing.set(role: nil)
                leads.yield(true)
            case .following(let leader):
                leads.yield(false)
                standing.set(
                    role: leader.map { "the server at \($0) leads" } ?? "no server leads yet", standsBy: leader != nil)
                await serve(LedgerInHand(Ledger()), from: FollowersStore(leader: leader))
            case .failing(let reason):
                leads.yield(false)
                standing.set(role: reason)
                await serve(LedgerInHand(Ledger()), from: FollowersStore(leader: nil))
            }
        }
    }

    private func serve(_ ledger: LedgerInHand, from store: any LedgerStore) async {
        await blocking { [writer] in writer.serve(ledger, from: store) }
    }

    private func tellWhatIsAwaited() {
        guard writer.isAwaitingRestore else { return }
        logger.warning("the ledger is empty: nobody is given an address until `holdfast restore` (--await-restore)")
    }
}
