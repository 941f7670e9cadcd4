import CGRPC
import Synchronization

/// A method as the server offers it.
/// Unchecked: `registered` is the core's, constant while the server lives.
@safe final class ServerRoute: @unchecked Sendable {
    let path: String
    /// Nil: every method that is not registered.
    let registered: UnsafeMutableRawPointer?
    /// Whether the core reads the request before it reports the call.
    let readsRequest: Bool
    /// Calls that wait in the core for their client.
    let slots: Int
    let handler: RPCService.Handler
    let statistics: MethodStatistics
    let openCalls: OpenCalls

    init(
        path: String, registered: UnsafeMutableRawPointer?, readsRequest: Bool, slots: Int,
        handler: @escaping RPCService.Handler, statistics: MethodStatistics, openCalls: OpenCalls
    ) {
        self.path = path
        unsafe self.registered = unsafe registered
        self.readsRequest = readsRequest
        self.slots = slots
        self.handler = handler
        self.statistics = statistics
        self.openCalls = openCalls
    }
}

/// How many calls may be open at a time, and how many are.
final class OpenCalls: Sendable {
    private let most: Int
    private let count = Atomic(0)

    init(most: Int) { self.most = most }

    /// False when there are too many now, with this one, which counts until it has ended as well.
    func begin() -> Bool { count.add(1, ordering: .relaxed).newValue <= most }

    func end() { count.subtract(1, ordering: .relaxed) }
}

/// A server's completion queue with the threads that serve it, and the count of calls that use it.
@safe final class ServerPoller: Sendable {
    let queue = CompletionQueue()
    let threads: PollingThreads
    /// Calls that still owe or are owed a tag, and one for the server's own tag. Nothing can be started on the queue
    /// when it is 0, so then, and only then, the queue may be shut down.
    private let live = Atomic(1)
    /// Conversations last as long as their clients like: by the address of each; nil once the server stops.
    private let conversations = Mutex<[ObjectIdentifier: ServerCall]?>([:])
    // nonisolated(unsafe): the core synchronises the server itself, and outlives every call of this poller.
    nonisolated(unsafe) private let server: OpaquePointer

    init(server: OpaquePointer, moment: Duration) {
        threads = PollingThreads(queue, moment: moment)
        unsafe self.server = unsafe server
        unsafe grpc_server_register_completion_queue(server, queue.raw, nil)
    }

    /// Offers the route's calls to clients.
    func open(_ route: ServerRoute) {
        for _ in 0..<route.slots { arm(route) }
    }

    /// Offers one call. After the server's shutdown its tag comes back at once, as failed.
    func arm(_ route: ServerRoute) {
        live.add(1, ordering: .relaxed)
        if unsafe !ServerCall(route, self).request(server) { callEnded() }
    }

    /// False when the server stops and nobody may begin one any more.
    func conversationBegan(_ call: ServerCall) -> Bool {
        conversations.withLock { conversations in
            conversations?[ObjectIdentifier(call)] = call
            return conversations != nil
        }
    }

    func conversationEnded(_ call: ServerCall) {
        _ = conversations.withLock { $0?.removeValue(forKey: ObjectIdentifier(call)) }
    }

    func endConversations() {
        let open = conversations.withLock { conversations in
            defer { conversations = nil }
            return conversations ?? [:]
        }
        for call in open.values { call.finish(.failure(.stopping)) }
    }

    /// Once the server has stopped: whether every call is gone.
    var isIdle: Bool { live.load(ordering: .relaxed) == 0 }

    func callEnded() {
        if live.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 { queue.shutdown() }
    }
}
