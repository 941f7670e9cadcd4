import CGRPC
import CInterpose
import Synchronization

/// One call that a server has taken: its facts for handlers, and the batches of the core that answer it.
///
/// May be kept as long as one likes. What belongs to the core is given back when the call ends; from then on its facts
/// are empty and sending fails.
/// Unchecked: `storage` is written by the core between the start and the end of an operation, and else only under
/// `state`'s lock; all else is constant or under the lock.
@safe package final class ServerCall: Completion, @unchecked Sendable {
    /// The tags of a call, by the batch that they end.
    private enum Operation: Int { case requested, closed, finished, sent, received }

    /// Where the core writes: memory that does not move.
    @unsafe private struct Storage {
        var call: OpaquePointer?
        /// Of a method that is not registered.
        var details = unsafe grpc_call_details()
        var deadline = gpr_timespec()
        var metadata = unsafe grpc_metadata_array()
        var received: UnsafeMutablePointer<grpc_byte_buffer>?
        var cancelled: CInt = 0
    }

    /// armed -> open (a call came) -> ending (its status is on the way) -> ended (every tag is back); armed -> ended.
    private enum Phase { case armed, open, ending, ended }

    private struct State {
        var phase = Phase.armed
        /// In nanoseconds of the core's clock.
        var arrived: Int64 = 0
        /// Tags that the core still owes.
        var outstanding = 0
        var watchesClose = false
        var sentInitialMetadata = false
        /// Kept until the batch that sends them is done.
        var outgoing: OutgoingMessage?
        var trailing: SentMetadata?
        /// Of calls that are not answered by one reply.
        var long: Long?
    }

    /// A class, so that the state of all other calls is small, and of a size that the compiler knows.
    private final class Long {
        var sending: CheckedContinuation<Bool, Never>?
        var task: Task<Void, Never>?
        var conversation: Conversation?
    }

    typealias Conversation = @Sendable (ReceivedMessage) -> Result<OutgoingMessage, RPCStatus>

    private let route: ServerRoute
    private let poller: ServerPoller
    private let storage: UnsafeMutablePointer<Storage>
    private let state = Mutex(State())
    private let cancelled = Atomic(false)

    init(_ route: ServerRoute, _ poller: ServerPoller) {
        self.route = route
        self.poller = poller
        unsafe storage = .allocate(capacity: 1)
        unsafe storage.initialize(to: Storage())
        if unsafe route.registered == nil { unsafe grpc_call_details_init(storage.field(\.details)) }
        unsafe grpc_metadata_array_init(storage.field(\.metadata))
    }

    deinit { unsafe storage.deallocate() }

    // MARK: What handlers ask

    /// `/service/method`
    package var method: String { route.path }

    /// Whether nobody waits for the answer any more. In the completion form that is only known at the deadline.
    package var isCancelled: Bool {
        if cancelled.load(ordering: .acquiring) { return true }
        return remaining.map { $0 <= .zero } ?? false
    }

    /// Time until the client gives up; nil where it set no deadline.
    package var remaining: Duration? {
        let deadline = unsafe storage.pointee.deadline
        guard deadline.tv_sec != .max else { return nil }
        let left = gpr_time_sub(deadline, gpr_now(deadline.clock_type))
        return .seconds(left.tv_sec) + .nanoseconds(Int64(left.tv_nsec))
    }

    /// A copy of what the client sent with the call.
    package var metadata: RPCMetadata {
        unsafe withCall { _ in unsafe RPCMetadata(copying: storage.pointee.metadata) } ?? RPCMetadata()
    }

    /// A copy of the first value under `key`, which is lower case.
    package func metadata(_ key: StaticString) -> [UInt8]? {
        state.withLock { state in
            state.phase == .ended ? nil : unsafe RPCMetadata.value(of: key, in: &storage.pointee.metadata)
        }
    }

    /// `ipv4:127.0.0.1:50000`, `unix:`: for logs; never a proof of anything.
    package var peer: String {
        unsafe withCall { call in
            guard let peer = unsafe grpc_call_get_peer(call) else { return "" }
            defer { unsafe gpr_free(peer) }
            return unsafe String(cString: peer)
        } ?? ""
    }

    /// Whose certificate the client showed.
    package var identity: PeerIdentity { unsafe withCall { unsafe PeerIdentity(call: $0) } ?? PeerIdentity() }

    private func withCall<T: Sendable>(_ body: (OpaquePointer) -> T) -> T? {
        state.withLock { state in
            guard state.phase != .ended, let call = unsafe storage.pointee.call else { return nil }
            return unsafe body(call)
        }
    }

    // MARK: What the service asks

    /// Offers this call to the server; false where the server takes no more.
    func request(_ server: OpaquePointer) -> Bool {
        let queue = unsafe poller.queue.raw
        let tag = unsafe tag(Operation.requested.rawValue)
        let failure =
            if let registered = unsafe route.registered {
                unsafe grpc_server_request_registered_call(
                    server, registered, storage.field(\.call), storage.field(\.deadline),
                    storage.field(\.metadata), route.readsRequest ? storage.field(\.received) : nil, queue,
                    queue, tag)
            } else {
                unsafe grpc_server_request_call(
                    server, storage.field(\.call), storage.field(\.details),
                    storage.field(\.metadata), queue, queue, tag)
            }
        if failure != GRPC_CALL_OK { takeBack() }
        return failure == GRPC_CALL_OK
    }

    /// The one request of a unary or server-streaming call.
    func takeRequest() throws(RPCStatus) -> ReceivedMessage {
        guard let buffer = unsafe storage.pointee.received else {
            throw RPCStatus(.internalError, "the call came without a request message")
        }
        unsafe storage.pointee.received = nil
        return unsafe ReceivedMessage(buffer)
    }

    /// Runs a handler in a task of its own and answers with what it returns.
    func run(_ body: @escaping @Sendable () async throws(RPCStatus) -> OutgoingMessage?) {
        state.withLock { $0.long = Long() }
        watchClose()
        let task = Task {
            do throws(RPCStatus) {
                self.finish(.success(try await body()))
            } catch {
                self.finish(.failure(error))
            }
        }
        state.withLock { if $0.phase == .open { $0.long?.task = task } }
        // The end may have been reported, on another thread, before the task was there to be told.
        if cancelled.load(ordering: .acquiring) { task.cancel() }
    }

    /// Answers each request as it comes, until the client sends no more.
    func converse(_ answer: @escaping Conversation) {
        state.withLock {
            $0.long = Long()
            $0.long?.conversation = answer
        }
        guard poller.conversationBegan(self) else { return finish(.failure(.stopping)) }
        watchClose()
        receive()
    }

    /// False when the message will not reach anyone.
    func send(_ message: OutgoingMessage) async -> Bool {
        await withCheckedContinuation { continuation in
            let started = state.withLock { state in
                guard let long = state.long, long.sending == nil, startSending(message, &state) else { return false }
                long.sending = continuation
                return true
            }
            if !started { continuation.resume(returning: false) }
        }
    }

    /// Ends the call. Only the first time counts.
    func finish(_ result: Result<OutgoingMessage?, RPCStatus>) {
        let last = state.withLock { state -> LastBatch? in
            guard state.phase == .open else { return nil }
            state.phase = .ending
            let last = LastBatch(
                result, needsInitialMetadata: !state.sentInitialMetadata, needsClose: !state.watchesClose,
                endsConversation: state.long?.conversation != nil)
            route.statistics.ended(last.code, nanoseconds: Self.now - state.arrived)
            state.long?.task = nil
            state.outgoing = last.message ?? state.outgoing
            state.trailing = last.trailing
            state.outstanding += 1
            return last
        }
        guard let last else { return }
        if last.endsConversation { poller.conversationEnded(self) }
        // Nothing else is started any more. Not under the lock: another thread may have the end of this batch before this one
        // comes back from starting it, and would wait.
        if !start(last) {
            unsafe grpc_call_cancel(storage.pointee.call, nil)
            back { _ in }
        }
    }

    /// Breaks the call off: a send that waits for the client returns, and the handler's task is cancelled. For a peer
    /// that takes nothing; the client sees `status` where it still reads.
    package func abort(_ status: RPCStatus) {
        _ = unsafe withCall { call in
            unsafe grpc_call_cancel_with_status(
                call, grpc_status_code(rawValue: status.code.rawValue), status.sentMessage, nil)
        }
    }

    // MARK: Batches

    private func watchClose() {
        state.withLock { state in
            guard state.phase == .open else { return }
            var op = unsafe grpc_op()
            unsafe op.op = GRPC_OP_RECV_CLOSE_ON_SERVER
            unsafe op.data.recv_close_on_server.cancelled = unsafe storage.field(\.cancelled)
            state.watchesClose = unsafe start(.closed, &op, 1, &state)
        }
    }

    private func receive() {
        let isStarted = state.withLock { state in
            guard state.phase == .open else { return true }
            var op = unsafe grpc_op()
            unsafe op.op = GRPC_OP_RECV_MESSAGE
            unsafe op.data.recv_message.recv_message = unsafe storage.field(\.received)
            return unsafe start(.received, &op, 1, &state)
        }
        if !isStarted { finish(.failure(RPCStatus(.internalError, "the core did not start to receive"))) }
    }

    private func startSending(_ message: OutgoingMessage, _ state: inout State) -> Bool {
        guard state.phase == .open, state.outgoing == nil, !cancelled.load(ordering: .acquiring) else { return false }
        return unsafe withUnsafeTemporaryAllocation(of: grpc_op.self, capacity: 2) { ops in
            unsafe ops.initialize(repeating: grpc_op())
            unsafe ops[0].op = GRPC_OP_SEND_MESSAGE
            unsafe ops[0].data.send_message.send_message = unsafe message.buffer
            unsafe ops[1].op = GRPC_OP_SEND_INITIAL_METADATA
            guard unsafe start(.sent, ops.baseAddress, state.sentInitialMetadata ? 1 : 2, &state) else { return false }
            state.sentInitialMetadata = true
            state.outgoing = message
            return true
        }
    }

    /// What ends a call, as it was when nothing else could be started any more.
    private struct LastBatch {
        let message: OutgoingMessage?
        let error: RPCStatus?
        let trailing: SentMetadata?
        let needsInitialMetadata, needsClose, endsConversation: Bool

        init(
            _ result: Result<OutgoingMessage?, RPCStatus>, needsInitialMetadata: Bool, needsClose: Bool,
            endsConversation: Bool
        ) {
            switch result {
            case .success(let message): (self.message, error, trailing) = (message, nil, nil)
            case .failure(let status):
                (message, error) = (nil, status)
                trailing = status.packDetails().map { details in
                    var metadata = RPCMetadata()
                    metadata.append(RPCStatus.detailsKey, binary: details)
                    return SentMetadata(metadata)
                }
            }
            self.needsInitialMetadata = needsInitialMetadata
            self.needsClose = needsClose
            self.endsConversation = endsConversation
        }

        var code: RPCStatus.Code { error?.code ?? .ok }
    }

    private func start(_ last: borrowing LastBatch) -> Bool {
        unsafe withUnsafeTemporaryAllocation(of: grpc_op.self, capacity: 4) { ops in
            unsafe ops.initialize(repeating: grpc_op())
            let details = last.error.map { OwnedSlice($0.sentMessage) }
            unsafe ops[0].op = GRPC_OP_SEND_STATUS_FROM_SERVER
            unsafe ops[0].data.send_status_from_server.status = grpc_status_code(rawValue: last.code.rawValue)
            if let details { unsafe ops[0].data.send_status_from_server.status_details = unsafe details.pointer }
            if let trailing = last.trailing {
                unsafe ops[0].data.send_status_from_server.trailing_metadata_count = trailing.count
                unsafe ops[0].data.send_status_from_server.trailing_metadata = unsafe trailing.entries
            }
            var count = 1
            if let message = last.message {
                unsafe ops[count].op = GRPC_OP_SEND_MESSAGE
                unsafe ops[count].data.send_message.send_message = unsafe message.buffer
                count += 1
            }
            if last.needsInitialMetadata {
                unsafe ops[count].op = GRPC_OP_SEND_INITIAL_METADATA
                count += 1
            }
            if last.needsClose {
                unsafe ops[count].op = GRPC_OP_RECV_CLOSE_ON_SERVER
                unsafe ops[count].data.recv_close_on_server.cancelled = unsafe storage.field(\.cancelled)
                count += 1
            }
            return withExtendedLifetime(details) { unsafe start(.finished, ops.baseAddress, count) }
        }
    }

    /// The core wants starts on one call one after the other: only under the lock.
    private func start(
        _ operation: Operation, _ ops: UnsafePointer<grpc_op>?, _ count: Int, _ state: inout State
    ) -> Bool {
        guard unsafe start(operation, ops, count) else { return false }
        state.outstanding += 1
        return true
    }

    private func start(_ operation: Operation, _ ops: UnsafePointer<grpc_op>?, _ count: Int) -> Bool {
        let code = unsafe grpc_call_start_batch(storage.pointee.call, ops, count, tag(operation.rawValue), nil)
        if code != GRPC_CALL_OK { takeBack() }
        return code == GRPC_CALL_OK
    }

    // MARK: Completions

    override func completed(_ operation: Int, success: Bool) {
        switch Operation(rawValue: operation) {
        case .requested: requested(success)
        case .closed: closed()
        case .sent: sent(success)
        case .received: received(success)
        case .finished, nil: back { $0.outgoing = nil }
        }
    }

    private func requested(_ success: Bool) {
        guard success else {
            let isOver = state.withLock { state in
                state.phase = .ending
                return endIfDone(&state)
            }
            if isOver { poller.callEnded() }
            return
        }
        // First of all the next slot: while this call is worked on, another may come.
        poller.arm(route)
        let isWelcome = route.openCalls.begin()
        state.withLock {
            $0.phase = .open
            $0.arrived = Self.now
        }
        guard isWelcome else {
            return finish(.failure(.overloaded("too many calls are open on this server: try again")))
        }
        route.handler(self)
    }

    private func closed() {
        let isCancelled = unsafe storage.pointee.cancelled != 0
        if isCancelled { cancelled.store(true, ordering: .releasing) }
        let task = back { state -> Task<Void, Never>? in
            defer { state.long?.task = nil }
            return state.long?.task
        }
        if isCancelled { task?.cancel() }
    }

    private func sent(_ success: Bool) {
        let (continuation, converses) = back { state in
            defer { state.long?.sending = nil }
            state.outgoing = nil
            return (state.long?.sending, state.long?.conversation != nil)
        }
        continuation?.resume(returning: success)
        if converses {
            if success { receive() } else { finish(.failure(RPCStatus(.cancelled, "the client has gone"))) }
        }
    }

    private func received(_ success: Bool) {
        let buffer = unsafe storage.pointee.received
        unsafe storage.pointee.received = nil
        let message = unsafe buffer.map { unsafe ReceivedMessage($0) }
        let conversation = back { $0.long?.conversation }
        guard success, let message, let conversation else { return finish(.success(nil)) }
        switch conversation(message) {
        case .success(let answer):
            let started = state.withLock { startSending(answer, &$0) }
            if !started { finish(.failure(RPCStatus(.cancelled, "the client has gone"))) }
        case .failure(let status): finish(.failure(status))
        }
    }

    private static var now: Int64 {
        let time = gpr_now(GPR_CLOCK_MONOTONIC)
        return time.tv_sec * 1_000_000_000 + Int64(time.tv_nsec)
    }

    /// A tag is back.
    private func back<T>(_ body: (inout sending State) -> sending T) -> T {
        let (result, isOver) = state.withLock { state in
            state.outstanding -= 1
            let result = body(&state)
            return (result, endIfDone(&state))
        }
        if isOver {
            route.openCalls.end()
            poller.callEnded()
        }
        return result
    }

    /// True once: when the last tag is back, and what belongs to the core has been given back.
    private func endIfDone(_ state: inout State) -> Bool {
        guard state.phase == .ending, state.outstanding == 0 else { return false }
        state.phase = .ended
        state.outgoing = nil
        state.trailing = nil
        state.long = nil
        unsafe grpc_metadata_array_destroy(storage.field(\.metadata))
        if unsafe route.registered == nil { unsafe grpc_call_details_destroy(storage.field(\.details)) }
        if let received = unsafe storage.pointee.received { unsafe grpc_byte_buffer_destroy(received) }
        if let call = unsafe storage.pointee.call {
            unsafe grpc_call_unref(call)
            cinterpose_call_ended()
        }
        unsafe storage.pointee.call = nil
        return true
    }
}

extension UnsafeMutablePointer {
    /// The address of a stored field. For the key path of a stored field of a struct there always is one.
    func field<T>(_ path: WritableKeyPath<Pointee, T>) -> UnsafeMutablePointer<T> {
        guard let field = unsafe pointer(to: path) else { preconditionFailure("not a stored field") }
        return unsafe field
    }
}
