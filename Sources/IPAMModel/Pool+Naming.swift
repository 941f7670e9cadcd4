package import Addresses

// Pools that network configurations describe, which agents make.
extension Pool {
    /// As much of a long name as is kept, before 16 hexadecimal digits that stand for the rest.
    private static let keptLength = 46

    /// "10.0.0.0-24", "fd00---64", "10.0.0.0-24-fd00---64", with `networkName` before: whereabouts' names of its IPPools,
    /// which its users know. Two networks with the same ranges share their pool, as they do there.
    package static func name(after prefixes: [IPPrefix], networkName: String) -> String {
        let whole = ((networkName.isEmpty ? [] : [networkName]) + prefixes.map { "\($0)" }).joined(separator: "-")
        let plain = plain(whole)
        let isWhole = plain.utf8.count <= 63 && !networkName.contains { !$0.isASCII || "/: ".contains($0) }
        var hash = FNV1a()
        hash.add(whole)
        return isWhole ? plain : "\(plain.prefix(keptLength))-\(hash.hexadecimal)"
    }

    /// Whether `name(after:networkName:)` may have made its name, of whatever network's.
    package var isNamedAfterPrefixes: Bool {
        let prefixes = Self.plain(prefixes.map { "\($0.prefix)" }.joined(separator: "-"))
        func endsWithThem(_ name: Substring) -> Bool { name == prefixes || name.hasSuffix("-" + prefixes) }
        if prefixes.isEmpty { return false }
        if endsWithThem(name[...]) { return true }
        let (kept, digits) = (name.dropLast(17), name.utf8.suffix(17))
        return (kept.utf8.count == Self.keptLength || endsWithThem(kept)) && digits.first == UInt8(ascii: "-")
            && digits.dropFirst().allSatisfy {
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
                    || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
            }
    }

    private static func plain(_ text: String) -> String {
        String(
            text.map { character in
                character.isASCII && (character.isLetter || character.isNumber || "._".contains(character))
                    ? character : "-"
            }
            .drop { "-._".contains($0) })
    }
}
