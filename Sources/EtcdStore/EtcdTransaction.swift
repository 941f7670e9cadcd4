import CMessages
import RPC

/// protoc-c's names, shortened: `Etcd.TxnRequest` is the message etcdserverpb.TxnRequest as a C struct.
enum Etcd {
    typealias RangeRequest = Etcdserverpb__RangeRequest
    typealias RangeResponse = Etcdserverpb__RangeResponse
    typealias PutRequest = Etcdserverpb__PutRequest
    typealias DeleteRangeRequest = Etcdserverpb__DeleteRangeRequest
    typealias RequestOp = Etcdserverpb__RequestOp
    typealias Compare = Etcdserverpb__Compare
    typealias TxnRequest = Etcdserverpb__TxnRequest
    typealias TxnResponse = Etcdserverpb__TxnResponse
    typealias WatchRequest = Etcdserverpb__WatchRequest
    typealias WatchCreateRequest = Etcdserverpb__WatchCreateRequest
    typealias WatchResponse = Etcdserverpb__WatchResponse
    typealias LeaseGrantRequest = Etcdserverpb__LeaseGrantRequest
    typealias LeaseGrantResponse = Etcdserverpb__LeaseGrantResponse
    typealias LeaseRevokeRequest = Etcdserverpb__LeaseRevokeRequest
    typealias LeaseRevokeResponse = Etcdserverpb__LeaseRevokeResponse
    typealias LeaseKeepAliveRequest = Etcdserverpb__LeaseKeepAliveRequest
    typealias LeaseKeepAliveResponse = Etcdserverpb__LeaseKeepAliveResponse
    typealias AuthenticateRequest = Etcdserverpb__AuthenticateRequest
    typealias AuthenticateResponse = Etcdserverpb__AuthenticateResponse
}

/// A key with its value, as etcd has it.
struct EtcdEntry: Sendable {
    var key: String
    var value: [UInt8]
    var createRevision: Int64
    var modRevision: Int64

    var text: String { String(decoding: value, as: UTF8.self) }
}

/// What must be true for a transaction to take its first branch.
enum EtcdComparison: Sendable {
    /// 0: the key does not exist.
    case createRevision(of: String, Int64)
    case modRevision(of: String, Int64)
}

enum EtcdOperation: Sendable {
    case put(String, [UInt8], lease: Int64 = 0)
    case delete(String)
    case deleteRange(from: String, to: String)
    case get(String)

    /// The key that it is about; of a range, the first.
    var key: String {
        switch self {
        case .put(let key, _, _), .delete(let key), .deleteRange(let key, _), .get(let key): key
        }
    }

    /// What it weighs in a request, about.
    var byteCount: Int {
        switch self {
        case .put(let key, let value, _): key.utf8.count + value.count + 24
        case .delete(let key), .get(let key): key.utf8.count + 16
        case .deleteRange(let from, let to): from.utf8.count + to.utf8.count + 16
        }
    }
}

/// All of `success` where all comparisons hold, else all of `failure`; seen by others whole or not at all.
///
/// etcd takes 128 comparisons and 128 operations a transaction (--max-txn-ops), counted along each path of nested ones
/// (`checkTxnRequest` in its server/etcdserver/api/v3rpc/key.go): so operations are put into nested transactions without
/// comparisons, n - 1 of them of 128 - n each. The last operation stays beside them: etcd's quota counts no nested one
/// (`costTxn` in its server/storage/quota.go), so that nested ones alone would go on filling a full etcd.
struct EtcdTransaction: Sendable {
    static let limit = 128
    /// So that enough operations fit beside them.
    static let mostComparisons = 120
    /// etcd's --max-request-bytes is 1.5 MiB.
    static let mostBytes = 1 << 20

    var comparisons: [EtcdComparison] = []
    var success: [EtcdOperation] = []
    var failure: [EtcdOperation] = []
    /// Of a commit that is a fact already: it is to be done also where etcd is full, so that all of it is nested.
    var isOwed = false

    /// Whether etcd takes it.
    var fits: Bool {
        comparisons.count <= Self.mostComparisons && success.count - 1 <= (groups - 1) * (Self.limit - groups)
            && success.reduce(0, { $0 + $1.byteCount }) <= Self.mostBytes
    }

