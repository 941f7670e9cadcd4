import Addresses
import Testing

@testable import DHCP

struct PacketFilterTests {
    private let client: Client

    init() throws { client = try Client() }

    /// Runs the program as the kernel does (its Documentation/networking/filter.rst): whether it takes the frame.
    private func takes(_ frame: [UInt8], packetType: UInt32 = 0, isTagged: Bool = false) -> Bool {
        let program = PacketFilter(server: DHCPServerIdentity.address).instructions
        var (accumulator, index, next): (UInt32, Int, Int) = (0, 0, 0)
        func load(_ offset: Int, _ count: Int) -> UInt32? {
            guard offset >= 0, offset + count <= frame.count else { return nil }
            return frame[offset..<offset + count].reduce(0) { $0 << 8 | UInt32($1) }
        }
        while next < program.count {
            let step = program[next]
            next += 1
            let offset = Int(step.operand)
            let loaded: UInt32?
            switch (step.code, step.operand) {
            case (0x20, 0xffff_f004): loaded = packetType
            case (0x20, 0xffff_f030): loaded = isTagged ? 1 : 0
            case (0x20, _): loaded = load(offset, 4)
            case (0x28, _): loaded = load(offset, 2)
            case (0x30, _): loaded = load(offset, 1)
            case (0x48, _): loaded = load(index + offset, 2)
            case (0xb1, _):
                guard let head = load(offset, 1) else { return false }
                index = Int(head & 0xf) * 4
                continue
            case (0x15, let value), (0x45, let value):
                let holds = step.code == 0x15 ? accumulator == value : accumulator & value != 0
                next += Int(holds ? step.jumpIfTrue : step.jumpIfFalse)
                continue
            case (0x06, let count): return count > 0
            default:
                Issue.record("no such instruction: \(step)")
                return false
            }
            // A load beyond the frame ends the program: the frame is not taken.
            guard let loaded else { return false }
            accumulator = loaded
        }
        Issue.record("the program has no end")
        return false
    }

    private func questions() throws -> [[UInt8]] {
        [
            try client.ipv4(.discover), try client.ipv4(.request, from: "10.16.0.15", to: "169.254.0.254"),
            try client.ipv6(.solicit, options: [Client.id]), try client.solicitation(),
            try arp("169.254.0.254"),
        ]
    }

    private func arp(_ target: String, operation: UInt16 = ARPPacket.request) throws -> [UInt8] {
        ARPPacket(
            operation: operation, senderMAC: client.mac, senderAddress: try address("10.16.0.15"),
            targetMAC: MACAddress(bits: 0), targetAddress: try address(target)
        ).frame(to: .broadcast).bytes
    }

    private func udp(_ port: UInt16, family: AddressFamily = .ipv4) -> [UInt8] {
        let any = IPAddress(family: family, bits: 1)
        return UDPDatagram(source: any, destination: any, sourcePort: 67, destinationPort: port, payload: [0, 67])
            .frame(from: client.mac, to: .broadcast).bytes
    }

    @Test func `a guest's questions are taken, also behind options of IPv4`() throws {
        for question in try questions() { #expect(takes(question)) }
        var packet = Array(try client.ipv4(.discover).dropFirst(14))
        packet[0] = 0x46
        packet.insert(contentsOf: [1, 1, 1, 1], at: 20)
        #expect(takes(Array(try client.ipv4(.discover).prefix(14)) + packet))
    }

    @Test func `what goes out to the guest is not taken, nor what is in a VLAN of the guest's`() throws {
        for question in try questions() {
            #expect(!takes(question, packetType: 4) && !takes(question, isTagged: true))
        }
    }

    @Test func `nothing else is taken`() throws {
        var fragment = try client.ipv4(.discover)
        fragment[21] = 1
        let advertisement = NeighborDiscoveryMessage(
            source: client.mac.linkLocalAddress, destination: .allNodes, type: 134, body: []
        ).frame(from: client.mac, to: .broadcast).bytes
        let tcp = IPPacket(
            source: .zeroIPv4, destination: .broadcast, protocolNumber: 6, hopLimit: 64, payload: [0, 67, 0, 67])
        let others = [
            udp(68), udp(53), udp(547), udp(67, family: .ipv6), udp(546, family: .ipv6), fragment, advertisement,
            tcp.frame(from: client.mac, to: .broadcast).bytes, try arp("10.16.0.1"),
            try arp("169.254.0.254", operation: ARPPacket.reply), [], [UInt8](repeating: 8, count: 14),
            EthernetFrame(destination: .broadcast, source: client.mac, etherType: 0x88cc, payload: [1]).bytes,
        ]
        for (number, frame) in others.enumerated() { #expect(!takes(frame), "frame \(number)") }
        for question in try questions() { #expect(!takes(Array(question.prefix(20)))) }
    }
}
