package import Addresses

/// An untagged Ethernet II frame without its check sequence.
package struct EthernetFrame: Hashable, Sendable {
    package static let ipv4: UInt16 = 0x0800
    package static let arp: UInt16 = 0x0806
    package static let ipv6: UInt16 = 0x86dd

    package var destination: MACAddress
    package var source: MACAddress
    package var etherType: UInt16
    /// With whatever padding the sender added.
    package var payload: [UInt8]

    package init(destination: MACAddress, source: MACAddress, etherType: UInt16, payload: [UInt8]) {
        self.destination = destination
        self.source = source
        self.etherType = etherType
        self.payload = payload
    }

    /// Nil where `bytes` are too few for a header.
    package init?(parsing bytes: [UInt8]) {
        var reader = ByteReader(bytes)
        guard let destination = reader.mac(), let source = reader.mac(), let type: UInt16 = reader.integer() else {
            return nil
        }
        self.init(destination: destination, source: source, etherType: type, payload: reader.remainder)
    }

    package var bytes: [UInt8] {
        var bytes = destination.bytes + source.bytes
        bytes.append(bigEndian: etherType)
        return bytes + payload
    }
}
