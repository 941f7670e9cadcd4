import Addresses
import DHCP
import Testing

/// SplitMix64: the same numbers for the same seed, everywhere.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }
func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }
func mac(_ text: String) throws -> MACAddress { try #require(MACAddress(text)) }

/// The guest of the tests, and what it sends.
struct Client {
    var mac: MACAddress
    var configuration: GuestConfiguration

    init() throws {
        mac = try DHCPTests.mac("02:00:0a:10:00:0f")
        var ipv4 = DHCPv4Lease(
            address: try address("10.16.0.15"), prefixLength: 16, router: try address("10.16.0.1"), leaseTime: 3600)
        ipv4.nameservers = [try address("10.16.0.2"), try address("10.16.0.3")]
        ipv4.search = ["vm.example", "lab.example"]
        ipv4.hostName = "testvm"
        ipv4.mtu = 1450
        var ipv6 = DHCPv6Lease(address: try address("fd00:16::15"), prefixLength: 64, leaseTime: 3600)
        ipv6.nameservers = [try address("fd00:16::2")]
        ipv6.search = ["vm.example"]
        configuration = GuestConfiguration(mac: mac, ipv4: ipv4, ipv6: ipv6)
    }

    func ipv4(
        _ kind: DHCPv4Message.Kind, from source: String = "0.0.0.0", to destination: String = "255.255.255.255",
        options: [DHCPv4Option] = [], change: (inout DHCPv4Message) -> Void = { _ in }
    ) throws -> [UInt8] {
        var message = DHCPv4Message(
            operation: .request, transactionID: 0x1234_5678, hardwareAddress: mac.bytes,
            options: [DHCPv4Option(.messageType, [kind.rawValue])] + options)
        change(&message)
        return UDPDatagram(
            source: try address(source), destination: try address(destination), sourcePort: 68, destinationPort: 67,
            payload: message.bytes
        ).frame(from: mac, to: try DHCPTests.mac("ff:ff:ff:ff:ff:ff")).bytes
    }

    func ipv6(
        _ kind: DHCPv6Message.Kind, from source: IPAddress? = nil, to destination: String = "ff02::1:2",
        options: [DHCPv6Option]
    ) throws -> [UInt8] {
        UDPDatagram(
            source: source ?? mac.linkLocalAddress, destination: try address(destination), sourcePort: 546,
            destinationPort: 547, payload: DHCPv6Message(kind: kind, transactionID: 0xabcdef, options: options).bytes
        ).frame(from: mac, to: try DHCPTests.mac("33:33:00:01:00:02")).bytes
    }

    func solicitation() throws -> [UInt8] {
        NeighborDiscoveryMessage(
            source: mac.linkLocalAddress, destination: try address("ff02::2"),
            type: NeighborDiscoveryMessage.routerSolicitation, body: [0, 0, 0, 0, 1, 1] + mac.bytes
        ).frame(from: mac, to: try DHCPTests.mac("33:33:00:00:00:02")).bytes
    }

    static let id = DHCPv6Option(.clientID, [0, 3, 0, 1, 2, 0, 10, 16, 0, 15])
    static let association = IdentityAssociation(id: 7).option

    var serverID: DHCPv6Option { DHCPv6Option(.serverID, configuration.ipv6?.serverID ?? []) }

    static func association(of address: IPAddress) -> DHCPv6Option {
        IdentityAssociation(
            id: 7, options: [IdentityAddress(address: address, preferredLifetime: 100, validLifetime: 200).option]
        ).option
    }
}

extension Responder.Answer {
    /// The one frame's DHCPv4 message, where there is one with right checksums.
    var ipv4: (message: DHCPv4Message, datagram: UDPDatagram, frame: EthernetFrame)? {
        guard frames.count == 1, let packet = IPPacket(parsing: frames[0]),
            let datagram = UDPDatagram(parsing: packet, verifyingChecksum: true), datagram.destinationPort == 68,
            let message = DHCPv4Message(parsing: datagram.payload)
        else { return nil }
        return (message, datagram, frames[0])
    }

    var ipv6: DHCPv6Message? {
        guard frames.count == 1, let packet = IPPacket(parsing: frames[0]),
            let datagram = UDPDatagram(parsing: packet, verifyingChecksum: true), datagram.destinationPort == 546
        else { return nil }
        return DHCPv6Message(parsing: datagram.payload)
    }
}
