import Addresses
import DHCP
import Foundation
import Testing

/// Frames as a broken or wicked guest may send them. HOLDFAST_SEED plays one run again.
struct FuzzTests {
    private let seed: UInt64

    init() {
        let given = ProcessInfo.processInfo.environment["HOLDFAST_SEED"].flatMap(UInt64.init)
        seed = given ?? UInt64.random(in: 0 ... .max)
        print("HOLDFAST_SEED=\(seed)")
    }

    private func seeds(_ client: Client) throws -> [[UInt8]] {
        let routes = DHCPv4Option(.parameterRequestList, [1, 3, 6, 12, 15, 26, 119, 121])
        return [
            try client.ipv4(.discover, options: [routes]),
            try client.ipv4(.request, options: [routes, DHCPv4Option(.requestedAddress, [10, 16, 0, 15])]),
            try client.ipv6(
                .solicit, options: [Client.id, Client.association, DHCPv6Option(.optionRequest, [0, 23])]),
            try client.ipv6(
                .renew, options: [Client.id, client.serverID, Client.association(of: try address("fd00:16::15"))]),
            try client.solicitation(),
            ARPPacket(
                operation: 1, senderMAC: client.mac, senderAddress: try address("10.16.0.15"),
                targetMAC: MACAddress(bits: 0), targetAddress: DHCPServerIdentity.address
            ).frame(to: try mac("ff:ff:ff:ff:ff:ff")).bytes,
        ]
    }

    @Test func `no frame breaks the responder, and each answer is whole and goes to the guest alone`() throws {
        var random = SeededGenerator(seed: seed)
        let client = try Client()
        let seeds = try seeds(client)
        var responder = Responder(client.configuration)
        var now = ContinuousClock.now
        var answered = 0
        for _ in 0..<100_000 {
            var frame = seeds.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 0...6, using: &random) { mutate(&frame, &random) }
            now += .seconds(1)
            for answer in responder.answer(to: frame, at: now).frames {
                answered += 1
                #expect(answer.destination == client.mac || answer.destination == MACAddress(bits: 0xffff_ffff_ffff))
                #expect(EthernetFrame(parsing: answer.bytes) == answer)
                if let packet = IPPacket(parsing: answer), packet.protocolNumber == IPPacket.udp {
                    let datagram = try #require(UDPDatagram(parsing: packet, verifyingChecksum: true))
                    if packet.source.family == .ipv4 {
                        let message = try #require(DHCPv4Message(parsing: datagram.payload))
                        #expect(
                            message.yourAddress == client.configuration.ipv4?.address || message.yourAddress.bits == 0)
                        #expect(datagram.payload.count <= 1500 - 28)
                    } else {
                        #expect(DHCPv6Message(parsing: datagram.payload) != nil)
                    }
                }
            }
        }
        #expect(answered > 1000, "the seeds themselves are questions")
    }

    private func mutate(_ bytes: inout [UInt8], _ random: inout SeededGenerator) {
        guard !bytes.isEmpty else { return }
        let index = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<5, using: &random) {
        case 0: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: bytes[index] = [0, 1, 0x7f, 0x80, 0xff].randomElement(using: &random) ?? 0
        case 2: bytes.removeSubrange(index...)
        case 3: bytes.insert(contentsOf: [UInt8](repeating: .random(in: 0...255, using: &random), count: 7), at: index)
        default: bytes += bytes.prefix(index)
        }
    }

    @Test func `what is built is what is read`() throws {
        var random = SeededGenerator(seed: seed)
        func bytes(_ range: ClosedRange<Int>) -> [UInt8] {
            (0..<Int.random(in: range, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
        }
        func number<Number: FixedWidthInteger>() -> Number { Number.random(in: .min ... .max, using: &random) }
        func ipv4() -> IPAddress { IPAddress(family: .ipv4, bits: number()) }
        func text(_ limit: Int) -> [UInt8] {
            var text = bytes(0...limit)
            while text.last == 0 { text.removeLast() }
            return text
        }
        for _ in 0..<3000 {
            var codes: [UInt8] = Array(1...254).filter { $0 != 52 }
            codes.shuffle(using: &random)
            let message = DHCPv4Message(
                operation: Bool.random(using: &random) ? .request : .reply, hardwareType: number(), hops: number(),
                transactionID: number(), seconds: number(), flags: number(), clientAddress: ipv4(), yourAddress: ipv4(),
                nextServer: ipv4(), relayAddress: ipv4(), hardwareAddress: bytes(0...16), serverName: text(64),
                bootFile: text(128),
                options: codes.prefix(Int.random(in: 0...9, using: &random)).map {
                    DHCPv4Option(DHCPv4Option.Code(rawValue: $0), bytes(0...600))
                })
            #expect(DHCPv4Message(parsing: message.bytes) == message)

            let kind = DHCPv6Message.Kind.allCases.randomElement(using: &random) ?? .solicit
            var options = (0..<Int.random(in: 0...5, using: &random)).map { _ in
                DHCPv6Option(DHCPv6Option.Code(rawValue: number()), bytes(0...300))
            }
            let association = IdentityAssociation(
                code: [.nonTemporaryAddresses, .prefixDelegation].randomElement(using: &random) ?? .prefixDelegation,
                id: number(), renewalTime: number(), rebindingTime: number(), options: options)
            #expect(IdentityAssociation(parsing: association.option) == association)
            options.append(association.option)
            let six = DHCPv6Message(kind: kind, transactionID: number(), options: options)
            #expect(DHCPv6Message(parsing: six.bytes) == six)

            let advertisement = RouterAdvertisement(
                hopLimit: number(), isManaged: .random(using: &random), hasOtherConfiguration: .random(using: &random),
                routerLifetime: number(),
                options: (0..<Int.random(in: 0...4, using: &random)).map { _ in
                    NeighborDiscoveryOption(type: number(), value: bytes(6...6) + bytes(8...8))
                })
            let source = IPAddress(family: .ipv6, bits: number())
            let frame = advertisement.message(from: source, to: source)
                .frame(from: MACAddress(bits: number()), to: MACAddress(bits: number()))
            let read = IPPacket(parsing: frame).flatMap(NeighborDiscoveryMessage.init(parsing:))
            #expect(read.flatMap(RouterAdvertisement.init(parsing:)) == advertisement)
        }
    }
}
