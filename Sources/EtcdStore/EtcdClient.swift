import CMessages
import LedgerStore
import RPC
import Synchronization

/// The calls of etcd's that this project needs, to whichever member answers. They block the calling thread, up to
/// `timeout`; a call that may have had its effect is not repeated here. One that an
/// old token was refused for is, with a new token.
@safe final class EtcdClient: Sendable {
    private struct State {
        /// Of `channels`: the member that is asked.
        var current = 0
        /// What etcd gave for user and password.
        var token: String?
    }

    /// At most what a page of the ledger, or a fragment of a watch, takes.
    static let largestMessage = 32 << 20

    private let channels: [RotatingChannel]
    private let user: (name: String, password: @Sendable () -> String)?
    private let state = Mutex(State())

    /// Connects with the first call. Throws `.failed` where the credentials cannot be used.
    init(_ configuration: EtcdConfiguration) throws(StoreError) {
        do throws(RPCError) {
            channels = try configuration.endpoints.map { (endpoint) throws(RPCError) in
                // etcd disconnects who pings while there is no call (PermitWithoutStream in its server/embed/etcd.go). Its
                // clients are few, and the lease does not wait for a member that is gone.
                try RotatingChannel(
                    target: endpoint, maxMessageBytes: Self.largestMessage, pingsWhenIdle: false,
                    connectTimeout: .seconds(1),
                    credentials: configuration.credentials)
            }
        } catch {
            throw StoreError(.failed, "etcd cannot be reached: \(error)")
        }
        user = configuration.user
    }

    func close() async {
        for channel in channels { await channel.close() }
    }

    func range(
        from key: String, to end: String? = nil, limit: Int = 0, revision: Int64 = 0, isNewestFirst: Bool = false,
        timeout: Duration
    ) throws(RPCStatus) -> EtcdRange {
        unsafe try call(
            cmessages_etcdserverpb_kv(), timeout: timeout,
            { arena in
                let message = unsafe arena.make(Etcd.RangeRequest.self)
                unsafe message.pointee.key = unsafe arena.bytes(Array(key.utf8))
                if let end { unsafe message.pointee.range_end = unsafe arena.bytes(Array(end.utf8)) }
                unsafe message.pointee.limit = Int64(limit)
                unsafe message.pointee.revision = revision
                if isNewestFirst {
                    unsafe message.pointee.sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND
                }
                return unsafe message
            }, { (answer: UnsafePointer<Etcd.RangeResponse>) in unsafe EtcdRange(answer) })
    }

    func commit(_ transaction: EtcdTransaction, timeout: Duration) throws(RPCStatus) -> EtcdTransactionAnswer {
        unsafe try call(
            cmessages_etcdserverpb_kv(), timeout: timeout, { arena in unsafe transaction.wire(in: arena) },
            { (answer: UnsafePointer<Etcd.TxnResponse>) in unsafe EtcdTransactionAnswer(answer) })
    }

    /// The lease, and how many seconds etcd made it.
    func grantLease(seconds: Int64, timeout: Duration) throws(RPCStatus) -> (id: Int64, seconds: Int64) {
        unsafe try call(
            cmessages_etcdserverpb_lease(), timeout: timeout,
            { arena in
                let message = unsafe arena.make(Etcd.LeaseGrantRequest.self)
                unsafe message.pointee.ttl = seconds
                return unsafe message
            }, { (answer: UnsafePointer<Etcd.LeaseGrantResponse>) in unsafe (answer.pointee.id, answer.pointee.ttl) })
    }

    /// How many seconds it has now; 0 or less: it is no more.
    func keepAlive(lease: Int64, timeout: Duration) throws(RPCStatus) -> Int64 {
        unsafe try call(
            cmessages_etcdserverpb_lease(), isStreaming: true, timeout: timeout,
            { arena in
                let message = unsafe arena.make(Etcd.LeaseKeepAliveRequest.self)
                unsafe message.pointee.id = lease
                return unsafe message
            }, { (answer: UnsafePointer<Etcd.LeaseKeepAliveResponse>) in unsafe answer.pointee.ttl })
    }

    func revoke(lease: Int64, timeout: Duration) throws(RPCStatus) {
        unsafe try call(
            cmessages_etcdserverpb_lease(), timeout: timeout,
            { arena in
                let message = unsafe arena.make(Etcd.LeaseRevokeRequest.self)
                unsafe message.pointee.id = lease
                return unsafe message
            }, { (_: UnsafePointer<Etcd.LeaseRevokeResponse>) in })
    }

