/// Sends the answers of a streaming call.
package struct ResponseWriter<Output: Sendable>: Sendable {
    private let call: ServerCall
    private let encode: @Sendable (Output) -> OutgoingMessage

    init<R: ProtobufMessage>(
        _ call: ServerCall, _ encode: @escaping @Sendable (Output, borrowing MessageArena) -> UnsafeMutablePointer<R>
    ) {
        self.call = call
        self.encode = { output in unsafe OutgoingMessage { arena in unsafe encode(output, arena) } }
    }

    /// Breaks the stream off, from wherever: a `send` that waits throws CANCELLED then.
    package func abort(_ status: RPCStatus) { call.abort(status) }

    /// Returns when the core has taken the message, which it does only as fast as the client reads. Throws CANCELLED
    /// when the client has gone or the call has ended. One at a time.
    package func send(_ output: Output) async throws(RPCStatus) {
        guard await call.send(encode(output)) else {
            throw RPCStatus(.cancelled, "nobody waits for this stream any more")
        }
    }
}
