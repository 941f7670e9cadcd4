import CMessages
import Foundation
import IPAMModel
import Telemetry

@testable import Access
@testable import EtcdStore
@testable import IPAMAPI
@testable import RPC

extension Reader {
    /// What comes with calls: protobuf messages of the server's clients, of its answers to them, and of etcd's; tokens.
    static let api = [
        Reader(
            name: "requests",
            read: byFirstByte([
                { try roundTrip($0, { try AllocateRequest($0) }, { $0.wire(in: $1) }) },
                { try roundTrip($0, { try ReleaseRequest($0) }, { $0.wire(in: $1) }) },
                { try roundTrip($0, { try TransferRequest($0) }, { $0.wire(in: $1) }) },
                { try roundTrip($0, { try BindingQuery($0) }, { $0.wire(in: $1) }) },
                { try roundTrip($0, { try BindingListing($0) }, { $0.wire(in: $1) }) },
                { try roundTrip($0, { try RenewCopiesRequest($0) }, { $0.wire(in: $1) }) },
                { bytes in
                    try roundTrip(
                        bytes,
                        { (message: Wire.Pool) in
                            var message = message
                            return try withUnsafeMutablePointer(to: &message) { try Pool($0) }
                        }, { DescribedPool(pool: $0, usage: []).wire(in: $1) })
                },
                { bytes in _ = value(bytes) { (message: Wire.WatchBindingsRequest) in try BindingFilter(message) } },
            ])),
        Reader(
            name: "answers",
            read: byFirstByte([
                { try roundTrip($0, { try DescribedBinding($0) }, { $0.wire(in: $1) }) },
                { try roundTrip($0, { try BindingEvent($0) }, { $0.wire(in: $1) }) },
                { try roundTrip($0, { try BindingPage($0) }, { $0.wire(in: $1) }) },
                { try roundTrip($0, { try [RenewedCopy]($0) }, { $0.wire(in: $1) }) },
                { try roundTrip($0, { try DescribedPool($0) }, { $0.wire(in: $1) }) },
                { bytes in
                    var status = RPCStatus(.aborted, "")
                    status.takeDetails(bytes)
                    guard let packed = status.packDetails() else { return }
                    var again = RPCStatus(.aborted, "")
                    again.takeDetails(packed)
                    // Facts that would make the headers too large are left out.
                    if again.errorInfo?.metadata.isEmpty != false { status.errorInfo?.metadata = [:] }
                    if packed.count < 3072 { try expectSame(status, again, "details") }
                },
            ])),
        Reader(
            name: "etcd-answers",
            read: byFirstByte([
                { _ = decoded($0) { (message: UnsafePointer<Etcd.RangeResponse>) in EtcdRange(message) } },
                { _ = decoded($0) { (message: UnsafePointer<Etcd.TxnResponse>) in EtcdTransactionAnswer(message) } },
                { _ = decoded($0) { (message: UnsafePointer<Etcd.WatchResponse>) in try? EtcdWatchBatch(message) } },
            ])),
        // What is read of a token before its signature is known to be good, and of a call's trace.
        Reader(name: "tokens") { bytes in
            if let claims = try? TokenClaims.parse(bytes).payload {
                let again = try JSONDecoder().decode(TokenClaims.self, from: JSONEncoder().encode(claims))
                try expectSame(claims, again, "claims")
                _ = claims.allGroups
            }
            if let trace = TraceContext(traceparent: String(decoding: bytes, as: UTF8.self)) {
                try expectSame(trace, TraceContext(traceparent: trace.traceparent), "trace")
            }
        },
    ]
}

/// Nil where the bytes are refused.
private func decoded<M: ProtobufMessage, Value>(_ bytes: [UInt8], _ body: (UnsafePointer<M>) -> Value) -> Value? {
    bytes.withUnsafeBufferPointer { bytes in
        try? MessageDecoder<M>().decode(bytes) { (message) throws(RPCStatus) in body(message) }
    }
}

private func value<M: ProtobufMessage, Value>(_ bytes: [UInt8], _ reader: (M) throws -> Value) -> Value? {
    decoded(bytes) { try? reader($0.pointee) } ?? nil
}

private func roundTrip<M: ProtobufMessage, Value: Equatable>(
    _ bytes: [UInt8], _ reader: (M) throws -> Value,
    _ write: (Value, borrowing MessageArena) -> UnsafeMutablePointer<M>
) throws {
    guard let first = value(bytes, reader) else { return }
    let arena = MessageArena()
    try expectSame(first, value(OutgoingMessage.bytes(of: write(first, arena)), reader), "\(M.self)")
}
