import CGRPC
package import CMessages
import Dispatch
import Synchronization
import Syscalls

/// A client's connection to one target, made when it is needed and again after it broke. Calls may be made from
/// anywhere, at the same time. It must be closed: its thread lives until then.
@safe package final class RPCChannel: Sendable {
    /// What a method is found by.
    private struct MethodKey: Hashable {
        var service: UInt
        var kind: DescriptorSet.Kind
        var request, response: ObjectIdentifier
    }

    /// The core's name for a method that has been called; lives as long as the channel.
    @safe private struct RegisteredMethod {
        let raw: UnsafeMutableRawPointer
    }

    private struct State {
        var isClosed = false
        var methods: [MethodKey: RegisteredMethod] = [:]
        var calls: [ObjectIdentifier: ClientCall] = [:]
    }

    package static let usualMessageBytes = 16 << 20
    /// So long that a server gets to each of thousands of clients that come back at once: who has no answer in time begins anew,
    /// and the server goes on with handshakes that nobody waits for any more. And no longer: of several machines behind one
    /// address one may be gone without a word.
    package static let usualConnectTimeout = Duration.seconds(5)

    // nonisolated(unsafe): the core synchronises it itself.
    nonisolated(unsafe) private let channel: OpaquePointer
    private let queue: CompletionQueue
    /// Whether its thread has ended.
    private let ended = Latch()
    private let state = Mutex(State())
    private let idle = Latch()
    private let closed = Latch()

    /// `target` is `host:port`, `[v6]:port`, `unix:/path`, or `ipv4:a:p,b:p` for several. Connects with the first call;
    /// a server that cannot be reached fails calls with UNAVAILABLE. Unless it `pingsWhenIdle`, that may be noticed only when a
    /// call needs it: not every server lets clients ping while they call nothing. An attempt to connect ends after
    /// `connectTimeout`. Throws also where no thread can be had.
    package init(
        target: String, credentials: ChannelCredentials = .insecure, maxMessageBytes: Int = usualMessageBytes,
        pingsWhenIdle: Bool = true, connectTimeout: Duration = usualConnectTimeout
    ) throws(RPCError) {
        RPCRuntime.start()
        guard let core = unsafe credentials.makeCore() else { throw .credentials("certificate or key cannot be used") }
        defer { unsafe grpc_channel_credentials_release(core) }
        var options: [(key: String, value: ChannelArguments.Value)] =
            ChannelArguments.withoutCompression + [
                (GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, .number(CInt(clamping: maxMessageBytes))),
                (GRPC_ARG_ENABLE_CHANNELZ, .number(0)),
                // A server that vanished without a word is noticed while calls wait for it.
                (GRPC_ARG_KEEPALIVE_TIME_MS, .number(10_000)),
                (GRPC_ARG_KEEPALIVE_TIMEOUT_MS, .number(2_000)),
                // Also before the next call needs it.
                (GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, .number(pingsWhenIdle ? 1 : 0)),
                (GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, .number(0)),
                // The server is on our own network and comes back soon.
                (GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, .number(200)),
                // Despite its name what one attempt may take, up to HTTP/2's SETTINGS (the core's subchannel.cc).
                (GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, .number(CInt(connectTimeout / .milliseconds(1)))),
                (GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, .number(1_000)),
                // And it may come back at another address.
                (GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, .number(1_000)),
                // http_proxy is for the way out of that network.
                (GRPC_ARG_ENABLE_HTTP_PROXY, .number(0)),
                // What two channels to one target share would couple their ends.
                ("grpc.use_local_subchannel_pool", .number(1)),
            ]
        if let name = credentials.serverName { options.append((GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, .text(name))) }
        guard let channel = unsafe ChannelArguments.with(options, { unsafe grpc_channel_create(target, core, $0) })
        else {
            throw .state("the core made no channel to \(target)")
        }
        unsafe self.channel = unsafe channel
        queue = CompletionQueue()
        let poll: @Sendable () -> Void = { [queue, ended] in
            unsafe cgrpc_set_thread_name("rpc-client")
            while queue.poll() != .end {}
            ended.open()
        }
        do throws(SystemError) {
            try SystemThread.detach(poll)
        } catch {
            unsafe grpc_channel_destroy(channel)
            queue.shutdown()
            while queue.poll() != .end {}
            queue.destroy()
            throw .state("no channel to \(target): \(error)")
        }
    }

    /// One request, one answer. Throws the status that the server answered with, UNAVAILABLE where it cannot be reached,
    /// DEADLINE_EXCEEDED after `timeout`, CANCELLED when the task is cancelled.
    package func unary<Q: ProtobufMessage, R: ProtobufMessage, Input, Output>(
        _ descriptor: UnsafePointer<ProtobufCServiceDescriptor>, _ input: Input,
        encode: (Input, borrowing MessageArena) -> UnsafeMutablePointer<Q>,
        decode: (UnsafePointer<R>) throws(RPCStatus) -> Output,
        metadata: RPCMetadata = RPCMetadata(), timeout: Duration
    ) async throws(RPCStatus) -> Output {
        let call = unsafe try open(descriptor, .unary, Q.self, R.self, metadata, timeout)
        let request = unsafe OutgoingMessage { arena in unsafe encode(input, arena) }
        let answer = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                call.exchange(request) { continuation.resume(returning: $0) }
            }
        } onCancel: {
            call.cancel()
        }
        return unsafe try Self.decode(try answer.get(), decode)
    }

    /// As `unary`, but the calling thread waits: for threads that are no tasks' and must not depend on one.
    ///
    /// A method of which both sides stream may be called so as well: one request, of which the first answer counts.
    package func waitingUnary<Q: ProtobufMessage, R: ProtobufMessage, Input, Output>(
        _ descriptor: UnsafePointer<ProtobufCServiceDescriptor>, _ input: Input,
        encode: (Input, borrowing MessageArena) -> UnsafeMutablePointer<Q>,
        decode: (UnsafePointer<R>) throws(RPCStatus) -> Output, isStreaming: Bool = false,
        metadata: RPCMetadata = RPCMetadata(), timeout: Duration
    ) throws(RPCStatus) -> Output {
        let call = unsafe try open(
            descriptor, isStreaming ? .bidirectional : .unary, Q.self, R.self, metadata, timeout)
        let result = Mutex<Result<ReceivedMessage, RPCStatus>>(.failure(RPCStatus(.unknown, "")))
        let answered = DispatchSemaphore(value: 0)
        unsafe call.exchange(OutgoingMessage { arena in unsafe encode(input, arena) }) { answer in
            result.withLock { $0 = answer }
            answered.signal()
        }
        answered.wait()
        return unsafe try Self.decode(try result.withLock { $0 }.get(), decode)
    }

    /// One request to a method of which both sides stream, which stays open: any number of answers, as of
    /// `serverStreaming`.
    package func subscription<Q: ProtobufMessage, R: ProtobufMessage, Input, Output: Sendable>(
        _ descriptor: UnsafePointer<ProtobufCServiceDescriptor>, _ input: Input,
        encode: (Input, borrowing MessageArena) -> UnsafeMutablePointer<Q>,
        decode: @escaping @Sendable (UnsafePointer<R>) throws(RPCStatus) -> Output,
        metadata: RPCMetadata = RPCMetadata()
    ) -> RPCResponses<Output> {
        unsafe stream(
            descriptor, .bidirectional, input, encode: encode, decode: decode, metadata, nil, closes: false)
    }

    /// One request, any number of answers, each read when it is asked for. `timeout` nil: as long as it goes.
    /// Letting go of the sequence cancels the call.
    package func serverStreaming<Q: ProtobufMessage, R: ProtobufMessage, Input, Output: Sendable>(
        _ descriptor: UnsafePointer<ProtobufCServiceDescriptor>, _ input: Input,
        encode: (Input, borrowing MessageArena) -> UnsafeMutablePointer<Q>,
        decode: @escaping @Sendable (UnsafePointer<R>) throws(RPCStatus) -> Output,
        metadata: RPCMetadata = RPCMetadata(), timeout: Duration? = nil
    ) -> RPCResponses<Output> {
        unsafe stream(descriptor, .serverStreaming, input, encode: encode, decode: decode, metadata, timeout)
    }

    func stream<Q: ProtobufMessage, R: ProtobufMessage, Input, Output: Sendable>(
        _ descriptor: UnsafePointer<ProtobufCServiceDescriptor>, _ kind: DescriptorSet.Kind, _ input: Input,
        encode: (Input, borrowing MessageArena) -> UnsafeMutablePointer<Q>,
        decode: @escaping @Sendable (UnsafePointer<R>) throws(RPCStatus) -> Output,
        _ metadata: RPCMetadata, _ timeout: Duration?, closes: Bool = true
    ) -> RPCResponses<Output> {
        do throws(RPCStatus) {
            let call = unsafe try open(descriptor, kind, Q.self, R.self, metadata, timeout)
            unsafe call.startStream(OutgoingMessage { arena in unsafe encode(input, arena) }, closes: closes)
            return RPCResponses(call) { (message) throws(RPCStatus) in unsafe try Self.decode(message, decode) }
        } catch {
            return RPCResponses(failure: error)
        }
    }

    /// Takes no more calls, and returns when everything is given back: what is open is cancelled, or waited for. Again:
    /// waits for the same.
    package func close(cancelling: Bool = true) async {
        let (isFirst, calls) = state.withLock { state in
            defer { state.isClosed = true }
            return (!state.isClosed, Array(state.calls.values))
        }
        if cancelling { for call in calls { call.cancel() } }
        guard isFirst else { return await closed.wait() }
        if calls.isEmpty { idle.open() }
        await idle.wait()
        unsafe grpc_channel_destroy(channel)
        queue.shutdown()
        await ended.wait()
        queue.destroy()
        closed.open()
    }

    private func open<Q: ProtobufMessage, R: ProtobufMessage>(
        _ descriptor: UnsafePointer<ProtobufCServiceDescriptor>, _ kind: DescriptorSet.Kind, _ request: Q.Type,
        _ response: R.Type, _ metadata: RPCMetadata, _ timeout: Duration?
    ) throws(RPCStatus) -> ClientCall {
        if let timeout, timeout <= .zero { throw RPCStatus(.deadlineExceeded, "no time was left to call") }
        let key = MethodKey(
            service: UInt(bitPattern: descriptor), kind: kind, request: ObjectIdentifier(Q.self),
            response: ObjectIdentifier(R.self))
        let result = state.withLock { state -> Result<ClientCall, RPCStatus> in
            guard !state.isClosed else { return .failure(RPCStatus(.cancelled, "the channel is closed")) }
            if state.methods[key] == nil,
                let method = unsafe RPCMethod.find(descriptor, kind, Q.descriptor, R.descriptor),
                let raw = unsafe grpc_channel_register_call(channel, method.path, nil, nil)
            {
                state.methods[key] = unsafe RegisteredMethod(raw: raw)
            }
            guard let method = state.methods[key] else {
                return .failure(
                    RPCStatus(.unimplemented, "no \(kind) method takes \(Q.self) and gives \(R.self)"))
            }
            guard
                let core = unsafe grpc_channel_create_registered_call(
                    channel, nil, cgrpc_propagate_defaults, queue.raw, method.raw, Self.deadline(timeout), nil)
            else { return .failure(RPCStatus(.internalError, "the core made no call")) }
            let call = unsafe ClientCall(core, metadata, self)
            state.calls[ObjectIdentifier(call)] = call
            return .success(call)
        }
        return try result.get()
    }

    func ended(_ call: ClientCall) {
        let isIdle = state.withLock { state in
            state.calls[ObjectIdentifier(call)] = nil
            return state.isClosed && state.calls.isEmpty
        }
        if isIdle { idle.open() }
    }

    private static func deadline(_ timeout: Duration?) -> gpr_timespec {
        guard let timeout else { return gpr_inf_future(GPR_CLOCK_MONOTONIC) }
        let (seconds, attoseconds) = timeout.components
        return gpr_time_add(
            gpr_now(GPR_CLOCK_MONOTONIC),
            gpr_timespec(tv_sec: seconds, tv_nsec: Int32(attoseconds / 1_000_000_000), clock_type: GPR_TIMESPAN))
    }

    private static func decode<R: ProtobufMessage, Output>(
        _ message: ReceivedMessage, _ decode: (UnsafePointer<R>) throws(RPCStatus) -> Output
    ) throws(RPCStatus) -> Output {
        do throws(RPCStatus) {
            return unsafe try MessageDecoder<R>().decode(message, decode)
        } catch {
            // What the server sent wrong is not the caller's invalid argument.
            throw RPCStatus(.internalError, "the answer cannot be used: \(error.message)", errorInfo: error.errorInfo)
        }
    }
}
