package import Addresses

/// ARP for IPv4 on Ethernet (RFC 826).
package struct ARPPacket: Hashable, Sendable {
    package static let request: UInt16 = 1
    package static let reply: UInt16 = 2

    package var operation: UInt16
    package var senderMAC: MACAddress
    package var senderAddress: IPAddress
    package var targetMAC: MACAddress
    package var targetAddress: IPAddress

    package init(
        operation: UInt16, senderMAC: MACAddress, senderAddress: IPAddress, targetMAC: MACAddress,
        targetAddress: IPAddress
    ) {
        self.operation = operation
        self.senderMAC = senderMAC
        self.senderAddress = senderAddress
        self.targetMAC = targetMAC
        self.targetAddress = targetAddress
    }

    /// Nil for what is no ARP for IPv4 on Ethernet.
    package init?(parsing frame: EthernetFrame) {
        var reader = ByteReader(frame.payload)
        guard frame.etherType == EthernetFrame.arp, reader.bytes(6) == [0, 1, 8, 0, 6, 4],
            let operation: UInt16 = reader.integer(), let senderMAC = reader.mac(),
            let senderAddress = reader.address(.ipv4), let targetMAC = reader.mac(),
            let targetAddress = reader.address(.ipv4)
        else { return nil }
        self.init(
            operation: operation, senderMAC: senderMAC, senderAddress: senderAddress, targetMAC: targetMAC,
            targetAddress: targetAddress)
    }

    package func frame(to destination: MACAddress) -> EthernetFrame {
        var bytes: [UInt8] = [0, 1, 8, 0, 6, 4]
        bytes.append(bigEndian: operation)
        bytes.append(senderMAC)
        bytes.append(senderAddress)
        bytes.append(targetMAC)
        bytes.append(targetAddress)
        return EthernetFrame(
            destination: destination, source: senderMAC, etherType: EthernetFrame.arp, payload: bytes)
    }
}
