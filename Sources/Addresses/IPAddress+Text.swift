extension IPAddress: LosslessStringConvertible {
    /// Nil unless `text` is one whole address: no spaces, no zone, no leading zeros in IPv4.
    package init?(_ text: String) {
        let bytes = text.utf8[...]
        let parsed = bytes.contains(UInt8(ascii: ":")) ? Self.parseIPv6(bytes) : Self.parseIPv4(bytes)
        guard let parsed else { return nil }
        self = parsed
    }

    private static func parseIPv4(_ text: Substring.UTF8View) -> IPAddress? {
        var bits: UInt32 = 0
        var parts = 0
        var octet: UInt32 = 0
        var digits = 0
        func close() -> Bool { digits > 0 && octet <= 255 && parts < 4 }
        for byte in text {
            if byte == UInt8(ascii: ".") {
                guard close() else { return nil }
                bits = bits << 8 | octet
                (parts, octet, digits) = (parts + 1, 0, 0)
            } else {
                guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9"), digits < 3, digits == 0 || octet != 0
                else { return nil }
                octet = octet * 10 + UInt32(byte - UInt8(ascii: "0"))
                digits += 1
            }
        }
        guard parts == 3, close() else { return nil }
        return IPAddress(family: .ipv4, bits: UInt128(bits << 8 | octet))
    }

    private static func parseIPv6(_ text: Substring.UTF8View) -> IPAddress? {
        var groups: [UInt16] = []
        var gap: Int?
        var rest = text
        if rest.starts(with: "::".utf8) {
            gap = 0
            rest = rest.dropFirst(2)
        }
        while !rest.isEmpty {
            guard groups.count < 8 else { return nil }
            let end = rest.firstIndex(of: UInt8(ascii: ":")) ?? rest.endIndex
            let group = rest[rest.startIndex..<end]
            if group.contains(UInt8(ascii: ".")) {
                guard end == rest.endIndex, let v4 = parseIPv4(group), groups.count <= 6 else {
                    return nil
                }
                groups.append(UInt16(truncatingIfNeeded: v4.bits >> 16))
                groups.append(UInt16(truncatingIfNeeded: v4.bits))
                break
            }
            guard (1...4).contains(group.count), let value = hexadecimal(group) else { return nil }
            groups.append(value)
            if end == rest.endIndex { break }
            rest = rest[rest.index(after: end)...]
            guard !rest.isEmpty else { return nil }
            if rest.first == UInt8(ascii: ":") {
                guard gap == nil else { return nil }
                gap = groups.count
                rest = rest.dropFirst()
            }
        }
        if let gap {
            guard groups.count < 8 else { return nil }
            groups.insert(contentsOf: repeatElement(0, count: 8 - groups.count), at: gap)
        }
        guard groups.count == 8 else { return nil }
        return IPAddress(family: .ipv6, bits: groups.reduce(0) { $0 << 16 | UInt128($1) })
    }

    private static func hexadecimal(_ text: Substring.UTF8View) -> UInt16? {
        var value: UInt16 = 0
        for byte in text {
            guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue else { return nil }
            value = value << 4 | UInt16(digit)
        }
        return value
    }

    /// RFC 5952: lower case, the longest run of zero groups (of two or more, the first of equals) as `::`.
    package var description: String {
        String(decoding: [UInt8](capacity: Self.mostText) { write(to: &$0) }, as: UTF8.self)
    }

    /// Of `description`, in bytes.
    package static let mostText = 39

    /// Appends `description`.
    package func write(to text: inout OutputSpan<UInt8>) {
        switch family {
        case .ipv4: Self.write(ipv4: UInt32(truncatingIfNeeded: bits), to: &text)
        case .ipv6:
            let groups = (0..<8).map { UInt16(truncatingIfNeeded: bits >> UInt128(112 - $0 * 16)) }
            let isMapped = bits >> 32 == 0xffff
            var gap = 0..<0
            var index = 0
            while index < 8 {
                let start = index
                while index < 8, groups[index] == 0 { index += 1 }
                if index - start > max(gap.count, 1) { gap = start..<index }
                index += 1
            }
            index = 0
            while index < (isMapped ? 6 : 8) {
                if index == gap.lowerBound, !gap.isEmpty {
                    text.append(UInt8(ascii: ":"))
                    index = gap.upperBound
                } else {
                    if index > 0 { text.append(UInt8(ascii: ":")) }
                    for shift: UInt16 in [12, 8, 4, 0] where shift == 0 || groups[index] >> shift > 0 {
                        text.append(digit: UInt8(groups[index] >> shift & 15))
                    }
                    index += 1
                }
            }
            if isMapped || gap.upperBound == 8 { text.append(UInt8(ascii: ":")) }
            if isMapped { Self.write(ipv4: UInt32(truncatingIfNeeded: bits), to: &text) }
        }
    }

    private static func write(ipv4 bits: UInt32, to text: inout OutputSpan<UInt8>) {
        for shift: UInt32 in [24, 16, 8, 0] {
            let octet = UInt8(truncatingIfNeeded: bits >> shift)
            if octet >= 100 { text.append(digit: octet / 100) }
            if octet >= 10 { text.append(digit: octet / 10 % 10) }
            text.append(digit: octet % 10)
            if shift > 0 { text.append(UInt8(ascii: ".")) }
        }
    }
}

extension OutputSpan where Element == UInt8 {
    /// Of ten or sixteen, in lower case.
    package mutating func append(digit value: UInt8) {
        append(value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10)
    }
}
