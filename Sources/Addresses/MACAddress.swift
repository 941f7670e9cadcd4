/// A 48-bit hardware address (IEEE 802 EUI-48).
package struct MACAddress: Hashable, Sendable {
    /// The first byte on the wire is the highest.
    package let bits: UInt64

    /// `bits` is cut to 48 bits.
    package init(bits: UInt64) { self.bits = bits & 0xffff_ffff_ffff }

    /// The group bit: multicast and broadcast; never an interface's own address.
    package var isMulticast: Bool { bits >> 40 & 1 == 1 }

    package var isZero: Bool { bits == 0 }

    package var bytes: [UInt8] { stride(from: 40, through: 0, by: -8).map { UInt8(truncatingIfNeeded: bits >> $0) } }
}

extension MACAddress: LosslessStringConvertible {
    /// Six groups of two hexadecimal digits, with `:` or `-` between them.
    package init?(_ text: String) {
        guard text.utf8.count == 17 else { return nil }
        var bits: UInt64 = 0
        var separator: UInt8?
        for (index, byte) in text.utf8.enumerated() {
            if index % 3 == 2 {
                guard byte == UInt8(ascii: ":") || byte == UInt8(ascii: "-"), separator ?? byte == byte else {
                    return nil
                }
                separator = byte
            } else {
                guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue else { return nil }
                bits = bits << 4 | UInt64(digit)
            }
        }
        self.init(bits: bits)
    }

    /// "02:00:0a:10:00:0f".
    package var description: String {
        String(decoding: [UInt8](capacity: Self.textLength) { write(to: &$0) }, as: UTF8.self)
    }

    /// Of `description`, in bytes.
    package static let textLength = 17

    /// Appends `description`.
    package func write(to text: inout OutputSpan<UInt8>) {
        for shift in stride(from: 40, through: 0, by: -8) {
            let byte = UInt8(truncatingIfNeeded: bits >> UInt64(shift))
            text.append(digit: byte >> 4)
            text.append(digit: byte & 15)
            if shift > 0 { text.append(UInt8(ascii: ":")) }
        }
    }
}
