import CGRPC
import CMessages

extension RPCStatus {
    static let detailsKey = "grpc-status-details-bin"
    private static let errorInfoType = "type.googleapis.com/google.rpc.ErrorInfo"
    /// All headers of an answer together must stay under the peer's limit, 8 KiB unless it was told otherwise.
    private static let largestMessage = 1024
    private static let largestDetails = 4096

    /// The message as it is sent: cut where a peer would refuse the headers for their size.
    var sentMessage: String {
        guard message.utf8.count > Self.largestMessage else { return message }
        var cut = message
        while cut.utf8.count > Self.largestMessage - 3 { cut.removeLast() }
        return cut + "..."
    }

    /// google.rpc.Status in bytes, or nil where there is nothing that code and message do not say.
    func packDetails() -> [UInt8]? {
        guard let errorInfo else { return nil }
        let packed = pack(errorInfo)
        guard packed.count > Self.largestDetails else { return packed }
        return pack(ErrorInfo(reason: errorInfo.reason, domain: errorInfo.domain))
    }

    private func pack(_ info: ErrorInfo) -> [UInt8] {
        let arena = MessageArena()
        let entries = info.metadata.sorted { $0.key < $1.key }
        let detail = arena.make(Google__Rpc__ErrorInfo.self)
        detail.pointee.reason = arena.string(info.reason)
        detail.pointee.domain = arena.string(info.domain)
        detail.pointee.n_metadata = entries.count
        detail.pointee.metadata = arena.array(entries.count) { index in
            let entry = arena.make(Google__Rpc__ErrorInfo__MetadataEntry.self)
            entry.pointee.key = arena.string(entries[index].key)
            entry.pointee.value = arena.string(entries[index].value)
            return entry
        }
        var bytes = OutgoingMessage.bytes(of: detail)
        let status = arena.make(Google__Rpc__Status.self)
        status.pointee.code = code.rawValue
        status.pointee.message = arena.string(sentMessage)
        status.pointee.n_details = 1
        status.pointee.details = arena.array(1) { _ in
            let any = arena.make(Google__Protobuf__Any.self)
            any.pointee.type_url = arena.string(Self.errorInfoType)
            any.pointee.value = arena.bytes(bytes)
            return any
        }
        bytes = OutgoingMessage.bytes(of: status)
        return bytes
    }

    /// The ErrorInfo in a google.rpc.Status; nil where there is none, or where the bytes are not what they should be.
    static func unpackErrorInfo(_ bytes: [UInt8]) -> ErrorInfo? {
        bytes.withUnsafeBufferPointer { bytes in
            try? MessageDecoder<Google__Rpc__Status>().decode(bytes) { (status) throws(RPCStatus) -> ErrorInfo? in
                for index in 0..<status.pointee.n_details {
                    guard let any = status.pointee.details[index]?.pointee,
                        try text(any.type_url, "type_url").hasSuffix("/google.rpc.ErrorInfo")
                    else { continue }
                    let value = UnsafeBufferPointer(start: any.value.data, count: any.value.len)
                    return try MessageDecoder<Google__Rpc__ErrorInfo>().decode(value, ErrorInfo.init(_:))
                }
                return nil
            }
        }
    }
}

extension RPCStatus.ErrorInfo {
    fileprivate init(_ info: UnsafePointer<Google__Rpc__ErrorInfo>) throws(RPCStatus) {
        var metadata: [String: String] = [:]
        for index in 0..<info.pointee.n_metadata {
            guard let entry = info.pointee.metadata[index] else { continue }
            metadata[try text(entry.pointee.key, "metadata.key")] = try text(entry.pointee.value, "metadata.value")
        }
        self.init(
            reason: try text(info.pointee.reason, "reason"), domain: try text(info.pointee.domain, "domain"),
            metadata: metadata)
    }
}