    /// How many nested transactions the operations are put into where one does not hold them.
    private var groups: Int { max(comparisons.count, Self.limit / 2) }

    func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Etcd.TxnRequest> {
        let message = unsafe arena.make(Etcd.TxnRequest.self)
        unsafe message.pointee.n_compare = comparisons.count
        unsafe message.pointee.compare = unsafe arena.array(comparisons.count) {
            unsafe comparisons[$0].wire(in: arena)
        }
        if success.count <= Self.limit, !isOwed {
            unsafe message.pointee.n_success = success.count
            unsafe message.pointee.success = unsafe arena.array(success.count) { unsafe success[$0].wire(in: arena) }
        } else {
            let size = Self.limit - groups
            let beside = isOwed ? 0 : 1
            let nestedOnes = success.dropLast(beside)
            let count = (nestedOnes.count + size - 1) / size
            unsafe message.pointee.n_success = count + beside
            unsafe message.pointee.success = unsafe arena.array(count + beside) { group in
                if group == count { return unsafe success[success.count - 1].wire(in: arena) }
                let operations = nestedOnes[group * size..<min((group + 1) * size, nestedOnes.count)]
                let nested = unsafe arena.make(Etcd.TxnRequest.self)
                unsafe nested.pointee.n_success = operations.count
                unsafe nested.pointee.success = unsafe arena.array(operations.count) {
                    unsafe operations[operations.startIndex + $0].wire(in: arena)
                }
                let operation = unsafe arena.make(Etcd.RequestOp.self)
                unsafe operation.pointee.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN
                unsafe operation.pointee.request_txn = unsafe nested
                return unsafe operation
            }
        }
        unsafe message.pointee.n_failure = failure.count
        unsafe message.pointee.failure = unsafe arena.array(failure.count) { unsafe failure[$0].wire(in: arena) }
        return unsafe message
    }
}

extension EtcdComparison {
    fileprivate func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Etcd.Compare> {
        let message = unsafe arena.make(Etcd.Compare.self)
        unsafe message.pointee.result = ETCDSERVERPB__COMPARE__COMPARE_RESULT__EQUAL
        switch self {
        case .createRevision(let key, let revision):
            unsafe message.pointee.key = unsafe arena.bytes(Array(key.utf8))
            unsafe message.pointee.target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE
            unsafe message.pointee.target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION
            unsafe message.pointee.create_revision = revision
        case .modRevision(let key, let revision):
            unsafe message.pointee.key = unsafe arena.bytes(Array(key.utf8))
            unsafe message.pointee.target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD
            unsafe message.pointee.target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION
            unsafe message.pointee.mod_revision = revision
        }
        return unsafe message
    }
}

extension EtcdOperation {
    fileprivate func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Etcd.RequestOp> {
        let message = unsafe arena.make(Etcd.RequestOp.self)
        switch self {
        case .put(let key, let value, let lease):
            let put = unsafe arena.make(Etcd.PutRequest.self)
            unsafe put.pointee.key = unsafe arena.bytes(Array(key.utf8))
            unsafe put.pointee.value = unsafe arena.bytes(value)
            unsafe put.pointee.lease = lease
            unsafe message.pointee.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT
            unsafe message.pointee.request_put = unsafe put
        case .delete(let key):
            let delete = unsafe arena.make(Etcd.DeleteRangeRequest.self)
            unsafe delete.pointee.key = unsafe arena.bytes(Array(key.utf8))
            unsafe message.pointee.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE
            unsafe message.pointee.request_delete_range = unsafe delete
        case .deleteRange(let from, let to):
            let delete = unsafe arena.make(Etcd.DeleteRangeRequest.self)
            unsafe delete.pointee.key = unsafe arena.bytes(Array(from.utf8))
            unsafe delete.pointee.range_end = unsafe arena.bytes(Array(to.utf8))
            unsafe message.pointee.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE
            unsafe message.pointee.request_delete_range = unsafe delete
        case .get(let key):
            let range = unsafe arena.make(Etcd.RangeRequest.self)
            unsafe range.pointee.key = unsafe arena.bytes(Array(key.utf8))
            unsafe message.pointee.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE
            unsafe message.pointee.request_range = unsafe range
        }
        return unsafe message
    }
}
