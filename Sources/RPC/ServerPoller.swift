import CGRPC
import Synchronization

/// A method as the server offers it.
/// Unchecked: `registered` is the core's, constant while the server lives.
@safe struct ServerRoute: @unchecked Sendable {
    var path: String
    /// Nil: every method that is not registered.
    var registered: UnsafeMutableRawPointer?
    /// Whether the core reads the request before it reports the call.
    var readsRequest: Bool
    /// Calls that wait in the core for their client.
    var slots: Int
    var handler: RPCService.Handler
    var statistics: MethodStatistics
}

/// A server's completion queue with the threads that serve it, and the count of calls that use it.
@safe final class ServerPoller: Sendable {
    let queue = CompletionQueue()
    let threads: PollingThreads
    /// Calls that still owe or are owed a tag, and one for the server's own tag. Nothing can be started on the queue
    /// when it is 0, so then, and only then, the queue may be shut down.
    private let live = Atomic(1)
    /// How many of those only wait for a client.
    private let slots = Atomic(0)
    /// Conversations last as long as their clients like: by the address of each; nil once the server stops.
    private let conversations = Mutex<[ObjectIdentifier: ServerCall]?>([:])
    private let maxOpenCalls: Int
    // nonisolated(unsafe): the core synchronises the server itself, and outlives every call of this poller.
    nonisolated(unsafe) private let server: OpaquePointer

    init(server: OpaquePointer, maxOpenCalls: Int) {
        threads = PollingThreads(queue)
        self.maxOpenCalls = maxOpenCalls
        unsafe self.server = unsafe server
        unsafe grpc_server_register_completion_queue(server, queue.raw, nil)
    }

    /// Offers the route's calls to clients.
    func open(_ route: ServerRoute) {
        slots.add(route.slots, ordering: .relaxed)
        for _ in 0..<route.slots { arm(route) }
    }

    /// After the server's shutdown the tag comes back at once, as failed.
    private func arm(_ route: ServerRoute) {
        live.add(1, ordering: .relaxed)
        if unsafe !ServerCall(route, self).request(server) { callEnded() }
    }

    /// Puts another call in the place of one that has come; false when too many are open.
    func rearm(_ route: ServerRoute) -> Bool {
        arm(route)
        return live.load(ordering: .relaxed) - slots.load(ordering: .relaxed) - 1 <= maxOpenCalls
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
