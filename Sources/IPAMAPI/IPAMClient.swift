package import Addresses
import CMessages
package import IPAMModel
package import RPC

/// A client of the IPAM and Pools services, over connections that are made when first needed and made again after a
/// break. Any number of calls may run at once.
///
/// A server with too much to do is asked again when it says, within the call's time.
///
/// Of several servers one leads. A call goes to whoever led last; where that one does not lead, or does not answer, the
/// call goes on to another, within its time: every call of the API may be repeated.
package final class IPAMClient: Sendable {
    /// How long one of several servers has to answer before another is asked.
    private static let patience = Duration.seconds(2)
    /// Before the next attempt, where it is not known who leads.
    static let pause = Duration.milliseconds(50)

    let servers: ServerChannels
    private let token: @Sendable () -> String?

    /// `server` is HOST:PORT or unix:PATH, or several of them separated by commas. Connects with the first call; throws
    /// `unavailable` where no such channel can be made.
    package convenience init(server: String, credentials: ChannelCredentials = .insecure) throws(IPAMError) {
        try self.init(server: server, currentCredentials: { credentials })
    }

    /// With credentials and a token that may change: both are asked for with each call.
    package init(
        server: String, currentCredentials: @escaping @Sendable () -> ChannelCredentials,
        currentToken: @escaping @Sendable () -> String? = { nil }
    ) throws(IPAMError) {
        servers = try ServerChannels(server, currentCredentials)
        token = currentToken
    }

    /// What goes with each call: the trace it is part of, and the token.
    var metadata: RPCMetadata {
        var metadata = RPCMetadata.ofTrace
        if let token = token() { metadata.append("authorization", "Bearer \(token)") }
        return metadata
    }

    /// Cancels the calls that are under way.
    package func close() async { await servers.close() }

    func call<Request: ProtobufMessage, Response: ProtobufMessage, Output: Sendable>(
        _ service: UnsafePointer<ProtobufCServiceDescriptor>, timeout: Duration,
        _ request: @escaping @Sendable (borrowing MessageArena) -> UnsafeMutablePointer<Request>,
        _ response: @escaping @Sendable (Response) throws(IPAMError) -> Output
    ) async throws(IPAMError) -> Output {
        let deadline = ContinuousClock.now + timeout
        var wasNamed = false
        while true {
            let server = servers.current
            let left = deadline - .now
            do throws(RPCStatus) {
                return try unsafe await server.channel.unary(
                    service, (), encode: { _, arena in unsafe request(arena) },
                    decode: { (message: UnsafePointer<Response>) throws(RPCStatus) in
                        try status { () throws(IPAMError) in try unsafe response(message.pointee) }
                    }, metadata: metadata, timeout: servers.areSeveral ? min(left, Self.patience) : left)
            } catch {
                let failure = IPAMError(error, from: server.address)
                let isNamed = servers.turn(from: server.address, because: failure)
                // A server with too much to do says when to come again; not all clients at the same moment.
                let pause = error.retryDelay.map { $0 * Double.random(in: 1...2) } ?? Self.pause
                guard servers.mayHelp(with: failure) || failure.reason == .overloaded, !Task.isCancelled,
                    deadline - .now > pause
                else { throw failure }
                // One that was named and does not lead may name the one before.
                if !isNamed || wasNamed { try? await Task.sleep(for: pause) }
                wasNamed = isNamed
            }
        }
    }
}

extension IPAMClient: IPAMCalls {
    package func allocate(
        _ request: AllocateRequest, timeout: Duration
    ) async throws(IPAMError) -> (binding: DescribedBinding, created: Bool) {
        try unsafe await call(
            cmessages_holdfast_ipam_v1_ipam(), timeout: timeout, { arena in unsafe request.wire(in: arena) },
            { (response: Wire.AllocateResponse) throws(IPAMError) in
                guard let binding = unsafe response.binding else { throw IPAMError.noBinding }
                return (try unsafe DescribedBinding(binding.pointee), unsafe response.created != 0)
            })
    }

