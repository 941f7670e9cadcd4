import Addresses
import DHCP
import Testing

struct DHCPv4ResponderTests {
    private let client: Client
    private let now = ContinuousClock.now

    init() throws { client = try Client() }

    private func answer(
        _ frame: [UInt8], _ configuration: GuestConfiguration? = nil
    ) -> Responder.Answer {
        var responder = Responder(configuration ?? client.configuration)
        return responder.answer(to: frame, at: now)
    }

    private func option(_ code: UInt8, _ message: DHCPv4Message?) -> [UInt8]? {
        message?[DHCPv4Option.Code(rawValue: code)]
    }

    @Test func `a discover is answered with the binding's address and everything that is known`() throws {
        let reply = try #require(answer(client.ipv4(.discover)).ipv4)
        let message = reply.message
        #expect(message.kind == .offer && message.operation == .reply && message.transactionID == 0x1234_5678)
        #expect(message.yourAddress == client.configuration.ipv4?.address)
        #expect(message.address(.serverIdentifier) == DHCPServerIdentity.address)
        #expect(option(51, message) == [0, 0, 14, 16] && option(1, message) == [255, 255, 0, 0])
        #expect(option(3, message) == [10, 16, 0, 1] && option(6, message) == [10, 16, 0, 2, 10, 16, 0, 3])
        #expect(option(12, message) == Array("testvm".utf8) && option(15, message) == Array("vm.example".utf8))
        #expect(option(26, message) == [5, 170] && option(28, message) == [10, 16, 255, 255])
        #expect(option(119, message).flatMap(DomainNames.names(in:)) == ["vm.example", "lab.example"])
        #expect(option(121, message) == nil, "option 3 says it all")
        #expect(
            reply.datagram.destination == client.configuration.ipv4?.address && reply.frame.destination == client.mac)
    }

    @Test func `only what is asked for is told, the mask before the router`() throws {
        let list = DHCPv4Option(.parameterRequestList, [3, 12, 1, 200])
        let message = try #require(answer(client.ipv4(.discover, options: [list])).ipv4).message
        #expect(message.options.map(\.code.rawValue) == [53, 54, 51, 1, 3, 12])
    }

    @Test func `with classless routes the default route is one of them`() throws {
        var configuration = client.configuration
        configuration.ipv4?.routes = [
            DHCPRoute(destination: try prefix("192.168.0.0/16"), router: try address("10.16.0.9")),
            DHCPRoute(destination: try prefix("10.200.3.0/25"), router: try address("10.16.0.8")),
        ]
        let message = try #require(answer(client.ipv4(.discover), configuration).ipv4).message
        #expect(
            option(121, message)
                == [16, 192, 168, 10, 16, 0, 9, 25, 10, 200, 3, 0, 10, 16, 0, 8, 0, 10, 16, 0, 1])
        #expect(option(249, message) == option(121, message))
    }

    @Test func `a router outside the prefix is made a neighbour first`() throws {
        var configuration = client.configuration
        configuration.ipv4?.prefixLength = 32
        let message = try #require(answer(client.ipv4(.discover), configuration).ipv4).message
        #expect(option(121, message) == [32, 10, 16, 0, 1, 0, 0, 0, 0, 0, 10, 16, 0, 1])
        #expect(option(1, message) == [255, 255, 255, 255] && option(28, message) == nil)
        // As a pool says it that has no gateway.
        let all = DHCPRoute(destination: try prefix("10.200.0.0/16"), router: try address("169.254.1.1"))
        let host = DHCPRoute(destination: try prefix("169.254.1.1/32"), router: try address("0.0.0.0"))
        configuration.ipv4?.router = all.router
        configuration.ipv4?.routes = [all, host]
        let second = try #require(answer(client.ipv4(.discover), configuration).ipv4).message
        #expect(option(3, second) == [169, 254, 1, 1])
        #expect(
            option(121, second)
                == [32, 169, 254, 1, 1, 0, 0, 0, 0, 16, 10, 200, 169, 254, 1, 1, 0, 169, 254, 1, 1],
            "what is on the link comes first, and once")
    }

    @Test func `a request for the own address is acknowledged in every state of a client`() throws {
        let own = DHCPv4Option(.requestedAddress, [10, 16, 0, 15])
        let server = DHCPv4Option(.serverIdentifier, DHCPServerIdentity.address.bytes)
        let frames = [
            try client.ipv4(.request, options: [own, server]), try client.ipv4(.request, options: [own]),
            try client.ipv4(.request, from: "10.16.0.15", to: "169.254.0.254") {
                $0.clientAddress = IPAddress(family: .ipv4, bits: 0x0a10_000f)
            },
        ]
        for frame in frames {
            let answer = answer(frame)
            #expect(try answer.ipv4?.message.kind == .ack && answer.events == [.leased(address("10.16.0.15"))])
            #expect(try answer.ipv4?.message.yourAddress == (address("10.16.0.15")))
        }
    }

    @Test func `a request for another address is refused to all who listen`() throws {
        for frame in [
            try client.ipv4(.request, options: [DHCPv4Option(.requestedAddress, [10, 16, 0, 16])]),
            try client.ipv4(.request) { $0.clientAddress = IPAddress(family: .ipv4, bits: 0x0a10_0010) },
        ] {
            let answer = answer(frame)
            let reply = try #require(answer.ipv4)
            #expect(reply.message.kind == .nak && reply.message.yourAddress.isUnspecified)
            #expect(option(51, reply.message) == nil && option(3, reply.message) == nil)
            #expect(try reply.datagram.destination == (address("255.255.255.255")))
            #expect(try answer.events == [.refused(address("10.16.0.16"))])
        }
    }

    @Test func `what is not for this server or no question gets silence`() throws {
        let other = DHCPv4Option(.serverIdentifier, [10, 16, 0, 2])
        let own = DHCPv4Option(.requestedAddress, [10, 16, 0, 15])
        let frames = [
            try client.ipv4(.request, options: [own, other]), try client.ipv4(.release), try client.ipv4(.offer),
            try client.ipv4(.request), try client.ipv4(.inform),
            try client.ipv4(.discover) { $0.relayAddress = IPAddress(family: .ipv4, bits: 1) },
            try client.ipv4(.discover) { $0.operation = .reply },
            try client.ipv4(.discover) { $0.hardwareAddress = [2, 0, 0, 0, 0, 9] },
            try client.ipv4(.discover) { $0.hardwareType = 6 }, try client.ipv4(.discover) { $0.options = [] },
        ]
        for (index, frame) in frames.enumerated() { #expect(answer(frame) == Responder.Answer(), "frame \(index)") }
        var noIPv4 = client.configuration
        noIPv4.ipv4 = nil
        #expect(try answer(client.ipv4(.discover), noIPv4) == Responder.Answer())
    }

    @Test func `who asks with another MAC is noticed and gets silence`() throws {
        var neighbour = client
        neighbour.mac = try mac("02:00:0a:10:00:10")
        #expect(try answer(neighbour.ipv4(.discover)) == Responder.Answer(events: [.foreign(neighbour.mac)]))
        // The binding's MAC in the message alone does not help.
        let forged = try neighbour.ipv4(.discover) { $0.hardwareAddress = client.mac.bytes }
        #expect(answer(forged).frames == [])
    }

    @Test func `the client's identifier comes back, a relay's information does not`() throws {
        let relayAgentInformation = DHCPv4Option.Code(rawValue: 82)
        let options = [
            DHCPv4Option(.clientIdentifier, [1, 2, 3]), DHCPv4Option(relayAgentInformation, [1, 1, 9]),
            DHCPv4Option(DHCPv4Option.Code(rawValue: 224), [5]),
        ]
        let message = try #require(answer(client.ipv4(.discover, options: options)).ipv4).message
        #expect(message[.clientIdentifier] == [1, 2, 3] && message[relayAgentInformation] == nil)
        #expect(option(224, message) == nil)
    }

    @Test func `an inform is answered without a lease, a decline is noticed`() throws {
        let inform = try client.ipv4(.inform, from: "10.16.0.15") {
            $0.clientAddress = IPAddress(family: .ipv4, bits: 0x0a10_000f)
        }
        let reply = try #require(answer(inform).ipv4)
        #expect(reply.message.kind == .ack && reply.message.yourAddress.isUnspecified)
        #expect(option(51, reply.message) == nil && option(6, reply.message) != nil)
        #expect(try reply.datagram.destination == address("10.16.0.15") && reply.frame.destination == client.mac)
        let own = DHCPv4Option(.requestedAddress, [10, 16, 0, 15])
        #expect(try answer(client.ipv4(.decline, options: [own])).events == [.declined(address("10.16.0.15"))])
    }

    @Test func `broadcasts go to who asks for them`() throws {
        let reply = try #require(answer(client.ipv4(.discover) { $0.flags = 0x8000 }).ipv4)
        #expect(try reply.datagram.destination == (address("255.255.255.255")) && reply.frame.destination.isMulticast)
    }

    @Test func `an answer is never larger than the client takes or the link, and what is left out is told`() throws {
        var configuration = client.configuration
        configuration.ipv4?.routes = try (0..<100).map {
            DHCPRoute(destination: try prefix("10.\($0).0.0/16"), router: try address("10.16.0.9"))
        }
        let offer = try answer(client.ipv4(.discover), configuration)
        let small = try #require(offer.ipv4)
        #expect(small.datagram.payload.count <= 548 && option(121, small.message) == nil)
        #expect(offer.events == [.leftOut([.classlessRoutes, .classlessRoutesMicrosoft])])
        let size = DHCPv4Option(.maximumMessageSize, [5, 220])
        let list = DHCPv4Option(.parameterRequestList, [1, 121, 3])
        let large = try #require(answer(client.ipv4(.discover, options: [size, list]), configuration).ipv4)
        #expect(option(121, large.message)?.count == 100 * 7 + 5, "in pieces (RFC 3396)")
        let own = DHCPv4Option(.requestedAddress, [10, 16, 0, 15])
        let request = try client.ipv4(.request, options: [own, size, list])
        #expect(try answer(request, configuration).events == [.leased(address("10.16.0.15"))])
        var responder = Responder(configuration, mtu: 1000)
        let narrow = responder.answer(to: request, at: now)
        #expect(try #require(narrow.frames.first).payload.count <= 1000)
        #expect(try narrow.events == [.leased(address("10.16.0.15")), .leftOut([.classlessRoutes])])
    }

    @Test func `a guest that asks without end is answered now and then`() throws {
        var responder = Responder(client.configuration)
        let frame = try client.ipv4(.discover)
        let answered = (0..<1000).filter { _ in !responder.answer(to: frame, at: now).frames.isEmpty }.count
        #expect(answered == 20)
        #expect(!responder.answer(to: frame, at: now + .seconds(1)).frames.isEmpty)
        #expect(
            !responder.answer(to: frame, at: now - .seconds(9)).frames.isEmpty, "a clock that goes back does no harm")
    }

    private func question(_ target: String) throws -> [UInt8] {
        ARPPacket(
            operation: ARPPacket.request, senderMAC: client.mac, senderAddress: try address("10.16.0.15"),
            targetMAC: MACAddress(bits: 0), targetAddress: try address(target)
        ).frame(to: try mac("ff:ff:ff:ff:ff:ff")).bytes
    }

    @Test func `the server's MAC is told to a guest that takes the server for a neighbour`() throws {
        let reply = try #require(answer(question("169.254.0.254")).frames.first.flatMap(ARPPacket.init(parsing:)))
        #expect(reply.operation == ARPPacket.reply && reply.senderMAC == DHCPServerIdentity.mac)
        #expect(try answer(question("10.16.0.1")).frames == [], "the router answers for itself")
    }

    @Test func `for an address that a host may have, nobody but that host answers`() throws {
        let own = DHCPServerIdentity.address
        func isAnswered(_ change: (inout DHCPv4Lease) throws -> Void) throws -> Bool {
            var configuration = client.configuration
            var lease = try #require(configuration.ipv4)
            try change(&lease)
            configuration.ipv4 = lease
            return try !answer(question("\(lease.server)"), configuration).frames.isEmpty
        }
        #expect(try isAnswered { _ in })
        #expect(try !isAnswered { $0.server = try address("10.16.0.2") }, "a nameserver")
        #expect(try !isAnswered { $0.server = try address("192.168.0.9") })
        #expect(try !isAnswered { $0.router = own })
        #expect(try !isAnswered { $0.nameservers.append(own) })
        #expect(try !isAnswered { $0.routes = [DHCPRoute(destination: try prefix("10.0.0.0/8"), router: own)] })
        #expect(try !isAnswered { ($0.address, $0.prefixLength) = (try address("169.254.7.7"), 16) })
    }
}
