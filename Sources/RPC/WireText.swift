import CMessages

/// Looks at every string of a message while it is still bytes: protobuf-c would cut one at a NUL and takes any bytes for
/// text, and afterwards nobody could tell.
enum WireText {
    /// Deeper messages than this no peer of ours sends; protobuf-c itself would follow them until the stack ends.
    private static let deepest = 64

    /// Throws INVALID_ARGUMENT with the path of the first string that has a NUL or is not UTF-8. Bytes that are not a
    /// message at all are left to the parser, which refuses them.
    static func check(
        _ bytes: UnsafeBufferPointer<UInt8>, _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>
    ) throws(RPCStatus) {
        guard let start = bytes.baseAddress else { return }
        var path: [String] = []
        switch unsafe walk(start, start + bytes.count, descriptor, depth: 0, &path) {
        case .good: return
        case .bad: throw .badText(field: path.reversed().joined(separator: "."))
        case .tooDeep: throw .badMessage("messages are nested too deep")
        }
    }

    private enum Finding { case good, bad, tooDeep }

    private static func walk(
        _ start: UnsafePointer<UInt8>, _ end: UnsafePointer<UInt8>,
        _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>, depth: Int, _ path: inout [String]
    ) -> Finding {
        if depth > deepest { return .tooDeep }
        var at = unsafe start
        while unsafe at < end {
            guard let tag = unsafe varint(&at, end) else { return .good }
            switch tag & 7 {
            case 0: guard unsafe varint(&at, end) != nil else { return .good }
            case 1: unsafe at += 8
            case 5: unsafe at += 4
            case 2:
                guard let length = unsafe varint(&at, end), unsafe length <= UInt64(end - at) else { return .good }
                let next = unsafe at + Int(length)
                if let field = unsafe protobuf_c_message_descriptor_get_field(
                    descriptor, UInt32(truncatingIfNeeded: tag >> 3))
                {
                    let finding = unsafe check(field, at, next, depth, &path)
                    if finding != .good { return finding }
                }
                unsafe at = unsafe next
            default: return .good
            }
        }
        return .good
    }

    private static func check(
        _ field: UnsafePointer<ProtobufCFieldDescriptor>, _ start: UnsafePointer<UInt8>, _ end: UnsafePointer<UInt8>,
        _ depth: Int, _ path: inout [String]
    ) -> Finding {
        var finding = Finding.good
        switch unsafe field.pointee.type {
        case PROTOBUF_C_TYPE_STRING:
            if unsafe !isText(start, end) { finding = .bad }
        case PROTOBUF_C_TYPE_MESSAGE:
            if let inner = unsafe field.pointee.descriptor?.assumingMemoryBound(to: ProtobufCMessageDescriptor.self) {
                finding = unsafe walk(start, end, inner, depth: depth + 1, &path)
            }
        default: break
        }
        if finding == .bad { unsafe path.append(String(cString: field.pointee.name)) }
        return finding
    }

    private static func varint(_ at: inout UnsafePointer<UInt8>, _ end: UnsafePointer<UInt8>) -> UInt64? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while unsafe at < end, shift < 64 {
            let byte = unsafe at.pointee
            unsafe at += 1
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
        return nil
    }

    private static func isText(_ start: UnsafePointer<UInt8>, _ end: UnsafePointer<UInt8>) -> Bool {
        var at = unsafe start
        while unsafe at < end, unsafe at.pointee &- 1 < 0x7f { unsafe at += 1 }
        if unsafe at == end { return true }
        let rest = unsafe UnsafeBufferPointer(start: at, count: end - at)
        return unsafe !rest.contains(0) && String(validating: rest, as: UTF8.self) != nil
    }
}
