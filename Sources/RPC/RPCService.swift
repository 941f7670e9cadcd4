package import CMessages

/// The handlers of one service of the proto. A server refuses to start with a method that has none.
@safe package struct RPCService: Sendable {
    /// What takes a call that has arrived, on the polling thread.
    typealias Handler = @Sendable (ServerCall) -> Void

    struct Entry: Sendable {
        var method: RPCMethod
        var handler: Handler
        var statistics: MethodStatistics
        /// Nil: they count among all the server's calls.
        var openCalls: OpenCalls?
    }

    let name: String
    private(set) var entries: [Entry] = []
    /// Handlers that fit no method.
    private(set) var strays: [String] = []
    /// Of the methods that are added from now on, together, where they do not count among all the server's calls.
    var openCalls: OpenCalls?
    private let methods: [RPCMethod]
    // nonisolated(unsafe): a constant of the program.
    nonisolated(unsafe) private let descriptor: UnsafePointer<ProtobufCServiceDescriptor>

    package init(_ descriptor: UnsafePointer<ProtobufCServiceDescriptor>) {
        unsafe self.descriptor = unsafe descriptor
        name = unsafe String(cString: descriptor.pointee.name)
        methods = unsafe RPCMethod.all(of: descriptor)
    }

    /// Methods that nobody handles.
    var missing: [RPCMethod] {
        methods.filter { method in !entries.contains { $0.method == method } }
    }

    /// The completion form, for calls that must cost little. `decode` and `complete` run on the polling thread and must
    /// not block it, or say so (`PollingThread`); any thread may answer through the reply, once.
    package mutating func unary<Q: ProtobufMessage, R: ProtobufMessage, Input: Sendable, Output: Sendable>(
        decode: @escaping @Sendable (UnsafePointer<Q>) throws(RPCStatus) -> Input,
        encode: @escaping @Sendable (Output, borrowing MessageArena) -> UnsafeMutablePointer<R>,
        complete: @escaping @Sendable (Input, ServerCall, Reply<Output>) -> Void
    ) {
        unsafe unary(admit: { .admitted($0) }, decode: decode, encode: encode, complete: complete)
    }

    /// The completion form of a method that not everybody may call: what `admit` refuses is not decoded.
    package mutating func unary<
        Q: ProtobufMessage, R: ProtobufMessage, Input: Sendable, Output: Sendable, Caller: Sendable
    >(
        admit: @escaping @Sendable (ServerCall) -> Admission<Caller>,
        decode: @escaping @Sendable (UnsafePointer<Q>) throws(RPCStatus) -> Input,
        encode: @escaping @Sendable (Output, borrowing MessageArena) -> UnsafeMutablePointer<R>,
        complete: @escaping @Sendable (Input, Caller, Reply<Output>) -> Void
    ) {
        let decoder = MessageDecoder<Q>()
        let encoder: @Sendable (Output) -> OutgoingMessage = { output in
            unsafe OutgoingMessage { arena in unsafe encode(output, arena) }
        }
        let answer: @Sendable (ServerCall, Caller) -> Void = { call, caller in
            do throws(RPCStatus) {
                let input = unsafe try decoder.decode(try call.takeRequest(), decode)
                complete(input, caller, Reply(call, encoder))
            } catch {
                call.finish(.failure(error))
            }
        }
        add(.unary, Q.self, R.self) { call in call.admit(admit(call), answer) }
    }

    /// The form with an async function, whose task is cancelled when nobody waits for the answer any more.
    package mutating func unary<Q: ProtobufMessage, R: ProtobufMessage, Input: Sendable, Output: Sendable>(
        decode: @escaping @Sendable (UnsafePointer<Q>) throws(RPCStatus) -> Input,
        encode: @escaping @Sendable (Output, borrowing MessageArena) -> UnsafeMutablePointer<R>,
        handle: @escaping @Sendable (Input, ServerCall) async throws(RPCStatus) -> Output
    ) {
        let decoder = MessageDecoder<Q>()
        add(.unary, Q.self, R.self) { call in
            do throws(RPCStatus) {
                let input = unsafe try decoder.decode(try call.takeRequest(), decode)
                call.run { () async throws(RPCStatus) -> OutgoingMessage? in
                    let output = try await handle(input, call)
                    return unsafe OutgoingMessage { arena in unsafe encode(output, arena) }
                }
            } catch {
                call.finish(.failure(error))
            }
        }
    }

    /// One request, any number of answers. The task is cancelled when the client cancels or goes, when the deadline
    /// passes, and when a server that stops has waited long enough.
    package mutating func serverStreaming<Q: ProtobufMessage, R: ProtobufMessage, Input: Sendable, Output: Sendable>(
        decode: @escaping @Sendable (UnsafePointer<Q>) throws(RPCStatus) -> Input,
        encode: @escaping @Sendable (Output, borrowing MessageArena) -> UnsafeMutablePointer<R>,
        handle: @escaping @Sendable (Input, ServerCall, ResponseWriter<Output>) async throws(RPCStatus) -> Void
    ) {
        unsafe serverStreaming(admit: { .admitted($0) }, decode: decode, encode: encode, handle: handle)
    }

    /// The same of a method that not everybody may call.
    package mutating func serverStreaming<
        Q: ProtobufMessage, R: ProtobufMessage, Input: Sendable, Output: Sendable, Caller: Sendable
    >(
        admit: @escaping @Sendable (ServerCall) -> Admission<Caller>,
        decode: @escaping @Sendable (UnsafePointer<Q>) throws(RPCStatus) -> Input,
        encode: @escaping @Sendable (Output, borrowing MessageArena) -> UnsafeMutablePointer<R>,
        handle: @escaping @Sendable (Input, Caller, ResponseWriter<Output>) async throws(RPCStatus) -> Void
    ) {
        let decoder = MessageDecoder<Q>()
        let answer: @Sendable (ServerCall, Caller) -> Void = { call, caller in
            do throws(RPCStatus) {
                let input = unsafe try decoder.decode(try call.takeRequest(), decode)
                call.run { () async throws(RPCStatus) -> OutgoingMessage? in
                    unsafe try await handle(input, caller, ResponseWriter(call, encode))
                    return nil
                }
            } catch {
                call.finish(.failure(error))
            }
        }
        add(.serverStreaming, Q.self, R.self) { call in call.admit(admit(call), answer) }
    }

    /// As many answers as requests, each made at once on the polling thread: what reflection needs. Handles the one
    /// bidirectional method, whatever its messages are called.
    mutating func conversation<Q: ProtobufMessage, R: ProtobufMessage>(
        admit: @escaping @Sendable (ServerCall) -> Admission<Void>,
        _ answer: @escaping @Sendable (UnsafePointer<Q>, borrowing MessageArena) -> UnsafeMutablePointer<R>
    ) {
        let decoder = MessageDecoder<Q>()
        let begin: @Sendable (ServerCall, Void) -> Void = { call, _ in
            call.converse { request in
                do throws(RPCStatus) {
                    return unsafe .success(
                        try decoder.decode(request) { request in
                            unsafe OutgoingMessage { arena in unsafe answer(request, arena) }
                        })
                } catch {
                    return .failure(error)
                }
            }
        }
        add(methods.first { $0.kind == .bidirectional }, "bidirectional") { call in call.admit(admit(call), begin) }
    }

    private mutating func add<Q: ProtobufMessage, R: ProtobufMessage>(
        _ kind: DescriptorSet.Kind, _ request: Q.Type, _ response: R.Type, _ handler: @escaping Handler
    ) {
        let method = unsafe RPCMethod.find(descriptor, kind, Q.descriptor, R.descriptor)
        add(method, "\(kind) \(Q.self) -> \(R.self)", handler)
    }

    private mutating func add(_ method: RPCMethod?, _ what: String, _ handler: @escaping Handler) {
        guard let method, !entries.contains(where: { $0.method == method }) else {
            return strays.append("\(what) in \(name)")
        }
        let statistics = MethodStatistics(
            service: method.service, method: method.name, isUnary: method.kind == .unary)
        entries.append(Entry(method: method, handler: handler, statistics: statistics, openCalls: openCalls))
    }
}
