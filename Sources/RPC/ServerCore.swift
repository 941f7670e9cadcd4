import CGRPC
import CInterpose
import Synchronization

/// A running server of the core, with everything that must end with it, in the order in which that must be.
@safe final class ServerCore: Sendable {
    /// Calls offered for each method; the core queues what comes beyond them.
    private static let slots = 16
    /// What one client may have open; more of its calls wait on its own side.
    private static let mostStreams = 1024
    /// Calls of one connection that have not ended here, also those whose streams were reset.
    private static let mostUnended = 2 * mostStreams
    /// All headers of a call; a token of a service account has 1 to 2 KiB.
    private static let mostHeaders = 8192

    // nonisolated(unsafe): the core synchronises it itself.
    nonisolated(unsafe) private let server: OpaquePointer
    private let poller: ServerPoller
    /// Whom the core asks for certificates: they live until the server is destroyed.
    private let fetchers = Mutex<[CertificateFetcher]>([])

    private init(_ server: OpaquePointer, _ configuration: RPCServer.Configuration) {
        unsafe self.server = unsafe server
        poller = unsafe ServerPoller(server: server, moment: configuration.moment)
    }

    static func start(
        _ configuration: RPCServer.Configuration, _ entries: [RPCService.Entry], _ unknown: MethodStatistics
    ) throws(RPCError) -> (ServerCore, [String]) {
        RPCRuntime.start()
        ConnectionLimit.set(configuration.maxConnections)
        cinterpose_set_most_streams(mostStreams, mostUnended)
        cinterpose_set_most_headers(UInt32(mostHeaders))
        for listener in configuration.listeners { try ListenAddress(text: listener.address).check() }
        guard let quota = ResourceQuota(name: "rpc-server", bytes: configuration.maxBufferBytes) else {
            throw .state("the core made no quota")
        }
        let server: OpaquePointer? = unsafe ChannelArguments.with(
            ChannelArguments.withoutCompression + [
                (GRPC_ARG_RESOURCE_QUOTA, .quota(quota)),
                (GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, .number(CInt(clamping: configuration.maxMessageBytes))),
                // Two servers on one port would share its connections, and neither would know.
                (GRPC_ARG_ALLOW_REUSEPORT, .number(0)),
                (GRPC_ARG_ENABLE_CHANNELZ, .number(0)),
                (GRPC_ARG_MAX_CONCURRENT_STREAMS, .number(CInt(mostStreams))),
                // What is read of a connection before others get their turn: the core's 4 MiB are 100,000 small calls.
                (GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, .number(16_384)),
                (GRPC_ARG_MAX_METADATA_SIZE, .number(CInt(mostHeaders))),
                // Who connects and then says nothing keeps a descriptor no longer than this.
                (GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, .number(10_000)),
                // And who calls nothing no longer than this: a client connects again with its next call.
                (GRPC_ARG_MAX_CONNECTION_IDLE_MS, .number(300_000)),
                // A client that vanished without a word is noticed, so that its streams end.
                (GRPC_ARG_KEEPALIVE_TIME_MS, .number(30_000)),
                (GRPC_ARG_KEEPALIVE_TIMEOUT_MS, .number(20_000)),
                (GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, .number(1)),
                // Who pings more often than that three times is disconnected (GOAWAY, too_many_pings).
                (GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, .number(5_000)),
                (GRPC_ARG_HTTP2_MAX_PING_STRIKES, .number(2)),
            ]
        ) { unsafe grpc_server_create($0, nil) }
        guard let server = unsafe server else { throw .state("the core made no server") }
        let core = unsafe ServerCore(server, configuration)
        let openCalls = OpenCalls(most: configuration.maxOpenCalls)
        var addresses: [String] = []
        var routes = [ServerRoute.unknownMethod(unknown, openCalls)]
        do throws(RPCError) {
            for listener in configuration.listeners { addresses.append(try core.listen(listener)) }
            for entry in entries { routes.append(try core.route(entry, openCalls)) }
        } catch {
            core.discard()
            throw error
        }
        unsafe grpc_server_start(server)
        for route in routes { core.poller.open(route) }
        core.poller.threads.start()
        return (core, addresses)
    }

