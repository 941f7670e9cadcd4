import CGRPC
import Synchronization

/// One call of a client and its batches.
/// Unchecked: `storage` is written by the core between the start and the end of an operation, and else only under
/// `state`'s lock.
@safe final class ClientCall: Completion, @unchecked Sendable {
    /// `exchanged` is a unary call's one batch; a stream's are the other three.
    private enum Operation: Int { case exchanged, started, received, status }

    @unsafe private struct Storage {
        var initial = unsafe grpc_metadata_array()
        var trailing = unsafe grpc_metadata_array()
        var received: UnsafeMutablePointer<grpc_byte_buffer>?
        var code = GRPC_STATUS_UNKNOWN
        var message = unsafe grpc_empty_slice()
    }

    private struct State {
        var outstanding = 0
        /// Set when the status has come: nothing is started any more.
        var status: RPCStatus?
        var isEnded = false
        var request: OutgoingMessage?
        var exchange: Answered?
        var reader: CheckedContinuation<Next, Never>?
        /// No message comes any more: the reader waits for the status.
        var isAtEnd = false
    }

    /// What a unary call came to.
    typealias Answered = @Sendable (Result<ReceivedMessage, RPCStatus>) -> Void

    enum Next: Sendable {
        case message(ReceivedMessage)
        case end(RPCStatus)
    }

    // nonisolated(unsafe): the core's own; used until `isEnded` only, under the lock.
    nonisolated(unsafe) private let call: OpaquePointer
    private let storage: UnsafeMutablePointer<Storage>
    private let sentMetadata: SentMetadata
    private let channel: RPCChannel
    private let state = Mutex(State())

    init(_ call: OpaquePointer, _ metadata: RPCMetadata, _ channel: RPCChannel) {
        unsafe self.call = unsafe call
        self.channel = channel
        sentMetadata = SentMetadata(metadata)
        unsafe storage = .allocate(capacity: 1)
        unsafe storage.initialize(to: Storage())
        unsafe grpc_metadata_array_init(storage.field(\.initial))
        unsafe grpc_metadata_array_init(storage.field(\.trailing))
    }

    deinit { unsafe storage.deallocate() }

    /// May be called at any time, again and again.
    func cancel() {
        state.withLock { if !$0.isEnded { unsafe grpc_call_cancel(call, nil) } }
    }

    /// A unary call from its request to its answer, which `answered` gets on a thread of the queue's.
    func exchange(_ request: OutgoingMessage, _ answered: @escaping Answered) {
        let isOver = state.withLock { state in
            state.exchange = answered
            return startBatch(.exchanged, request, closes: true, receives: true, wantsStatus: true, &state)
        }
        if isOver { finish() }
    }

    /// Sends the one request of a stream; unless it `closes`, the server is not told that no other will come.
    func startStream(_ request: OutgoingMessage, closes: Bool) {
        let isOver = state.withLock { state in
            if startBatch(.started, request, closes: closes, receives: false, wantsStatus: false, &state) {
                return true
            }
            var op = unsafe statusOp()
            return unsafe start(.status, &op, 1, &state)
        }
        if isOver { finish() }
    }

