/// A network: an address without host bits, and a length.
package struct IPPrefix: Hashable, Sendable {
    /// The first address.
    package let address: IPAddress
    /// 0...32 or 0...128.
    package let length: Int

    /// Nil when `length` does not fit the family or `address` has bits set below it.
    package init?(address: IPAddress, length: Int) {
        guard (0...address.family.bitWidth).contains(length) else { return nil }
        self.address = address
        self.length = length
        guard address.bits & hostMask == 0 else { return nil }
    }

    /// The network of `length` that `address` lies in; nil when `length` does not fit the family.
    package init?(containing address: IPAddress, length: Int) {
        guard (0...address.family.bitWidth).contains(length) else { return nil }
        let host = Self.hostMask(family: address.family, length: length)
        self.address = IPAddress(family: address.family, bits: address.bits & ~host)
        self.length = length
    }

    package var family: AddressFamily { address.family }

    /// The last address.
    package var last: IPAddress { IPAddress(family: family, bits: address.bits | hostMask) }

    package var range: AddressRange { AddressRange(from: address, through: last) }

    /// Bits of the host part set, the others clear.
    package var hostMask: UInt128 { Self.hostMask(family: family, length: length) }

    package func contains(_ other: IPAddress) -> Bool {
        other.family == family && other.bits & ~hostMask == address.bits
    }

    package func overlaps(_ other: IPPrefix) -> Bool { contains(other.address) || other.contains(address) }

    private static func hostMask(family: AddressFamily, length: Int) -> UInt128 {
        let host = family.bitWidth - length
        return host == 128 ? .max : (UInt128(1) << UInt128(host)) - 1
    }
}

extension IPPrefix: LosslessStringConvertible {
    /// "10.16.0.0/16"; nil with host bits set ("10.16.0.1/16"): `init(containing:length:)` drops them.
    package init?(_ text: String) {
        guard let (address, length) = Self.split(text) else { return nil }
        self.init(address: address, length: length)
    }

    /// Address and length of "10.16.0.1/16", host bits and all; nil with leading zeros in the length.
    package static func split(_ text: String) -> (address: IPAddress, length: Int)? {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let address = IPAddress(String(parts[0])), let length = UInt8(parts[1]),
            String(length) == parts[1], length <= address.family.bitWidth
        else { return nil }
        return (address, Int(length))
    }

    package var description: String { "\(address)/\(length)" }
}

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
