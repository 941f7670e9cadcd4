/// What reads bytes from outside. Whatever they are, it neither crashes nor takes long, and what it takes for good comes
/// back as the same value when it is written and read again.
struct Reader: Sendable {
    /// The corpus' folder.
    let name: String
    /// Throws a `Finding` only; a refusal of the bytes is none.
    let read: @Sendable ([UInt8]) throws -> Void

    static let all = api + guest + plugin + cluster + stored + texts
}

/// A promise that a reader has broken.
struct Finding: Error, CustomStringConvertible {
    var description: String
}

/// Throws a finding unless both are the same.
func expectSame<Value: Equatable>(_ first: Value, _ second: Value?, _ what: String) throws {
    if first != second {
        throw Finding(description: "\(what): \(first)\ncame back as \(second.map { "\($0)" } ?? "nothing")")
    }
}

/// One of several readers, by the first byte.
func byFirstByte(_ readers: [@Sendable ([UInt8]) throws -> Void]) -> @Sendable ([UInt8]) throws -> Void {
    { bytes in
        guard let first = bytes.first else { return }
        try readers[Int(first) % readers.count](Array(bytes.dropFirst()))
    }
}
