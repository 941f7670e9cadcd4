package import Addresses

/// Answers the guest on one port: a frame of the guest's and the time go in, the frames for the guest come out.
///
/// It knows one MAC and its leases, so nobody but the binding's guest can get an answer on this port, and that guest
/// nothing but its own addresses.
package struct Responder: Sendable {
    package struct Answer: Hashable, Sendable {
        package var frames: [EthernetFrame] = []
        package var events: [Event] = []

        package init(frames: [EthernetFrame] = [], events: [Event] = []) {
            self.frames = frames
            self.events = events
        }

        static let silence = Answer()
    }

    /// What a person may want to know.
    package enum Event: Hashable, Sendable {
        case leased(IPAddress)
        /// The guest wants another address than its binding's and is told no.
        case refused(IPAddress)
        /// Somebody asks who does not have the binding's MAC.
        case foreign(MACAddress)
        /// The guest says that somebody else uses its address.
        case declined(IPAddress)
        /// The guest asks for these options, and there was no room for them.
        case leftOut([DHCPv4Option.Code])
        /// The tap did not take an answer.
        case unsent

        /// Which of these it is.
        package var name: String {
            switch self {
            case .leased: "leased"
            case .refused: "refused"
            case .foreign: "foreign"
            case .declined: "declined"
            case .leftOut: "left_out"
            case .unsent: "unsent"
            }
        }
    }

    package let configuration: GuestConfiguration
    /// Bytes: the link's to the guest.
    let mtu: Int
    private var budget = AnswerBudget()

    package init(_ configuration: GuestConfiguration, mtu: Int = 1500) {
        self.configuration = configuration
        self.mtu = mtu
    }

    /// Silence for everything that is not for a DHCP server or router, and for who asks too often.
    package mutating func answer(to bytes: [UInt8], at now: ContinuousClock.Instant) -> Answer {
        guard let frame = EthernetFrame(parsing: bytes), let question = Question(frame) else { return .silence }
        guard frame.source == configuration.mac else { return Answer(events: [.foreign(frame.source)]) }
        guard budget.allows(at: now) else { return .silence }
        switch question {
        case .arp(let packet): return answer(packet)
        case .dhcpv4(let message, let datagram): return answer(message, in: datagram)
        case .dhcpv6(let message, let datagram): return answer(message, in: datagram)
        case .routerSolicitation(let message): return answer(message)
        }
    }

    private enum Question {
        case arp(ARPPacket)
        case dhcpv4(DHCPv4Message, UDPDatagram)
        case dhcpv6(DHCPv6Message, UDPDatagram)
        case routerSolicitation(NeighborDiscoveryMessage)

        init?(_ frame: EthernetFrame) {
            if let packet = ARPPacket(parsing: frame) {
                self = .arp(packet)
                return
            }
            guard let packet = IPPacket(parsing: frame) else { return nil }
            if let message = NeighborDiscoveryMessage(parsing: packet) {
                guard message.isRouterSolicitation else { return nil }
                self = .routerSolicitation(message)
                return
            }
            guard let datagram = UDPDatagram(parsing: packet) else { return nil }
            switch (packet.source.family, datagram.destinationPort) {
            case (.ipv4, DHCPv4Message.serverPort):
                guard let message = DHCPv4Message(parsing: datagram.payload) else { return nil }
                self = .dhcpv4(message, datagram)
            case (.ipv6, DHCPv6Message.serverPort):
                guard let message = DHCPv6Message(parsing: datagram.payload) else { return nil }
                self = .dhcpv6(message, datagram)
            default: return nil
            }
        }
    }

    /// A guest whose routes make the server's address a neighbour asks for its MAC before it renews.
    private func answer(_ packet: ARPPacket) -> Answer {
        guard let lease = configuration.ipv4, packet.operation == ARPPacket.request,
            packet.targetAddress == lease.server, lease.isServerAloneWithItsAddress
        else { return .silence }
        let reply = ARPPacket(
            operation: ARPPacket.reply, senderMAC: lease.serverMAC, senderAddress: lease.server,
            targetMAC: packet.senderMAC, targetAddress: packet.senderAddress)
        return Answer(frames: [reply.frame(to: configuration.mac)])
    }
}

extension DHCPv4Lease {
    /// Whether no host is known that may have the server's address: what `server_id` names may be one's, and that speaks for
    /// itself.
    fileprivate var isServerAloneWithItsAddress: Bool {
        let hosts = [router].compactMap(\.self) + routes.map(\.router) + nameservers
        return server == DHCPServerIdentity.address && !hosts.contains(server)
            && IPPrefix(containing: address, length: prefixLength)?.contains(server) != true
    }
}

/// So many answers a guest gets at once, and so many a second after that: more than any client asks for.
private struct AnswerBudget {
    private static let burst = 20.0
    private static let perSecond = 10.0

    private var left = burst
    private var countedAt: ContinuousClock.Instant?

    mutating func allows(at now: ContinuousClock.Instant) -> Bool {
        let elapsed = countedAt.map { (now - $0) / .seconds(1) } ?? 0
        left = min(Self.burst, left + max(0, elapsed) * Self.perSecond)
        countedAt = now
        guard left >= 1 else { return false }
        left -= 1
        return true
    }
}