    package func release(_ request: ReleaseRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding? {
        try unsafe await call(
            cmessages_holdfast_ipam_v1_ipam(), timeout: timeout, { arena in unsafe request.wire(in: arena) },
            { (response: Wire.ReleaseResponse) throws(IPAMError) in
                guard let binding = unsafe response.binding else { return nil }
                return try unsafe DescribedBinding(binding.pointee)
            })
    }

    package func transfer(_ request: TransferRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        try unsafe await call(
            cmessages_holdfast_ipam_v1_ipam(), timeout: timeout, { arena in unsafe request.wire(in: arena) },
            { (response: Wire.TransferResponse) throws(IPAMError) in
                guard let binding = unsafe response.binding else { throw IPAMError.noBinding }
                return try unsafe DescribedBinding(binding.pointee)
            })
    }

    package func binding(of owner: Owner, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        try await binding(.owner(owner), timeout: timeout)
    }

    package func binding(holding address: IPAddress, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        try await binding(.address(address), timeout: timeout)
    }

    private func binding(_ query: BindingQuery, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        try unsafe await call(
            cmessages_holdfast_ipam_v1_ipam(), timeout: timeout, { arena in unsafe query.wire(in: arena) },
            { (response: Wire.Binding) throws(IPAMError) in try unsafe DescribedBinding(response) })
    }

    package func bindings(
        matching filter: BindingFilter, pageSize: Int, pageToken: String?, timeout: Duration
    ) async throws(IPAMError) -> BindingPage {
        let listing = BindingListing(filter: filter, pageSize: pageSize, pageToken: pageToken)
        return try unsafe await call(
            cmessages_holdfast_ipam_v1_ipam(), timeout: timeout, { arena in unsafe listing.wire(in: arena) },
            { (response: Wire.ListBindingsResponse) throws(IPAMError) in try unsafe BindingPage(response) })
    }
}

extension IPAMClient: HistoryCalls {
    package func history(_ listing: HistoryListing, timeout: Duration) async throws(IPAMError) -> HistoryPage {
        try unsafe await call(
            cmessages_holdfast_ipam_v1_ipam(), timeout: timeout, { arena in unsafe listing.wire(in: arena) },
            { (response: Wire.ListHistoryResponse) throws(IPAMError) in try unsafe HistoryPage(response) })
    }
}

extension IPAMClient: CopyCalls {
    package func renewCopies(
        _ request: RenewCopiesRequest, timeout: Duration
    ) async throws(IPAMError) -> [RenewedCopy] {
        let renewed: [RenewedCopy] = try unsafe await call(
            cmessages_holdfast_ipam_v1_nodes(), timeout: timeout, { arena in unsafe request.wire(in: arena) },
            { (response: Wire.RenewCopiesResponse) throws(IPAMError) in try unsafe [RenewedCopy](response) })
        guard renewed.count == request.copies.count else {
            throw IPAMError(.internalError, .noAnswer, "the server's answer does not speak of every copy")
        }
        return renewed
    }
}

extension IPAMClient {
    /// The present state, `synced`, then every change, until the reader leaves. Throws `IPAMError` when the server ends it.
    package func watch(_ filter: BindingFilter) -> BindingEvents {
        let server = servers.current
        return BindingEvents(
            responses: unsafe server.channel.serverStreaming(
                cmessages_holdfast_ipam_v1_ipam(), filter, encode: { filter, arena in unsafe filter.wire(in: arena) },
                decode: { (message: UnsafePointer<Wire.BindingEvent>) throws(RPCStatus) in
                    try status { () throws(IPAMError) in try unsafe BindingEvent(message.pointee) }
                }, metadata: metadata),
            server: server.address
        ) { [servers] failure in _ = servers.turn(from: server.address, because: failure) }
    }
}

/// The events of one watch, to be read once.
package struct BindingEvents: AsyncSequence, Sendable {
    fileprivate let responses: RPCResponses<BindingEvent>
    fileprivate let server: String
    /// Told how it failed, so that the next watch goes to another server.
    fileprivate let onFailure: @Sendable (IPAMError) -> Void

    package struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate var responses: RPCResponses<BindingEvent>.AsyncIterator
        fileprivate let server: String
        fileprivate let onFailure: @Sendable (IPAMError) -> Void

        package mutating func next() async throws(IPAMError) -> BindingEvent? {
            try await next(isolation: nil)
        }

        package mutating func next(isolation actor: isolated (any Actor)?) async throws(IPAMError) -> BindingEvent? {
            do throws(RPCStatus) {
                return try await responses.next(isolation: actor)
            } catch {
                let error = IPAMError(endOfWatch: error, from: server)
                onFailure(error)
                throw error
            }
        }
    }

    package func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(responses: responses.makeAsyncIterator(), server: server, onFailure: onFailure)
    }
}

extension IPAMClient: PoolCalls {
    package func createPool(_ pool: Pool, timeout: Duration) async throws(IPAMError) -> DescribedPool {
        try unsafe await call(
            cmessages_holdfast_ipam_v1_pools(), timeout: timeout,
            { arena in
                let message = unsafe arena.make(Wire.CreatePoolRequest.self)
                unsafe message.pointee.pool = DescribedPool(pool: pool).wire(in: arena)
                return unsafe message
            }, { (response: Wire.Pool) throws(IPAMError) in try unsafe DescribedPool(response) })
    }

    package func updatePool(
        _ pool: Pool, for namespace: String?, timeout: Duration
    ) async throws(IPAMError) -> DescribedPool {
        try unsafe await call(
            cmessages_holdfast_ipam_v1_pools(), timeout: timeout,
            { arena in
                let message = unsafe arena.make(Wire.UpdatePoolRequest.self)
                unsafe message.pointee.pool = DescribedPool(pool: pool).wire(in: arena)
                if let namespace { unsafe message.pointee.namespace_ = arena.string(namespace) }
                return unsafe message
            }, { (response: Wire.Pool) throws(IPAMError) in try unsafe DescribedPool(response) })
    }

    package func pool(named name: String, timeout: Duration) async throws(IPAMError) -> DescribedPool {
        try unsafe await call(
            cmessages_holdfast_ipam_v1_pools(), timeout: timeout,
            { arena in
                let message = unsafe arena.make(Wire.GetPoolRequest.self)
                unsafe message.pointee.name = arena.string(name)
                return unsafe message
            }, { (response: Wire.Pool) throws(IPAMError) in try unsafe DescribedPool(response) })
    }

    package func pools(timeout: Duration) async throws(IPAMError) -> [DescribedPool] {
        try unsafe await call(
            cmessages_holdfast_ipam_v1_pools(), timeout: timeout,
            { arena in unsafe arena.make(Wire.ListPoolsRequest.self) },
            { (response: Wire.ListPoolsResponse) throws(IPAMError) in
                try unsafe messages(response.n_pools, response.pools) { item, _ throws(IPAMError) in
                    try unsafe DescribedPool(item)
                }
            })
    }

    package func deletePool(named name: String, timeout: Duration) async throws(IPAMError) {
        try unsafe await call(
            cmessages_holdfast_ipam_v1_pools(), timeout: timeout,
            { arena in
                let message = unsafe arena.make(Wire.DeletePoolRequest.self)
                unsafe message.pointee.name = arena.string(name)
                return unsafe message
            }, { (_: Wire.DeletePoolResponse) in })
    }
}

extension IPAMError {
    fileprivate static let noBinding = IPAMError(.internalError, .noAnswer, "the server's answer has no binding")
}
