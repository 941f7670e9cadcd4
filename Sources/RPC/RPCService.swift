package import CMessages

/// The handlers of one service of the proto. A server refuses to start with a method that has none.
package struct RPCService: Sendable {
    /// What takes a call that has arrived, on the polling thread.
    typealias Handler = @Sendable (ServerCall) -> Void

    struct Entry: Sendable {
        var method: RPCMethod
        var handler: Handler
    }

    let name: String
    private(set) var entries: [Entry] = []
    /// Handlers that fit no method.
    private(set) var strays: [String] = []
    private let methods: [RPCMethod]
    // nonisolated(unsafe): a constant of the program.
    nonisolated(unsafe) private let descriptor: UnsafePointer<ProtobufCServiceDescriptor>

    package init(_ descriptor: UnsafePointer<ProtobufCServiceDescriptor>) {
        self.descriptor = descriptor
        name = String(cString: descriptor.pointee.name)
        methods = RPCMethod.all(of: descriptor)
    }

    /// Methods that nobody handles.
    var missing: [RPCMethod] {
        methods.filter { method in !entries.contains { $0.method == method } }
    }

    /// The completion form, for calls that must cost little. `decode` and `complete` run on the polling thread and must
    /// not block it; any thread may answer through the reply, once.
    package mutating func unary<Q: ProtobufMessage, R: ProtobufMessage, Input: Sendable, Output: Sendable>(
        decode: @escaping @Sendable (UnsafePointer<Q>) throws(RPCStatus) -> Input,
        encode: @escaping @Sendable (Output, borrowing MessageArena) -> UnsafeMutablePointer<R>,
        complete: @escaping @Sendable (Input, ServerCall, Reply<Output>) -> Void
    ) {
        let decoder = MessageDecoder<Q>()
        add(.unary, Q.self, R.self) { call in
            do throws(RPCStatus) {
                let input = try decoder.decode(try call.takeRequest(), decode)
                complete(input, call, Reply(call, encode))
            } catch {
                call.finish(.failure(error))
            }
        }
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
                let input = try decoder.decode(try call.takeRequest(), decode)
                call.run { () async throws(RPCStatus) -> OutgoingMessage? in
                    let output = try await handle(input, call)
                    return OutgoingMessage { arena in encode(output, arena) }
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
        let decoder = MessageDecoder<Q>()
        add(.serverStreaming, Q.self, R.self) { call in
            do throws(RPCStatus) {
                let input = try decoder.decode(try call.takeRequest(), decode)
                call.run { () async throws(RPCStatus) -> OutgoingMessage? in
                    try await handle(input, call, ResponseWriter(call, encode))
                    return nil
                }
            } catch {
                call.finish(.failure(error))
            }
        }
    }

    /// As many answers as requests, each made at once on the polling thread: what reflection needs.
    mutating func conversation<Q: ProtobufMessage, R: ProtobufMessage>(
        _ answer:
            @escaping @Sendable (UnsafePointer<Q>, borrowing MessageArena) throws(RPCStatus) ->
            UnsafeMutablePointer<R>
    ) {
        let decoder = MessageDecoder<Q>()
        add(.bidirectional, Q.self, R.self) { call in
            call.converse { request in
                do throws(RPCStatus) {
                    return .success(
                        try decoder.decode(request) { (request) throws(RPCStatus) in
                            try OutgoingMessage { (arena) throws(RPCStatus) in try answer(request, arena) }
                        })
                } catch {
                    return .failure(error)
                }
            }
        }
    }

    private mutating func add<Q: ProtobufMessage, R: ProtobufMessage>(
        _ kind: DescriptorSet.Kind, _ request: Q.Type, _ response: R.Type, _ handler: @escaping Handler
    ) {
        guard let method = RPCMethod.find(descriptor, kind, Q.descriptor, R.descriptor),
            !entries.contains(where: { $0.method == method })
        else {
            strays.append("\(kind) \(Q.self) -> \(R.self) in \(name)")
            return
        }
        entries.append(Entry(method: method, handler: handler))
    }
}
