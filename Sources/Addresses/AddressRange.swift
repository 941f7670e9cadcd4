/// The addresses from one through another, of one family.
package struct AddressRange: Hashable, Sendable {
    package let lower: IPAddress
    package let upper: IPAddress

    /// Both of one family, in order; else nothing is in the range but `lower`.
    package init(from lower: IPAddress, through upper: IPAddress) {
        self.lower = lower
        self.upper = upper.family == lower.family && upper >= lower ? upper : lower
    }

    package var family: AddressFamily { lower.family }

    /// How many addresses, less one: the whole IPv6 space has 2^128.
    package var span: UInt128 { upper.bits - lower.bits }

    package func contains(_ address: IPAddress) -> Bool { address >= lower && address <= upper }

    package func overlaps(_ other: AddressRange) -> Bool { contains(other.lower) || other.contains(lower) }

    /// Nil where none of it is in `prefix`.
    package func part(in prefix: IPPrefix) -> AddressRange? {
        guard overlaps(prefix.range) else { return nil }
        return AddressRange(from: max(lower, prefix.address), through: min(upper, prefix.last))
    }

    /// What of it none of `others` has, in order.
    package func subtracting(_ others: [AddressRange]) -> [AddressRange] {
        func part(_ lower: UInt128, _ upper: UInt128) -> AddressRange {
            AddressRange(from: IPAddress(family: family, bits: lower), through: IPAddress(family: family, bits: upper))
        }
        var rest: [AddressRange] = []
        var start = lower.bits
        for other in others.filter({ overlaps($0) }).sorted(by: { $0.lower < $1.lower }) {
            if other.lower.bits > start { rest.append(part(start, other.lower.bits - 1)) }
            if other.upper >= upper { return rest }
            start = max(start, other.upper.bits + 1)
        }
        return rest + [part(start, upper.bits)]
    }
}

extension AddressRange: LosslessStringConvertible {
    /// A single address, a network ("10.0.0.0/28", nil with host bits set), or "10.0.0.5..10.0.0.9".
    package init?(_ text: String) {
        if let address = IPAddress(text) {
            self.init(from: address, through: address)
        } else if let prefix = IPPrefix(text) {
            self = prefix.range
        } else if let (from, through) = Self.split(text), let lower = IPAddress(from), let upper = IPAddress(through),
            lower.family == upper.family, lower <= upper
        {
            self.init(from: lower, through: upper)
        } else {
            return nil
        }
    }

    /// What stands before and after the first "..".
    private static func split(_ text: String) -> (String, String)? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard let gap = parts.firstIndex(of: "") else { return nil }
        return (parts[..<gap].joined(separator: "."), parts[(gap + 1)...].joined(separator: "."))
    }

    package var description: String {
        if lower == upper { return "\(lower)" }
        return network.map { "\($0)" } ?? "\(lower)..\(upper)"
    }

    /// The network whose addresses these are; nil where they are no whole one.
    private var network: IPPrefix? {
        IPPrefix(address: lower, length: family.bitWidth - span.nonzeroBitCount).flatMap { $0.range == self ? $0 : nil }
    }
}
