import CMessages

/// What protoc wrote for every .proto of this program: served by reflection, and the only place that says which methods
/// stream.
struct DescriptorSet: Sendable {
    struct File: Sendable {
        var name = ""
        /// google.protobuf.FileDescriptorProto.
        var bytes: [UInt8] = []
        var dependencies: [String] = []
    }

    enum Kind: Sendable, Hashable { case unary, serverStreaming, clientStreaming, bidirectional }

    /// By name, `google/protobuf/any.proto`.
    private(set) var files: [String: File] = [:]
    /// The file of each message, enum, service, method, field, oneof, value by its full name.
    private(set) var fileOfSymbol: [String: String] = [:]
    /// By `service/method`.
    private(set) var kinds: [String: Kind] = [:]

    static let embedded = unsafe DescriptorSet(
        Array(UnsafeBufferPointer(start: cmessages_descriptor_set(), count: cmessages_descriptor_set_size)))

    init(_ bytes: [UInt8]) {
        var set = WireReader(bytes[...])
        while let field = set.next() {
            if field.number == 1 { addFile(field.bytes) }
        }
    }

    /// A file and all that it imports, itself first.
    func closure(of name: String) -> [File] {
        var found: [File] = []
        var wanted = [name]
        var seen: Set<String> = []
        while let name = wanted.popLast() {
            guard seen.insert(name).inserted, let file = files[name] else { continue }
            found.append(file)
            wanted += file.dependencies
        }
        return found
    }

    // Field numbers: google/protobuf/descriptor.proto.
    private mutating func addFile(_ bytes: ArraySlice<UInt8>) {
        var file = File(bytes: Array(bytes))
        var package = ""
        var reader = WireReader(bytes)
        while let field = reader.next() {
            switch field.number {
            case 1: file.name = field.text
            case 2: package = field.text
            case 3: file.dependencies.append(field.text)
            default: break
            }
        }
        let scope = package.isEmpty ? "" : package + "."
        reader = WireReader(bytes)
        while let field = reader.next() {
            switch field.number {
            case 4: addMessage(field.bytes, scope, file.name)
            case 5: addEnum(field.bytes, scope, file.name)
            case 6: addService(field.bytes, scope, file.name)
            default: break
            }
        }
        files[file.name] = file
    }

    private mutating func addMessage(_ bytes: ArraySlice<UInt8>, _ scope: String, _ file: String) {
        let name = scope + Self.name(bytes)
        fileOfSymbol[name] = file
        var reader = WireReader(bytes)
        while let field = reader.next() {
            switch field.number {
            case 2, 8: fileOfSymbol[name + "." + Self.name(field.bytes)] = file
            case 3: addMessage(field.bytes, name + ".", file)
            case 4: addEnum(field.bytes, name + ".", file)
            default: break
            }
        }
    }

    private mutating func addEnum(_ bytes: ArraySlice<UInt8>, _ scope: String, _ file: String) {
        fileOfSymbol[scope + Self.name(bytes)] = file
        var reader = WireReader(bytes)
        while let field = reader.next() {
            // The values of an enum stand beside it, not within.
            if field.number == 2 { fileOfSymbol[scope + Self.name(field.bytes)] = file }
        }
    }

    private mutating func addService(_ bytes: ArraySlice<UInt8>, _ scope: String, _ file: String) {
        let service = scope + Self.name(bytes)
        fileOfSymbol[service] = file
        var reader = WireReader(bytes)
        while let field = reader.next() {
            guard field.number == 2 else { continue }
            let method = Self.name(field.bytes)
            fileOfSymbol[service + "." + method] = file
            var streams = (client: false, server: false)
            var details = WireReader(field.bytes)
            while let detail = details.next() {
                if detail.number == 5 { streams.client = detail.value != 0 }
                if detail.number == 6 { streams.server = detail.value != 0 }
            }
            kinds[service + "/" + method] =
                switch streams {
                case (false, false): .unary
                case (false, true): .serverStreaming
                case (true, false): .clientStreaming
                case (true, true): .bidirectional
                }
        }
    }

    /// Field 1 of every descriptor.
    private static func name(_ bytes: ArraySlice<UInt8>) -> String {
        var reader = WireReader(bytes)
        while let field = reader.next() {
            if field.number == 1 { return field.text }
        }
        return ""
    }
}

/// Walks the fields of a protobuf message. Ends at the first thing that it cannot read.
struct WireReader {
    struct Field {
        var number: UInt64
        var value: UInt64 = 0
        var bytes: ArraySlice<UInt8> = []
        var text: String { String(decoding: bytes, as: UTF8.self) }
    }

    private var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

    mutating func next() -> Field? {
        guard let tag = varint() else { return nil }
        var field = Field(number: tag >> 3)
        switch tag & 7 {
        case 0:
            guard let value = varint() else { return nil }
            field.value = value
        case 1, 5:
            let length = tag & 7 == 1 ? 8 : 4
            guard rest.count >= length else { return nil }
            rest = rest.dropFirst(length)
        case 2:
            guard let length = varint(), length <= UInt64(rest.count) else { return nil }
            field.bytes = rest.prefix(Int(length))
            rest = rest.dropFirst(Int(length))
        default: return nil
        }
        return field
    }

    private mutating func varint() -> UInt64? {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 64, by: 7) {
            guard let byte = rest.popFirst() else { return nil }
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
        }
        return nil
    }
}