    /// Every change of the keys from `key` to `end` since `revision`, itself included. A watch that fails asks for another
    /// member with the next one.
    func watch(from key: String, to end: String, since revision: Int64) throws(RPCStatus) -> EtcdWatch {
        var (index, metadata) = try member(by: .now + .seconds(2))
        // rpctypes.MetadataRequireLeaderKey: a member that is cut off from the others ends the watch, and is not silent.
        metadata.append("hasleader", "true")
        let responses = unsafe channels[index].current.subscription(
            cmessages_etcdserverpb_watch(), (),
            encode: { _, arena in
                let create = unsafe arena.make(Etcd.WatchCreateRequest.self)
                unsafe create.pointee.key = unsafe arena.bytes(Array(key.utf8))
                unsafe create.pointee.range_end = unsafe arena.bytes(Array(end.utf8))
                unsafe create.pointee.start_revision = revision
                unsafe create.pointee.fragment = 1
                let message = unsafe arena.make(Etcd.WatchRequest.self)
                unsafe message.pointee.request_union_case =
                    ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST
                unsafe message.pointee.create_request = unsafe create
                return unsafe message
            },
            decode: { (message: UnsafePointer<Etcd.WatchResponse>) throws(RPCStatus) in
                unsafe try EtcdWatchBatch(message)
            }, metadata: metadata)
        return EtcdWatch(responses: responses, member: index)
    }

    /// The next call goes to another member, unless one does already.
    func turnAway(from member: Int) {
        state.withLock { if $0.current == member { $0.current = (member + 1) % channels.count } }
    }

    private func call<Request: ProtobufMessage, Response: ProtobufMessage, Output>(
        _ service: UnsafePointer<ProtobufCServiceDescriptor>, isStreaming: Bool = false, timeout: Duration,
        _ request: (borrowing MessageArena) -> UnsafeMutablePointer<Request>,
        _ response: (UnsafePointer<Response>) throws(RPCStatus) -> Output
    ) throws(RPCStatus) -> Output {
        let deadline = ContinuousClock.now + timeout
        var mayHaveOldToken = user != nil
        while true {
            let (index, metadata) = try member(by: deadline)
            do throws(RPCStatus) {
                return unsafe try channels[index].current.waitingUnary(
                    service, (), encode: { _, arena in unsafe request(arena) }, decode: response,
                    isStreaming: isStreaming, metadata: metadata, timeout: deadline - .now)
            } catch {
                if error.isOfMember { turnAway(from: index) }
                // Refused before anything happened. A token that was not used for some minutes is always old.
                guard mayHaveOldToken, error.saysThatTheTokenIsOld else { throw error }
                mayHaveOldToken = false
                state.withLock { $0.token = nil }
            }
        }
    }

    private func member(by deadline: ContinuousClock.Instant) throws(RPCStatus) -> (index: Int, metadata: RPCMetadata) {
        var (index, token) = state.withLock { ($0.current, $0.token) }
        var metadata = RPCMetadata()
        guard let user else { return (index, metadata) }
        if token == nil {
            do throws(RPCStatus) {
                token = unsafe try channels[index].current.waitingUnary(
                    cmessages_etcdserverpb_auth(), user,
                    encode: { user, arena in
                        let message = unsafe arena.make(Etcd.AuthenticateRequest.self)
                        unsafe message.pointee.name = unsafe arena.string(user.name)
                        unsafe message.pointee.password = unsafe arena.string(user.password())
                        return unsafe message
                    },
                    decode: { (answer: UnsafePointer<Etcd.AuthenticateResponse>) throws(RPCStatus) in
                        unsafe try text(answer.pointee.token, "token")
                    }, timeout: deadline - .now)
            } catch {
                if [.unavailable, .deadlineExceeded].contains(error.code) { turnAway(from: index) }
                throw error
            }
            state.withLock { state in
                // A simple token is one member's own until etcd has told the others.
                state.token = token
                index = state.current
            }
        }
        // rpctypes.TokenFieldNameGRPC
        if let token { metadata.append("token", token) }
        return (index, metadata)
    }
}

extension RPCStatus {
    /// Whether another member may answer otherwise, or this one soon.
    var isOfMember: Bool {
        switch code {
        case .unavailable, .deadlineExceeded, .cancelled, .unknown, .internalError: true
        default: false
        }
    }

    /// etcd gives its users tokens that end (--auth-token-ttl), and takes none from before a change of its users or roles
    /// (`ErrGRPCInvalidAuthToken`, `ErrGRPCAuthOldRevision` in its api/v3rpc/rpctypes/error.go).
    fileprivate var saysThatTheTokenIsOld: Bool {
        code == .unauthenticated || message.contains("revision of auth store is old")
    }
}

/// A watch, and which member it is with.
struct EtcdWatch: Sendable {
    var responses: RPCResponses<EtcdWatchBatch>
    var member: Int
}
