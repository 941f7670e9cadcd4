package import Addresses

/// An IPv4 or IPv6 packet, whole and without options or extension headers of its own.
package struct IPPacket: Hashable, Sendable {
    package static let udp: UInt8 = 17
    package static let icmpv6: UInt8 = 58
    /// What gets through any link (RFC 8200, section 5).
    static let smallestIPv6MTU = 1280

    package var source: IPAddress
    package var destination: IPAddress
    package var protocolNumber: UInt8
    /// Time to live, or hop limit.
    package var hopLimit: UInt8
    package var payload: [UInt8]

    package init(
        source: IPAddress, destination: IPAddress, protocolNumber: UInt8, hopLimit: UInt8, payload: [UInt8]
    ) {
        self.source = source
        self.destination = destination
        self.protocolNumber = protocolNumber
        self.hopLimit = hopLimit
        self.payload = payload
    }

    /// Nil for what is no IP, is cut, a fragment, or has a wrong header checksum. Options of IPv4 are passed over; an
    /// extension header of IPv6 is what `protocolNumber` names.
    package init?(parsing frame: EthernetFrame) {
        switch frame.etherType {
        case EthernetFrame.ipv4: self.init(ipv4: frame.payload)
        case EthernetFrame.ipv6: self.init(ipv6: frame.payload)
        default: return nil
        }
    }

    private init?(ipv4 bytes: [UInt8]) {
        guard let first = bytes.first, first >> 4 == 4 else { return nil }
        let headerLength = Int(first & 0xf) * 4
        var reader = ByteReader(bytes)
        guard headerLength >= 20, bytes.count >= headerLength, reader.bytes(2) != nil,
            let length: UInt16 = reader.integer(), Int(length) >= headerLength, Int(length) <= bytes.count,
            reader.bytes(2) != nil, let fragment: UInt16 = reader.integer(), fragment & 0x3fff == 0,
            let hops: UInt8 = reader.integer(), let number: UInt8 = reader.integer(), reader.bytes(2) != nil,
            let source = reader.address(.ipv4), let destination = reader.address(.ipv4),
            internetChecksum(Array(bytes[..<headerLength])) == 0
        else { return nil }
        self.init(
            source: source, destination: destination, protocolNumber: number, hopLimit: hops,
            payload: Array(bytes[headerLength..<Int(length)]))
    }

    private init?(ipv6 bytes: [UInt8]) {
        var reader = ByteReader(bytes)
        guard bytes.first.map({ $0 >> 4 }) == 6, reader.bytes(4) != nil, let length: UInt16 = reader.integer(),
            let number: UInt8 = reader.integer(), let hops: UInt8 = reader.integer(),
            let source = reader.address(.ipv6), let destination = reader.address(.ipv6),
            let payload = reader.bytes(Int(length))
        else { return nil }
        self.init(
            source: source, destination: destination, protocolNumber: number, hopLimit: hops, payload: payload)
    }

    package func frame(from source: MACAddress, to destination: MACAddress) -> EthernetFrame {
        var bytes: [UInt8] = []
        if self.source.family == .ipv4 {
            bytes = [0x45, 0]
            bytes.append(bigEndian: UInt16(clamping: 20 + payload.count))
            // No identification is needed where fragments are forbidden (RFC 6864).
            bytes += [0, 0, 0x40, 0, hopLimit, protocolNumber, 0, 0]
            bytes.append(self.source)
            bytes.append(self.destination)
            let checksum = internetChecksum(bytes)
            bytes.replaceSubrange(10..<12, with: [UInt8(checksum >> 8), UInt8(checksum & 0xff)])
        } else {
            bytes = [0x60, 0, 0, 0]
            bytes.append(bigEndian: UInt16(clamping: payload.count))
            bytes += [protocolNumber, hopLimit]
            bytes.append(self.source)
            bytes.append(self.destination)
        }
        return EthernetFrame(
            destination: destination, source: source,
            etherType: self.source.family == .ipv4 ? EthernetFrame.ipv4 : EthernetFrame.ipv6, payload: bytes + payload)
    }

    /// Over the pseudo-header and the payload (RFC 768; RFC 8200, section 8.1): 0 where the payload's own is right.
    func transportChecksum(of payload: [UInt8]) -> UInt16 {
        var pseudoHeader = source.bytes + destination.bytes
        pseudoHeader.append(bigEndian: UInt32(payload.count))
        pseudoHeader.append(bigEndian: UInt32(protocolNumber))
        return internetChecksum(pseudoHeader, payload)
    }
}

/// A UDP datagram with the addresses of the packet that carries it.
package struct UDPDatagram: Hashable, Sendable {
    package var source: IPAddress
    package var destination: IPAddress
    package var sourcePort: UInt16
    package var destinationPort: UInt16
    package var payload: [UInt8]

    package init(
        source: IPAddress, destination: IPAddress, sourcePort: UInt16, destinationPort: UInt16, payload: [UInt8]
    ) {
        self.source = source
        self.destination = destination
        self.sourcePort = sourcePort
        self.destinationPort = destinationPort
        self.payload = payload
    }

    /// Nil for what is no UDP or is cut. A guest's checksum may be left to a card that there is none of (virtio's
    /// checksum offload), so it is looked at only with `verifyingChecksum`.
    package init?(parsing packet: IPPacket, verifyingChecksum: Bool = false) {
        var reader = ByteReader(packet.payload)
        guard packet.protocolNumber == IPPacket.udp, let sourcePort: UInt16 = reader.integer(),
            let destinationPort: UInt16 = reader.integer(), let length: UInt16 = reader.integer(),
            let checksum: UInt16 = reader.integer(), let payload = reader.bytes(Int(length) - 8)
        else { return nil }
        if verifyingChecksum, checksum != 0 || packet.source.family == .ipv6 {
            guard packet.transportChecksum(of: Array(packet.payload.prefix(Int(length)))) == 0 else { return nil }
        }
        self.init(
            source: packet.source, destination: packet.destination, sourcePort: sourcePort,
            destinationPort: destinationPort, payload: payload)
    }

    package func frame(from source: MACAddress, to destination: MACAddress) -> EthernetFrame {
        var packet = IPPacket(
            source: self.source, destination: self.destination, protocolNumber: IPPacket.udp, hopLimit: 64, payload: [])
        var bytes: [UInt8] = []
        bytes.append(bigEndian: sourcePort)
        bytes.append(bigEndian: destinationPort)
        bytes.append(bigEndian: UInt16(clamping: 8 + payload.count))
        bytes += [0, 0]
        bytes += payload
        let checksum = packet.transportChecksum(of: bytes)
        // 0 stands for no checksum: its other form is sent (RFC 768).
        let sent = checksum == 0 ? 0xffff : checksum
        bytes.replaceSubrange(6..<8, with: [UInt8(sent >> 8), UInt8(sent & 0xff)])
        packet.payload = bytes
        return packet.frame(from: source, to: destination)
    }
}
