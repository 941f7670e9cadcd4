import IPAMModel

/// One value as bytes: a format number, the fields in order, and a checksum over both.
///
/// SQLite's pages and most copies of a file carry no checksum of their own; with this one a changed byte is found
/// when the value is read, before it can turn into another address. Integers are LEB128 or fixed and little-endian.
struct RecordWriter {
    private var bytes: [UInt8]
    /// Where the record begins.
    private let start: Int

    init(format: UInt8, after bytes: consuming [UInt8]) {
        start = bytes.count
        // Moved, as a copy would be made again with the first byte.
        self.bytes = consume bytes
        self.bytes.append(format)
    }

    mutating func put(_ value: UInt8) { bytes.append(value) }

    mutating func put(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    mutating func put(_ value: Int) { put(UInt64(value)) }

    mutating func put(fixed value: some FixedWidthInteger, byteCount: Int) {
        for index in 0..<byteCount { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * index))) }
    }

    mutating func put(_ value: String) {
        put(value.utf8.count)
        bytes.append(contentsOf: value.utf8)
    }

    mutating func put<Value>(_ value: Value?, with body: (inout Self, Value) -> Void) {
        put(UInt8(value == nil ? 0 : 1))
        if let value { body(&self, value) }
    }

    mutating func put<Element>(_ elements: [Element], with body: (inout Self, Element) -> Void) {
        put(elements.count)
        for element in elements { body(&self, element) }
    }

    /// What was there before, and the record.
    consuming func finished() -> [UInt8] {
        // No slice: while there is one, the next byte makes a copy of all.
        let checksum = FNV1a(bytes.span.extracting(start...)).value
        put(fixed: checksum, byteCount: Record.checksumLength)
        return bytes
    }
}

enum Record {
    static let checksumLength = 8
}

/// Why a record cannot be read.
enum RecordError: Error, Hashable {
    /// Cut short, or bytes have changed since it was written.
    case damaged
    /// Written by a newer program.
    case unknownFormat(UInt8)
}

/// Reads what `RecordWriter` wrote.
struct RecordReader {
    private var rest: ArraySlice<UInt8>
    /// 1 or more; at most the one that is written.
    private(set) var format: UInt8 = 0

    /// Throws unless the checksum is right and the format is `newest` or an older one.
    init(_ bytes: [UInt8], newest: UInt8) throws(RecordError) {
        guard bytes.count > Record.checksumLength else { throw .damaged }
        let body = bytes.dropLast(Record.checksumLength)
        rest = bytes.suffix(Record.checksumLength)
        guard try integer(UInt64.self, byteCount: Record.checksumLength) == FNV1a(body.span).value else {
            throw .damaged
        }
        rest = body
        format = try byte()
        guard (1...newest).contains(format) else { throw .unknownFormat(format) }
    }

    mutating func byte() throws(RecordError) -> UInt8 {
        guard let byte = rest.popFirst() else { throw .damaged }
        return byte
    }

    mutating func unsigned() throws(RecordError) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: 0, to: 64, by: 7) {
            let byte = try byte()
            value |= UInt64(byte & 0x7f) << UInt64(shift)
            if byte & 0x80 == 0 { return value }
        }
        throw .damaged
    }

    /// A length or count: never more than the bytes that are left.
    mutating func count() throws(RecordError) -> Int {
        guard let count = Int(exactly: try unsigned()), count <= rest.count else { throw .damaged }
        return count
    }

    mutating func integer<Value: FixedWidthInteger>(
        _: Value.Type = Value.self, byteCount: Int
    ) throws(RecordError) -> Value {
        var value: Value = 0
        for index in 0..<byteCount { value |= Value(truncatingIfNeeded: try byte()) << (8 * index) }
        return value
    }

    mutating func string() throws(RecordError) -> String {
        let length = try count()
        defer { rest = rest.dropFirst(length) }
        guard let string = String(validating: rest.prefix(length), as: UTF8.self) else { throw .damaged }
        return string
    }

    mutating func optional<Value>(
        _ body: (inout Self) throws(RecordError) -> Value
    ) throws(RecordError) -> Value? {
        switch try byte() {
        case 0: nil
        case 1: try body(&self)
        default: throw .damaged
        }
    }

    mutating func array<Element>(
        _ body: (inout Self) throws(RecordError) -> Element
    ) throws(RecordError) -> [Element] {
        var elements: [Element] = []
        for _ in 0..<(try count()) { elements.append(try body(&self)) }
        return elements
    }

    /// Throws when bytes are left over.
    func end() throws(RecordError) {
        guard rest.isEmpty else { throw .damaged }
    }
}
