import Addresses
import DHCP
import Testing

struct CodecTests {
    /// RFC 2131, figure 1; the options of a Windows client's DISCOVER, some in `file` and `sname`.
    @Test func `options in file and sname, and those that come in pieces, are put together`() throws {
        var bytes: [UInt8] = [1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 1, 0x80, 0]
        bytes += [UInt8](repeating: 0, count: 16) + [2, 0, 10, 16, 0, 15] + [UInt8](repeating: 0, count: 10)
        bytes += ([119, 3, 4, 5, 6, 255] + [UInt8](repeating: 0, count: 58))
        bytes += ([119, 2, 2, 3, 255] + [UInt8](repeating: 0, count: 123))
        bytes += [99, 130, 83, 99, 53, 1, 1, 0, 0, 119, 1, 1, 52, 1, 3, 255, 12, 1, 1]
        let message = try #require(DHCPv4Message(parsing: bytes))
        #expect(message.kind == .discover && message.wantsBroadcast && message.transactionID == 0xdead_beef)
        // The options field, then file, then sname (RFC 3396, section 7).
        #expect(message[DHCPv4Option.Code(rawValue: 119)] == [1, 2, 3, 4, 5, 6])
        #expect(message[.overload] == nil && message[.hostName] == nil, "nothing behind the end")
        #expect(message.serverName == [] && message.bootFile == [])
        #expect(DHCPv4Message(parsing: message.bytes) == message)
    }

    @Test(arguments: [0, 1, 255, 256, 600]) func `an option of any length comes back whole`(length: Int) throws {
        let message = DHCPv4Message(
            operation: .reply, transactionID: 1, hardwareAddress: [1, 2, 3, 4, 5, 6],
            options: [DHCPv4Option(.classlessRoutes, [UInt8](repeating: 9, count: length)), DHCPv4Option(.router, [1])])
        #expect(DHCPv4Message(parsing: message.bytes) == message)
    }

    @Test func `a message that ends within an option or its head is none`() throws {
        let client = try Client()
        let packet = try #require(EthernetFrame(parsing: client.ipv4(.discover)).flatMap(IPPacket.init(parsing:)))
        let whole = try #require(UDPDatagram(parsing: packet)).payload
        #expect(DHCPv4Message(parsing: Array(whole.prefix(239))) == nil)
        #expect(DHCPv4Message(parsing: Array(whole.prefix(240)) + [53, 2, 1]) == nil)
        #expect(DHCPv4Message(parsing: Array(whole.prefix(240)) + [53]) == nil)
        #expect(DHCPv6Message(parsing: [1, 0, 0, 1, 0, 1, 0, 9, 1]) == nil)
    }

    /// The example of RFC 1071's arithmetic, from a capture of dhclient's.
    @Test func `checksums are the Internet's`() throws {
        let packet = IPPacket(
            source: try address("10.0.0.1"), destination: try address("10.0.0.2"), protocolNumber: 17, hopLimit: 64,
            payload: [1, 2, 3])
        let frame = packet.frame(from: try mac("02:00:00:00:00:01"), to: try mac("02:00:00:00:00:02"))
        #expect(Array(frame.payload[10..<12]) == [0x26, 0xd4])
        #expect(IPPacket(parsing: frame) == packet)
        for bit in 0..<160 {
            var broken = frame
            broken.payload[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(IPPacket(parsing: broken) != packet, "bit \(bit)")
        }
    }

    @Test func `a wrong UDP checksum is seen by who looks`() throws {
        let datagram = UDPDatagram(
            source: try address("fe80::1"), destination: try address("fe80::2"), sourcePort: 546, destinationPort: 547,
            payload: [1, 2, 3])
        let frame = datagram.frame(from: try mac("02:00:00:00:00:01"), to: try mac("02:00:00:00:00:02"))
        var packet = try #require(IPPacket(parsing: frame))
        #expect(UDPDatagram(parsing: packet, verifyingChecksum: true) == datagram)
        packet.payload[6] ^= 0x40
        #expect(UDPDatagram(parsing: packet, verifyingChecksum: true) == nil)
        #expect(UDPDatagram(parsing: packet) == datagram, "a guest leaves its checksum to a card that is none")
    }

    @Test func `names are written label by label, and those that cannot be are left out`() throws {
        #expect(DomainNames.bytes(of: ["a.bc"]) == [1, 97, 2, 98, 99, 0])
        let long = String(repeating: "x", count: 64)
        #expect(DomainNames.bytes(of: ["", "a..b", long, "vm.example."]) == DomainNames.bytes(of: ["vm.example"]))
        #expect(DomainNames.names(in: DomainNames.bytes(of: ["vm.example", "b"])) == ["vm.example", "b"])
        #expect(DomainNames.names(in: [1, 97]) == nil && DomainNames.names(in: [0xc0, 0]) == nil)
    }

    @Test func `announcements are what RFC 5944 and RFC 4861 say`() throws {
        let mac = try mac("02:00:0a:10:00:0f")
        let arp = try #require(ARPPacket(parsing: Announcement.frame(of: address("10.16.0.15"), at: mac)))
        #expect(arp.senderAddress == arp.targetAddress && arp.senderMAC == mac && arp.operation == ARPPacket.request)
        let frame = Announcement.frame(of: try address("fd00::15"), at: mac)
        let message = try #require(IPPacket(parsing: frame).flatMap(NeighborDiscoveryMessage.init(parsing:)))
        #expect(try message.type == 136 && message.source == (address("fd00::15")))
        #expect(message.body.prefix(4) == [0x20, 0, 0, 0], "override, not solicited")
        #expect(message.body.suffix(8) == [2, 1] + mac.bytes)
        #expect(try frame.destination == (DHCPTests.mac("33:33:00:00:00:01")))
    }
}
