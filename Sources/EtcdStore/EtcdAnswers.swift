import CMessages
import RPC

/// A page of keys at one revision of etcd's.
struct EtcdRange: Sendable {
    /// etcd's revision when it answered.
    var revision: Int64
    var entries: [EtcdEntry]
    /// Whether the range has more keys than were asked for.
    var hasMore: Bool

    init(_ message: UnsafePointer<Etcd.RangeResponse>) {
        revision = unsafe message.pointee.header?.pointee.revision ?? 0
        entries = unsafe (0..<message.pointee.n_kvs).compactMap { index in
            unsafe message.pointee.kvs[index].map { unsafe EtcdEntry($0) }
        }
        hasMore = unsafe message.pointee.more != 0
    }
}

struct EtcdTransactionAnswer: Sendable {
    var revision: Int64
    /// Whether the comparisons held.
    var succeeded: Bool
    /// What each `get` of the branch that was taken found.
    var found: [EtcdEntry?]

    /// As the answer to a transaction whose comparisons do not hold.
    init(found: [EtcdEntry?], revision: Int64) {
        self.revision = revision
        self.found = found
        succeeded = false
    }

    init(_ message: UnsafePointer<Etcd.TxnResponse>) {
        revision = unsafe message.pointee.header?.pointee.revision ?? 0
        succeeded = unsafe message.pointee.succeeded != 0
        found = []
        for index in unsafe 0..<message.pointee.n_responses {
            guard let response = unsafe message.pointee.responses[index],
                unsafe response.pointee.response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE,
                let range = unsafe response.pointee.response_range
            else { continue }
            found.append(unsafe EtcdRange(range).entries.first)
        }
    }
}

/// One message of a watch.
struct EtcdWatchBatch: Sendable {
    enum Event: Sendable {
        case put(EtcdEntry)
        /// With the revision of its deletion.
        case deleted(key: String, revision: Int64)

        var revision: Int64 {
            switch self {
            case .put(let entry): entry.modRevision
            case .deleted(_, let revision): revision
            }
        }
    }

    var events: [Event]
    /// Whether more of the same revision may follow in the next message.
    var isFragment: Bool
    /// Set where etcd ended the watch: why.
    var cancelReason: String?
    /// Where the watch began too early: the oldest revision that etcd still has.
    var compactRevision: Int64

    init(_ message: UnsafePointer<Etcd.WatchResponse>) throws(RPCStatus) {
        isFragment = unsafe message.pointee.fragment != 0
        compactRevision = unsafe message.pointee.compact_revision
        cancelReason = unsafe message.pointee.canceled != 0 ? try text(message.pointee.cancel_reason, "reason") : nil
        events = unsafe (0..<message.pointee.n_events).compactMap { index in
            guard let event = unsafe message.pointee.events[index], let entry = unsafe event.pointee.kv else {
                return nil
            }
            if unsafe event.pointee.type == MVCCPB__EVENT__EVENT_TYPE__DELETE {
                return unsafe .deleted(key: String(entry.pointee.key), revision: entry.pointee.mod_revision)
            }
            return unsafe .put(EtcdEntry(entry))
        }
    }
}

extension EtcdEntry {
    fileprivate init(_ message: UnsafePointer<Mvccpb__KeyValue>) {
        key = unsafe String(message.pointee.key)
        value = unsafe Array(UnsafeBufferPointer(start: message.pointee.value.data, count: message.pointee.value.len))
        createRevision = unsafe message.pointee.create_revision
        modRevision = unsafe message.pointee.mod_revision
    }
}

extension String {
    /// A key of somebody else's that is not UTF-8 is repaired, and then none of ours.
    fileprivate init(_ bytes: ProtobufCBinaryData) {
        self = unsafe String(decoding: UnsafeBufferPointer(start: bytes.data, count: bytes.len), as: UTF8.self)
    }
}
