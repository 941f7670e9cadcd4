package import Addresses

/// Takes big-endian values off the front of some bytes. A read that finds too few left gives nil and takes nothing.
struct ByteReader {
    private var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { rest = bytes }
    init(_ bytes: [UInt8]) { rest = bytes[...] }

    var count: Int { rest.count }

    /// All that is left.
    var remainder: [UInt8] { Array(rest) }

    mutating func bytes(_ count: Int) -> [UInt8]? {
        guard count >= 0, count <= rest.count else { return nil }
        defer { rest = rest.dropFirst(count) }
        return Array(rest.prefix(count))
    }

    mutating func integer<Value: FixedWidthInteger & UnsignedInteger>(_: Value.Type = Value.self) -> Value? {
        bytes(Value.bitWidth / 8)?.reduce(0) { $0 << 8 | Value($1) }
    }

    mutating func address(_ family: AddressFamily) -> IPAddress? {
        bytes(family.bitWidth / 8).map { IPAddress(family: family, bytes: $0) }
    }

    mutating func mac() -> MACAddress? {
        bytes(6).map { MACAddress(bits: $0.reduce(0) { $0 << 8 | UInt64($1) }) }
    }
}

extension [UInt8] {
    mutating func append(bigEndian value: some FixedWidthInteger & UnsignedInteger) {
        for shift in stride(from: type(of: value).bitWidth - 8, through: 0, by: -8) {
            append(UInt8(truncatingIfNeeded: value >> type(of: value).init(shift)))
        }
    }

    mutating func append(_ address: IPAddress) { append(contentsOf: address.bytes) }

    mutating func append(_ mac: MACAddress) { append(contentsOf: mac.bytes) }

    /// Filled up with zeros, or cut.
    func padded(to count: Int) -> [UInt8] {
        Array(prefix(count)) + [UInt8](repeating: 0, count: Swift.max(0, count - self.count))
    }

    /// Without the zeros at its end.
    var trimmingZeros: [UInt8] {
        var trimmed = self
        while trimmed.last == 0 { trimmed.removeLast() }
        return trimmed
    }
}

extension IPAddress {
    /// `bytes` in network order.
    init(family: AddressFamily, bytes: some Sequence<UInt8>) {
        self.init(family: family, bits: bytes.reduce(0) { $0 << 8 | UInt128($1) })
    }

    package static let zeroIPv4 = IPAddress(family: .ipv4, bits: 0)
    static let broadcast = IPAddress(family: .ipv4, bits: 0xffff_ffff)
    /// ff02::1
    static let allNodes = IPAddress(family: .ipv6, bits: 0xff02 << 112 | 1)
    /// ff02::1:2
    static let allDHCPServers = IPAddress(family: .ipv6, bits: 0xff02 << 112 | 0x1_0002)
}

extension MACAddress {
    static let broadcast = MACAddress(bits: 0xffff_ffff_ffff)

    /// The link-local address that the interface with this MAC gives itself (RFC 4291, appendix A).
    package var linkLocalAddress: IPAddress {
        let high = bits >> 24 ^ 0x02_0000
        let identifier = UInt128(high) << 40 | 0xff_fe00_0000 | UInt128(bits & 0xff_ffff)
        return IPAddress(family: .ipv6, bits: 0xfe80 << 112 | identifier)
    }
}

/// The Internet's checksum (RFC 1071) of the parts as one sequence; each part but the last has an even count.
func internetChecksum(_ parts: [UInt8]...) -> UInt16 {
    var sum: UInt64 = 0
    for part in parts {
        for (index, byte) in part.enumerated() { sum += UInt64(byte) << (index % 2 == 0 ? 8 : 0) }
    }
    while sum >> 16 != 0 { sum = sum & 0xffff + sum >> 16 }
    return ~UInt16(truncatingIfNeeded: sum)
}
