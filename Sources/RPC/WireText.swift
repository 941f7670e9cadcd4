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
        switch walk(start, start + bytes.count, descriptor, depth: 0, &path) {
        case .good: return
        case .bad: throw .badText(field: path.reversed().joined(separator: "."))
        case .tooDeep: throw RPCStatus(.invalidArgument, "messages are nested too deep")
        }
    }

    private enum Finding { case good, bad, tooDeep }

    private static func walk(
        _ start: UnsafePointer<UInt8>, _ end: UnsafePointer<UInt8>,
        _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>, depth: Int, _ path: inout [String]
    ) -> Finding {
        if depth > deepest { return .tooDeep }
        var at = start
        while at < end {
            guard let tag = varint(&at, end) else { return .good }
            switch tag & 7 {
            case 0: guard varint(&at, end) != nil else { return .good }
            case 1: at += 8
            case 5: at += 4
            case 2:
                guard let length = varint(&at, end), length <= UInt64(end - at) else { return .good }
                let next = at + Int(length)
                if let field = protobuf_c_message_descriptor_get_field(descriptor, UInt32(truncatingIfNeeded: tag >> 3))
                {
                    let finding = check(field, at, next, depth, &path)
                    if finding != .good { return finding }
                }
                at = next
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
        switch field.pointee.type {
        case PROTOBUF_C_TYPE_STRING:
            if !isText(start, end) { finding = .bad }
        case PROTOBUF_C_TYPE_MESSAGE:
            if let inner = field.pointee.descriptor?.assumingMemoryBound(to: ProtobufCMessageDescriptor.self) {
                finding = walk(start, end, inner, depth: depth + 1, &path)
            }
        default: break
        }
        if finding == .bad { path.append(String(cString: field.pointee.name)) }
        return finding
    }

    private static func varint(_ at: inout UnsafePointer<UInt8>, _ end: UnsafePointer<UInt8>) -> UInt64? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while at < end, shift < 64 {
            let byte = at.pointee
            at += 1
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
        return nil
    }

    private static func isText(_ start: UnsafePointer<UInt8>, _ end: UnsafePointer<UInt8>) -> Bool {
        var at = start
        while at < end, at.pointee &- 1 < 0x7f { at += 1 }
        if at == end { return true }
        let rest = UnsafeBufferPointer(start: at, count: end - at)
        return !rest.contains(0) && String(validating: rest, as: UTF8.self) != nil
    }
}
