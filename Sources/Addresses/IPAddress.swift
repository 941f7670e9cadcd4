/// The two families of the Internet protocol.
package enum AddressFamily: UInt8, Hashable, Sendable, CaseIterable, Comparable {
    case ipv4 = 4
    case ipv6 = 6

    /// 32 or 128.
    package var bitWidth: Int { self == .ipv4 ? 32 : 128 }

    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// An IPv4 or IPv6 address as a number, in host byte order.
///
/// Text is RFC 4291 for input and RFC 5952 for output; IPv4 text is four decimal numbers without leading zeros.
package struct IPAddress: Hashable, Sendable {
    package let family: AddressFamily
    /// The address as a number; at most `UInt32.max` for IPv4.
    package let bits: UInt128

    /// `bits` is cut to the family's width.
    package init(family: AddressFamily, bits: UInt128) {
        self.family = family
        self.bits = family == .ipv4 ? bits & 0xffff_ffff : bits
    }
}

extension IPAddress {
    /// One word for IPv4: the ledger looks up addresses on its hottest path.
    package func hash(into hasher: inout Hasher) {
        hasher.combine(UInt64(truncatingIfNeeded: bits))
        if family == .ipv6 { hasher.combine(UInt64(truncatingIfNeeded: bits >> 64)) }
    }
}

extension IPAddress: Comparable {
    /// IPv4 comes before IPv6.
    package static func < (a: Self, b: Self) -> Bool {
        a.family == b.family ? a.bits < b.bits : a.family < b.family
    }
}

extension IPAddress {
    /// The address `distance` further on, or nil past the end of the family's space.
    package func advanced(by distance: UInt128) -> IPAddress? {
        let (sum, overflow) = bits.addingReportingOverflow(distance)
        guard !overflow, family == .ipv6 || sum <= 0xffff_ffff else { return nil }
        return IPAddress(family: family, bits: sum)
    }

    package var isMulticast: Bool {
        family == .ipv4 ? bits >> 28 == 0xe : bits >> 120 == 0xff
    }

    package var isUnspecified: Bool { bits == 0 }

    package var isLoopback: Bool { family == .ipv4 ? bits >> 24 == 127 : bits == 1 }

    /// 169.254.0.0/16 or fe80::/10.
    package var isLinkLocal: Bool { family == .ipv4 ? bits >> 16 == 0xa9fe : bits >> 118 == 0x3fa }

    /// 4 or 16 bytes in network order.
    package var bytes: [UInt8] {
        stride(from: family.bitWidth - 8, through: 0, by: -8).map { UInt8(truncatingIfNeeded: bits >> UInt128($0)) }
    }
}
