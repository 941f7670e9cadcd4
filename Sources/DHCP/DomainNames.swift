/// Names in DNS's wire form (RFC 1035, section 3.1), never compressed.
package enum DomainNames {
    /// Names that cannot be written so (an empty label or one of more than 63 bytes, more than 255 in all) are left out.
    package static func bytes(of names: [String]) -> [UInt8] { names.flatMap { bytes(of: $0) ?? [] } }

    /// Of the names that can be written, as many of the first as so many bytes have room for.
    static func first(of names: [String], within limit: Int) -> [String] {
        var left = limit
        var first: [String] = []
        for name in names {
            guard let count = bytes(of: name)?.count else { continue }
            left -= count
            guard left >= 0 else { break }
            first.append(name)
        }
        return first
    }

    private static func bytes(of name: String) -> [UInt8]? {
        var bytes: [UInt8] = []
        let labels = (name.hasSuffix(".") ? name.dropLast() : name[...]).utf8
            .split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        for label in labels {
            guard (1...63).contains(label.count) else { return nil }
            bytes.append(UInt8(label.count))
            bytes += label
        }
        return bytes.count < 255 ? bytes + [0] : nil
    }

    /// Nil where `bytes` are not whole names, one after the other; compression is not understood.
    package static func names(in bytes: [UInt8]) -> [String]? {
        var reader = ByteReader(bytes)
        var names: [String] = []
        while reader.count > 0 {
            var labels: [String] = []
            while true {
                guard let length: UInt8 = reader.integer(), length < 64, let label = reader.bytes(Int(length)) else {
                    return nil
                }
                if length == 0 { break }
                labels.append(String(decoding: label, as: UTF8.self))
            }
            names.append(labels.joined(separator: "."))
        }
        return names
    }
}
