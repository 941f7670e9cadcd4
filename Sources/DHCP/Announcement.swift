package import Addresses

/// What tells a network where an address is now: switches learn the MAC's port from it, neighbours the address's MAC.
package enum Announcement {
    /// A gratuitous ARP request for IPv4 (RFC 5944, section 4.6), an unsolicited neighbour advertisement for IPv6
    /// (RFC 4861, section 7.2.6).
    package static func frame(of address: IPAddress, at mac: MACAddress) -> EthernetFrame {
        switch address.family {
        case .ipv4:
            return ARPPacket(
                operation: ARPPacket.request, senderMAC: mac, senderAddress: address, targetMAC: MACAddress(bits: 0),
                targetAddress: address
            ).frame(to: .broadcast)
        case .ipv6:
            // Override.
            var body: [UInt8] = [0x20, 0, 0, 0]
            body.append(address)
            body +=
                NeighborDiscoveryOption(type: NeighborDiscoveryOption.targetLinkLayerAddress, value: mac.bytes).bytes
            return NeighborDiscoveryMessage(
                source: address, destination: .allNodes, type: NeighborDiscoveryMessage.neighborAdvertisement,
                body: body
            ).frame(from: mac, to: MACAddress(bits: 0x3333_0000_0001))
        }
    }
}
