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