    /// The next message of a stream, or how it ended. One at a time.
    func next() async -> Next {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let now = state.withLock { state -> Next? in
                    if let status = state.status { return .end(status) }
                    guard state.reader == nil else {
                        return .end(RPCStatus(.internalError, "two readers on one stream"))
                    }
                    state.reader = continuation
                    if state.isAtEnd { return nil }
                    var op = unsafe grpc_op()
                    unsafe op.op = GRPC_OP_RECV_MESSAGE
                    unsafe op.data.recv_message.recv_message = unsafe storage.field(\.received)
                    _ = unsafe start(.received, &op, 1, &state)
                    return nil
                }
                if let now { continuation.resume(returning: now) }
            }
        } onCancel: {
            cancel()
        }
    }

    // MARK: Batches

    private func startBatch(
        _ operation: Operation, _ request: OutgoingMessage, closes: Bool, receives: Bool, wantsStatus: Bool,
        _ state: inout State
    ) -> Bool {
        state.request = request
        return unsafe withUnsafeTemporaryAllocation(of: grpc_op.self, capacity: 6) { ops in
            unsafe ops.initialize(repeating: grpc_op())
            unsafe ops[0].op = GRPC_OP_SEND_INITIAL_METADATA
            unsafe ops[0].data.send_initial_metadata.count = sentMetadata.count
            unsafe ops[0].data.send_initial_metadata.metadata = unsafe sentMetadata.entries
            unsafe ops[1].op = GRPC_OP_SEND_MESSAGE
            unsafe ops[1].data.send_message.send_message = unsafe request.buffer
            unsafe ops[2].op = GRPC_OP_RECV_INITIAL_METADATA
            unsafe ops[2].data.recv_initial_metadata.recv_initial_metadata = unsafe storage.field(\.initial)
            var count = 3
            if closes {
                unsafe ops[count].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT
                count += 1
            }
            if receives {
                unsafe ops[count].op = GRPC_OP_RECV_MESSAGE
                unsafe ops[count].data.recv_message.recv_message = unsafe storage.field(\.received)
                count += 1
            }
            if wantsStatus {
                unsafe ops[count] = unsafe statusOp()
                count += 1
            }
            return unsafe start(operation, ops.baseAddress, count, &state)
        }
    }

    private func statusOp() -> grpc_op {
        var op = unsafe grpc_op()
        unsafe op.op = GRPC_OP_RECV_STATUS_ON_CLIENT
        unsafe op.data.recv_status_on_client.trailing_metadata = unsafe storage.field(\.trailing)
        unsafe op.data.recv_status_on_client.status = unsafe storage.field(\.code)
        unsafe op.data.recv_status_on_client.status_details = unsafe storage.field(\.message)
        return unsafe op
    }

    /// True when it could not be started and the call is over with that.
    private func start(
        _ operation: Operation, _ ops: UnsafePointer<grpc_op>?, _ count: Int, _ state: inout State
    ) -> Bool {
        guard unsafe grpc_call_start_batch(call, ops, count, tag(operation.rawValue), nil) == GRPC_CALL_OK else {
            takeBack()
            unsafe grpc_call_cancel(call, nil)
            if operation != .received { state.status = RPCStatus(.internalError, "the core did not start the call") }
            return state.outstanding == 0
        }
        state.outstanding += 1
        return false
    }

    // MARK: Completions

    override func completed(_ operation: Int, success: Bool) {
        var reader: CheckedContinuation<Next, Never>?
        var message: ReceivedMessage?
        let isOver = state.withLock { state in
            state.outstanding -= 1
            switch Operation(rawValue: operation) {
            case .exchanged, .status: if state.status == nil { state.status = receivedStatus() }
            case .received:
                if success, let buffer = unsafe storage.pointee.received {
                    unsafe storage.pointee.received = nil
                    message = unsafe ReceivedMessage(buffer)
                    reader = state.reader
                    state.reader = nil
                } else {
                    // End of the stream: the reader waits for the status.
                    state.isAtEnd = true
                }
            case .started, nil: state.request = nil
            }
            return state.status != nil && state.outstanding == 0
        }
        if let message { reader?.resume(returning: .message(message)) }
        if isOver { finish() }
    }

    private func receivedStatus() -> RPCStatus {
        let slice = unsafe storage.field(\.message)
        let text = unsafe UnsafeBufferPointer(start: cgrpc_slice_ptr(slice), count: cgrpc_slice_len(slice))
        var status = unsafe RPCStatus(
            RPCStatus.Code(rawValue: storage.pointee.code.rawValue) ?? .unknown, String(decoding: text, as: UTF8.self))
        if status.code != .ok, unsafe storage.pointee.trailing.count > 0,
            let details = unsafe RPCMetadata(copying: storage.pointee.trailing).binary(RPCStatus.detailsKey)
        {
            status.takeDetails(details)
        }
        return status
    }

    /// Every tag is back: gives back what is the core's and tells whoever waits. Called once.
    private func finish() {
        var waiting: (Answered?, CheckedContinuation<Next, Never>?)
        var result: (status: RPCStatus, message: ReceivedMessage?)
        (waiting, result) = state.withLock { state in
            state.isEnded = true
            state.request = nil
            let message = unsafe storage.pointee.received.map { unsafe ReceivedMessage($0) }
            unsafe grpc_metadata_array_destroy(storage.field(\.initial))
            unsafe grpc_metadata_array_destroy(storage.field(\.trailing))
            unsafe grpc_slice_unref(storage.pointee.message)
            unsafe grpc_call_unref(call)
            defer { (state.exchange, state.reader) = (nil, nil) }
            return ((state.exchange, state.reader), (state.status ?? RPCStatus(.unknown, ""), message))
        }
        channel.ended(self)
        if let exchange = waiting.0 {
            switch (result.status.code, result.message) {
            case (.ok, let message?): exchange(.success(message))
            case (.ok, nil): exchange(.failure(RPCStatus(.internalError, "no answer came")))
            default: exchange(.failure(result.status))
            }
        }
        waiting.1?.resume(returning: .end(result.status))
    }
}
