/// FNV-1a of 64 bits (draft-eastlake-fnv, section 2): the same in every process, which Swift's own hashes are not. Each step is a
/// bijection of the state, so one changed byte always changes the sum.
package struct FNV1a: Sendable {
    package private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    package init() {}

    package init(_ bytes: Span<UInt8>) { add(bytes) }

    package mutating func add(_ byte: UInt8) { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }

    package mutating func add(_ bytes: Span<UInt8>) {
        for index in bytes.indices { add(bytes[index]) }
    }

    /// The text's UTF-8.
    package mutating func add(_ text: String) {
        for byte in text.utf8 { add(byte) }
    }

    /// 16 digits.
    package var hexadecimal: String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
