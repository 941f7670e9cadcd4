import CGRPC
import CMessages

extension RPCStatus {
    static let detailsKey = "grpc-status-details-bin"
    private static let errorInfoType = "type.googleapis.com/google.rpc.ErrorInfo"
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
        guard let errorInfo else { return nil }
        let packed = pack(errorInfo)
        guard packed.count > Self.largestDetails else { return packed }
        return pack(ErrorInfo(reason: errorInfo.reason, domain: errorInfo.domain))
    }

    private func pack(_ info: ErrorInfo) -> [UInt8] {
        let arena = MessageArena()
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
        var bytes = unsafe OutgoingMessage.bytes(of: detail)
        let status = unsafe arena.make(Google__Rpc__Status.self)
        unsafe status.pointee.code = code.rawValue
        unsafe status.pointee.message = unsafe arena.string(sentMessage)
        unsafe status.pointee.n_details = 1
        unsafe status.pointee.details = unsafe arena.array(1) { _ in
            let any = unsafe arena.make(Google__Protobuf__Any.self)
            unsafe any.pointee.type_url = unsafe arena.string(Self.errorInfoType)
            unsafe any.pointee.value = unsafe arena.bytes(bytes)
            return unsafe any
        }
        bytes = unsafe OutgoingMessage.bytes(of: status)
        return bytes
    }

    /// The ErrorInfo in a google.rpc.Status; nil where there is none, or where the bytes are not what they should be.
    static func unpackErrorInfo(_ bytes: [UInt8]) -> ErrorInfo? {
        unsafe bytes.withUnsafeBufferPointer { bytes in
            unsafe try? MessageDecoder<Google__Rpc__Status>().decode(bytes) {
                (status) throws(RPCStatus) -> ErrorInfo? in
                for index in unsafe 0..<status.pointee.n_details {
                    guard let any = unsafe status.pointee.details[index]?.pointee,
                        unsafe try text(any.type_url, "type_url").hasSuffix("/google.rpc.ErrorInfo")
                    else { continue }
                    let value = unsafe UnsafeBufferPointer(start: any.value.data, count: any.value.len)
                    return unsafe try MessageDecoder<Google__Rpc__ErrorInfo>().decode(value, ErrorInfo.init(_:))
                }
                return nil
            }
        }
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
