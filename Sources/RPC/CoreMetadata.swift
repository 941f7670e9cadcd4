import CGRPC

/// Metadata on its way out, in the core's form. Kept until the batch that sends it has completed.
@safe final class SentMetadata {
    private(set) var entries: UnsafeMutablePointer<grpc_metadata>?
    let count: Int

    init(_ metadata: RPCMetadata) {
        count = metadata.entries.count
        guard count > 0 else { return }
        let entries = UnsafeMutablePointer<grpc_metadata>.allocate(capacity: count)
        for (index, entry) in metadata.entries.enumerated() {
            unsafe (entries + index).initialize(to: grpc_metadata())
            unsafe entries[index].key = unsafe Self.slice(Array(entry.key.utf8))
            switch entry.value {
            case .text(let text): unsafe entries[index].value = unsafe Self.slice(Array(text.utf8))
            case .binary(let bytes): unsafe entries[index].value = unsafe Self.slice(bytes)
            }
        }
        unsafe self.entries = unsafe entries
    }

    deinit {
        guard let entries = unsafe entries else { return }
        for index in 0..<count {
            unsafe grpc_slice_unref(entries[index].key)
            unsafe grpc_slice_unref(entries[index].value)
        }
        unsafe entries.deallocate()
    }

    private static func slice(_ bytes: [UInt8]) -> grpc_slice {
        unsafe bytes.withUnsafeBufferPointer { unsafe grpc_slice_from_copied_buffer($0.baseAddress, $0.count) }
    }
}

extension RPCMetadata {
    /// A copy of what the core received. Text that is not UTF-8 is repaired.
    init(copying array: grpc_metadata_array) {
        self.init()
        for index in unsafe 0..<array.count {
            let key = unsafe String(decoding: Self.bytes(&array.metadata[index].key), as: UTF8.self)
            let value = unsafe Self.bytes(&array.metadata[index].value)
            if key.hasSuffix("-bin") {
                unsafe append(key, binary: Array(value))
            } else {
                unsafe append(key, String(decoding: value, as: UTF8.self))
            }
        }
    }

    /// A copy of the first value under `key` that the core received.
    static func value(of key: StaticString, in array: inout grpc_metadata_array) -> [UInt8]? {
        for index in unsafe 0..<array.count {
            let name = unsafe bytes(&array.metadata[index].key)
            let wanted = unsafe UnsafeBufferPointer(start: key.utf8Start, count: key.utf8CodeUnitCount)
            guard unsafe name.elementsEqual(wanted) else { continue }
            return unsafe Array(bytes(&array.metadata[index].value))
        }
        return nil
    }

    private static func bytes(_ slice: UnsafeMutablePointer<grpc_slice>) -> UnsafeBufferPointer<UInt8> {
        unsafe UnsafeBufferPointer(start: cgrpc_slice_ptr(slice), count: cgrpc_slice_len(slice))
    }
}
