/// The answers of a streaming call. To be read by one reader, once. Ends when the server ends it with OK, and throws what
/// it ended with else.
package struct RPCResponses<Output: Sendable>: AsyncSequence, Sendable {
    package typealias Element = Output
    package typealias Failure = RPCStatus

    /// Ends the call when nobody holds the sequence or an iterator of it any more.
    fileprivate final class Owner: Sendable {
        let call: ClientCall
        let decode: @Sendable (ReceivedMessage) throws(RPCStatus) -> Output

        init(_ call: ClientCall, _ decode: @escaping @Sendable (ReceivedMessage) throws(RPCStatus) -> Output) {
            self.call = call
            self.decode = decode
        }

        deinit { call.cancel() }
    }

    package struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate let source: Result<Owner, RPCStatus>

        package mutating func next() async throws(RPCStatus) -> Output? {
            try await next(isolation: nil)
        }

        package mutating func next(isolation actor: isolated (any Actor)?) async throws(RPCStatus) -> Output? {
            let owner = try source.get()
            switch await owner.call.next() {
            case .message(let message): return try owner.decode(message)
            case .end(let status):
                if status.code == .ok { return nil }
                throw status
            }
        }
    }

    private let source: Result<Owner, RPCStatus>

    init(_ call: ClientCall, _ decode: @escaping @Sendable (ReceivedMessage) throws(RPCStatus) -> Output) {
        source = .success(Owner(call, decode))
    }

    init(failure: RPCStatus) { source = .failure(failure) }

    package func makeAsyncIterator() -> AsyncIterator { AsyncIterator(source: source) }
}
