import CGRPC
import CMessages

extension RPCStatus {
    static let detailsKey = "grpc-status-details-bin"
    private static let errorInfoType = "type.googleapis.com/google.rpc.ErrorInfo"
    private static let retryInfoType = "type.googleapis.com/google.rpc.RetryInfo"
    /// All headers of an answer together must stay under the peer's limit, 8 KiB unless it was told otherwise; on the wire
    /// a byte of text may take three, and three bytes of details four.
    private static let largestMessage = 1024
    private static let largestDetails = 3072

    /// The message as it is sent: cut where a peer would refuse the headers for their size.
    var sentMessage: String {
        guard message.utf8.count > Self.largestMessage else { return message }
        // Decoding repairs a character that was cut through.
        return String(decoding: message.utf8.prefix(Self.largestMessage - 3), as: UTF8.self) + "..."
    }

    /// google.rpc.Status in bytes, or nil where there is nothing that code and message do not say.
    func packDetails() -> [UInt8]? {
        guard errorInfo != nil || retryDelay != nil else { return nil }
        let packed = pack(errorInfo)
        guard packed.count > Self.largestDetails else { return packed }
        return pack(errorInfo.map { ErrorInfo(reason: $0.reason, domain: $0.domain) })
    }

    private func pack(_ info: ErrorInfo?) -> [UInt8] {
        let arena = MessageArena()
        var details: [(type: String, bytes: [UInt8])] = []
        if let info { details.append((Self.errorInfoType, pack(info, arena))) }
        if let retryDelay { details.append((Self.retryInfoType, pack(retryDelay, arena))) }
        let status = unsafe arena.make(Google__Rpc__Status.self)
        unsafe status.pointee.code = code.rawValue
        unsafe status.pointee.message = unsafe arena.string(sentMessage)
        unsafe status.pointee.n_details = details.count
        unsafe status.pointee.details = unsafe arena.array(details.count) { index in
            let any = unsafe arena.make(Google__Protobuf__Any.self)
            unsafe any.pointee.type_url = unsafe arena.string(details[index].type)
            unsafe any.pointee.value = unsafe arena.bytes(details[index].bytes)
            return unsafe any
        }
        return unsafe OutgoingMessage.bytes(of: status)
    }

    private func pack(_ info: ErrorInfo, _ arena: borrowing MessageArena) -> [UInt8] {
        let entries = info.metadata.sorted { $0.key < $1.key }
        let detail = unsafe arena.make(Google__Rpc__ErrorInfo.self)
        unsafe detail.pointee.reason = unsafe arena.string(info.reason)
        unsafe detail.pointee.domain = unsafe arena.string(info.domain)
        unsafe detail.pointee.n_metadata = entries.count
        unsafe detail.pointee.metadata = unsafe arena.array(entries.count) { index in
            let entry = unsafe arena.make(Google__Rpc__ErrorInfo__MetadataEntry.self)
            unsafe entry.pointee.key = unsafe arena.string(entries[index].key)
            unsafe entry.pointee.value = unsafe arena.string(entries[index].value)
            return unsafe entry
        }
        return unsafe OutgoingMessage.bytes(of: detail)
    }

    private func pack(_ delay: Duration, _ arena: borrowing MessageArena) -> [UInt8] {
        let detail = unsafe arena.make(Google__Rpc__RetryInfo.self)
        unsafe detail.pointee.retry_delay = unsafe arena.make(Google__Protobuf__Duration.self)
        unsafe detail.pointee.retry_delay.pointee.seconds = delay.components.seconds
        unsafe detail.pointee.retry_delay.pointee.nanos = Int32(delay.components.attoseconds / 1_000_000_000)
        return unsafe OutgoingMessage.bytes(of: detail)
    }

    /// Takes ErrorInfo and RetryInfo over from a google.rpc.Status in bytes; nothing where these are not what they should be.
    mutating func takeDetails(_ bytes: [UInt8]) {
        let details = unsafe bytes.withUnsafeBufferPointer { bytes in
            unsafe try? MessageDecoder<Google__Rpc__Status>().decode(bytes) {
                (status) throws(RPCStatus) -> (ErrorInfo?, Duration?) in
                var found: (info: ErrorInfo?, delay: Duration?)
                for index in unsafe 0..<status.pointee.n_details {
                    guard let any = unsafe status.pointee.details[index]?.pointee else { continue }
                    let type = unsafe try text(any.type_url, "type_url")
                    let value = unsafe UnsafeBufferPointer(start: any.value.data, count: any.value.len)
                    if type.hasSuffix("/google.rpc.ErrorInfo"), found.info == nil {
                        found.info = unsafe try MessageDecoder<Google__Rpc__ErrorInfo>()
                            .decode(value, ErrorInfo.init(_:))
                    } else if type.hasSuffix("/google.rpc.RetryInfo") {
                        found.delay = unsafe try MessageDecoder<Google__Rpc__RetryInfo>().decode(value) { info in
                            unsafe info.pointee.retry_delay.map { delay in
                                unsafe .seconds(delay.pointee.seconds) + .nanoseconds(Int64(delay.pointee.nanos))
                            }
                        }
                    }
                }
                return found
            }
        }
        (errorInfo, retryDelay) = details ?? (nil, nil)
    }
}

extension RPCStatus.ErrorInfo {
    fileprivate init(_ info: UnsafePointer<Google__Rpc__ErrorInfo>) throws(RPCStatus) {
        var metadata: [String: String] = [:]
        for index in unsafe 0..<info.pointee.n_metadata {
            guard let entry = unsafe info.pointee.metadata[index] else { continue }
            unsafe metadata[try text(entry.pointee.key, "metadata.key")] = unsafe try text(
                entry.pointee.value, "metadata.value")
        }
        unsafe self.init(
            reason: try text(info.pointee.reason, "reason"), domain: try text(info.pointee.domain, "domain"),
            metadata: metadata)
    }
}