    private func listen(_ listener: RPCServer.Listener) throws(RPCError) -> String {
        let (made, fetcher) = unsafe listener.credentials.makeCore()
        guard let credentials = unsafe made else {
            throw .credentials("certificate or key for \(listener.address) cannot be used")
        }
        if let fetcher { fetchers.withLock { $0.append(fetcher) } }
        defer { unsafe grpc_server_credentials_release(credentials) }
        let address = ListenAddress(text: listener.address)
        // What the core would write of a failure, in several lines, is said in one below.
        unsafe gpr_set_log_function { _ in }
        let port = unsafe grpc_server_add_http2_port(server, listener.address, credentials)
        gpr_set_log_function(nil)
        guard port > 0 else {
            throw .bind(address: listener.address, reason: address.reasonOfFailure(listener.credentials))
        }
        return address.bound(to: port)
    }

    private func route(_ entry: RPCService.Entry, _ openCalls: OpenCalls) throws(RPCError) -> ServerRoute {
        let readsRequest = entry.method.kind == .unary || entry.method.kind == .serverStreaming
        // Nil would stand for every unknown method.
        guard
            let registered = unsafe grpc_server_register_method(
                server, entry.method.path, nil,
                readsRequest ? GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER : GRPC_SRM_PAYLOAD_NONE, 0)
        else { throw .methods(["\(entry.method.path) is there twice"]) }
        return unsafe ServerRoute(
            path: entry.method.path, registered: registered, readsRequest: readsRequest, slots: Self.slots,
            handler: entry.handler, statistics: entry.statistics, openCalls: entry.openCalls ?? openCalls)
    }

    /// How long calls may take to go once they have been cancelled.
    private static let patience = Duration.seconds(5)

    /// False where a reply is kept that was never given. What its call uses must not be destroyed, so it is not; all
    /// ends in the background when the reply comes after all.
    func shutdown(grace: Duration) async -> Bool {
        let gone = Latch()
        Task {
            await drain(grace: grace)
            gone.open()
        }
        let giveUp = Task {
            do { try await Task.sleep(for: grace + Self.patience) } catch { return }
            gone.open()
        }
        await gone.wait()
        giveUp.cancel()
        return poller.isIdle
    }

    private func drain(grace: Duration) async {
        let drained = ShutdownTag()
        unsafe grpc_server_shutdown_and_notify(server, poller.queue.raw, drained.tag(0))
        poller.endConversations()
        let cancelling = Task {
            do { try await Task.sleep(for: grace) } catch { return }
            unsafe grpc_server_cancel_all_calls(server)
        }
        await drained.latch.wait()
        cancelling.cancel()
        // It must not speak of a server that is destroyed.
        await cancelling.value
        poller.callEnded()
        await poller.threads.wait()
        destroy()
    }

    /// For a server that never ran: no thread polls its queue, so this one does.
    private func discard() {
        let drained = ShutdownTag()
        unsafe grpc_server_shutdown_and_notify(server, poller.queue.raw, drained.tag(0))
        _ = poller.queue.poll()
        poller.callEnded()
        while poller.queue.poll() != .end {}
        destroy()
    }

    private func destroy() {
        unsafe grpc_server_destroy(server)
        poller.queue.destroy()
    }
}

extension ServerRoute {
    /// Without it a call of a method that is not registered would wait for ever.
    fileprivate static func unknownMethod(_ statistics: MethodStatistics, _ openCalls: OpenCalls) -> ServerRoute {
        unsafe ServerRoute(
            path: "", registered: nil, readsRequest: false, slots: 4,
            handler: { call in call.finish(.failure(RPCStatus(.unimplemented, "unknown method"))) },
            statistics: statistics, openCalls: openCalls)
    }
}

/// Opens its latch when the server has no call and no connection any more.
/// Unchecked: has nothing but the latch.
private final class ShutdownTag: Completion, @unchecked Sendable {
    let latch = Latch()

    override func completed(_ operation: Int, success: Bool) { latch.open() }
}
