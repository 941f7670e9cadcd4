package import Addresses

/// An ICMPv6 message of neighbour discovery with the addresses of its packet: hop limit 255, code 0, right checksum
/// (RFC 4861, sections 6.1 and 7.1).
package struct NeighborDiscoveryMessage: Hashable, Sendable {
    package static let routerSolicitation: UInt8 = 133
    package static let routerAdvertisement: UInt8 = 134
    package static let neighborAdvertisement: UInt8 = 136

    package var source: IPAddress
    package var destination: IPAddress
    package var type: UInt8
    /// After type, code and checksum.
    package var body: [UInt8]

    package init(source: IPAddress, destination: IPAddress, type: UInt8, body: [UInt8]) {
        self.source = source
        self.destination = destination
        self.type = type
        self.body = body
    }

    /// Nil for what is no such message, or may come from beyond the link.
    package init?(parsing packet: IPPacket) {
        var reader = ByteReader(packet.payload)
        guard packet.source.family == .ipv6, packet.protocolNumber == IPPacket.icmpv6, packet.hopLimit == 255,
            let type: UInt8 = reader.integer(), (133...137).contains(type), reader.integer(UInt8.self) == 0,
            reader.bytes(2) != nil, packet.transportChecksum(of: packet.payload) == 0
        else { return nil }
        self.init(source: packet.source, destination: packet.destination, type: type, body: reader.remainder)
    }

    package func frame(from source: MACAddress, to destination: MACAddress) -> EthernetFrame {
        var packet = IPPacket(
            source: self.source, destination: self.destination, protocolNumber: IPPacket.icmpv6, hopLimit: 255,
            payload: [])
        var bytes: [UInt8] = [type, 0, 0, 0]
        bytes += body
        let checksum = packet.transportChecksum(of: bytes)
        bytes.replaceSubrange(2..<4, with: [UInt8(checksum >> 8), UInt8(checksum & 0xff)])
        packet.payload = bytes
        return packet.frame(from: source, to: destination)
    }

    /// Whether the body is a router solicitation's: reserved bytes, then options that are each whole
    /// (RFC 4861, section 6.1.1).
    package var isRouterSolicitation: Bool {
        var reader = ByteReader(body)
        return type == Self.routerSolicitation && reader.bytes(4) != nil
            && NeighborDiscoveryOption.parse(reader.remainder) != nil
    }
}

/// An option of neighbour discovery (RFC 4861, section 4.6), as it is on the wire.
package struct NeighborDiscoveryOption: Hashable, Sendable {
    package static let targetLinkLayerAddress: UInt8 = 2
    package static let prefixInformation: UInt8 = 3
    package static let mtu: UInt8 = 5
    package static let recursiveDNSServer: UInt8 = 25
    package static let dnsSearchList: UInt8 = 31

    package var type: UInt8
    /// After type and length; 6 bytes, or 8 more for each further unit.
    package var value: [UInt8]

    package init(type: UInt8, value: [UInt8]) {
        self.type = type
        self.value = value
    }

    /// Nil where one is cut or has the length 0.
    package static func parse(_ bytes: [UInt8]) -> [Self]? {
        var reader = ByteReader(bytes)
        var options: [Self] = []
        while reader.count > 0 {
            guard let type: UInt8 = reader.integer(), let units: UInt8 = reader.integer(), units > 0,
                let value = reader.bytes(Int(units) * 8 - 2)
            else { return nil }
            options.append(Self(type: type, value: value))
        }
        return options
    }

    /// Filled up to whole units of eight bytes, of which there are 255 at most.
    package var bytes: [UInt8] {
        let units = min((value.count + 2 + 7) / 8, 255)
        return [type, UInt8(units)] + value.padded(to: units * 8 - 2)
    }
}

/// What a router, or who speaks for one, tells the link (RFC 4861, section 4.2).
package struct RouterAdvertisement: Hashable, Sendable {
    /// 0: not said.
    package var hopLimit: UInt8 = 0
    /// M: addresses come by DHCPv6.
    package var isManaged: Bool
    /// O: other things do.
    package var hasOtherConfiguration: Bool
    /// How long the sender is a default router, in seconds; 0: it is none.
    package var routerLifetime: UInt16
    package var options: [NeighborDiscoveryOption]

    package init(
        hopLimit: UInt8 = 0, isManaged: Bool, hasOtherConfiguration: Bool, routerLifetime: UInt16,
        options: [NeighborDiscoveryOption]
    ) {
        self.hopLimit = hopLimit
        self.isManaged = isManaged
        self.hasOtherConfiguration = hasOtherConfiguration
        self.routerLifetime = routerLifetime
        self.options = options
    }

    /// Nil for what is no router advertisement or is cut.
    package init?(parsing message: NeighborDiscoveryMessage) {
        var reader = ByteReader(message.body)
        guard message.type == NeighborDiscoveryMessage.routerAdvertisement, let hopLimit: UInt8 = reader.integer(),
            let flags: UInt8 = reader.integer(), let lifetime: UInt16 = reader.integer(), reader.bytes(8) != nil,
            let options = NeighborDiscoveryOption.parse(reader.remainder)
        else { return nil }
        self.init(
            hopLimit: hopLimit, isManaged: flags & 0x80 != 0, hasOtherConfiguration: flags & 0x40 != 0,
            routerLifetime: lifetime, options: options)
    }

    package func message(from source: IPAddress, to destination: IPAddress) -> NeighborDiscoveryMessage {
        var body: [UInt8] = [hopLimit, (isManaged ? 0x80 : 0) | (hasOtherConfiguration ? 0x40 : 0)]
        body.append(bigEndian: routerLifetime)
        // Reachable time and retransmission timer: not said.
        body += [UInt8](repeating: 0, count: 8)
        for option in options { body += option.bytes }
        return NeighborDiscoveryMessage(
            source: source, destination: destination, type: NeighborDiscoveryMessage.routerAdvertisement, body: body)
    }
}

extension NeighborDiscoveryOption {
    // Lifetimes are in seconds; `UInt32.max` is for ever.

    /// The prefix is on the link (L), and no address may be made up in it (A is clear): addresses are the ledger's.
    package static func onLinkPrefix(_ prefix: IPPrefix, lifetime: UInt32) -> Self {
        var value: [UInt8] = [UInt8(prefix.length), 0x80]
        value.append(bigEndian: lifetime)
        value.append(bigEndian: lifetime)
        value += [0, 0, 0, 0]
        value.append(prefix.address)
        return Self(type: prefixInformation, value: value)
    }

    package static func mtu(_ bytes: UInt16) -> Self {
        var value: [UInt8] = [0, 0]
        value.append(bigEndian: UInt32(bytes))
        return Self(type: mtu, value: value)
    }

    /// RFC 8106, section 5.1.
    package static func nameservers(_ addresses: [IPAddress], lifetime: UInt32) -> Self {
        var value: [UInt8] = [0, 0]
        value.append(bigEndian: lifetime)
        for address in addresses { value.append(address) }
        return Self(type: recursiveDNSServer, value: value)
    }

    /// RFC 8106, section 5.2.
    package static func searchList(_ names: [String], lifetime: UInt32) -> Self {
        var value: [UInt8] = [0, 0]
        value.append(bigEndian: lifetime)
        value += DomainNames.bytes(of: names)
        return Self(type: dnsSearchList, value: value)
    }
}
