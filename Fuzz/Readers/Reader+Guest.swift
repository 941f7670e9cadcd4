import Addresses

@testable import DHCP

extension Reader {
    /// What a guest sends over its cable.
    static let guest = [
        Reader(name: "frames") { bytes in
            guard var responder = guestResponder else { return }
            // The first byte parts two frames: the second meets what the first has left.
            let length = Int(bytes.first ?? 0) * 4
            let frames = [Array(bytes.dropFirst().prefix(length)), Array(bytes.dropFirst().dropFirst(length))]
            for frame in frames {
                for answer in responder.answer(to: frame, at: .now).frames {
                    try expectSame(answer, EthernetFrame(parsing: answer.bytes), "an answer")
                }
            }
            guard let frame = EthernetFrame(parsing: frames[0]) else { return }
            if let packet = IPPacket(parsing: frame) {
                let again = packet.frame(from: frame.source, to: frame.destination)
                try expectSame(packet, IPPacket(parsing: again), "packet")
            }
            if let question = ARPPacket(parsing: frame) {
                try expectSame(question, ARPPacket(parsing: question.frame(to: frame.destination)), "ARP")
            }
        },
        Reader(name: "dhcpv4") { bytes in
            guard let message = DHCPv4Message(parsing: bytes) else { return }
            try expectSame(message, DHCPv4Message(parsing: message.bytes), "DHCPv4")
        },
        Reader(name: "dhcpv6") { bytes in
            guard let message = DHCPv6Message(parsing: bytes) else { return }
            try expectSame(message, DHCPv6Message(parsing: message.bytes), "DHCPv6")
            for option in message.options {
                guard let association = IdentityAssociation(parsing: option) else { continue }
                try expectSame(association, IdentityAssociation(parsing: association.option), "association")
            }
        },
        Reader(name: "neighbor-discovery") { bytes in
            guard let source = IPAddress("fe80::1"), let all = IPAddress("ff02::1") else { return }
            let packet = IPPacket(
                source: source, destination: all, protocolNumber: IPPacket.icmpv6, hopLimit: 255, payload: bytes)
            guard let message = NeighborDiscoveryMessage(parsing: packet) else { return }
            _ = message.isRouterSolicitation
            guard let advertisement = RouterAdvertisement(parsing: message) else { return }
            let again = RouterAdvertisement(parsing: advertisement.message(from: source, to: all))
            try expectSame(advertisement, again, "router advertisement")
        },
    ]

    private static let guestResponder: Responder? = {
        guard let mac = MACAddress("02:00:0a:10:00:0f"), let address = IPAddress("10.16.0.15"),
            let router = IPAddress("10.16.0.1"), let address6 = IPAddress("fd00:16::15")
        else { return nil }
        return Responder(
            GuestConfiguration(
                mac: mac, ipv4: DHCPv4Lease(address: address, prefixLength: 16, router: router, leaseTime: 3600),
                ipv6: DHCPv6Lease(address: address6, prefixLength: 64, leaseTime: 3600)))
    }()
}
