import Addresses
import DHCP
import Testing

struct DHCPv6ResponderTests {
    private let client: Client
    private let now = ContinuousClock.now
    private let own: IPAddress
    private let other: IPAddress

    init() throws {
        client = try Client()
        own = try address("fd00:16::15")
        other = try address("fd00:16::99")
    }

    private func answer(
        _ kind: DHCPv6Message.Kind, _ options: [DHCPv6Option], _ configuration: GuestConfiguration? = nil
    ) throws -> Responder.Answer {
        var responder = Responder(configuration ?? client.configuration)
        return responder.answer(to: try client.ipv6(kind, options: options), at: now)
    }

    private func addresses(_ message: DHCPv6Message?) -> [IdentityAddress] {
        (message?.options ?? []).compactMap(IdentityAssociation.init(parsing:)).flatMap(\.addresses)
    }

    private func status(_ options: [DHCPv6Option]?) -> UInt8? {
        options?.first { $0.code == .statusCode }?.value.dropFirst().first
    }

    @Test func `a solicit is advertised the binding's address, a rapid one is given it`() throws {
        let options = [Client.id, Client.association, DHCPv6Option(.optionRequest, [0, 23, 0, 24, 0, 56])]
        let advertise = try #require(try answer(.solicit, options).ipv6)
        #expect(advertise.kind == .advertise && advertise.transactionID == 0xabcdef)
        #expect(advertise[.clientID] == Client.id.value && advertise[.serverID] == client.serverID.value)
        #expect(advertise[.preference] == [255] && advertise[.rapidCommit] == nil)
        #expect(
            addresses(advertise) == [IdentityAddress(address: own, preferredLifetime: 3600, validLifetime: 3600)])
        #expect(try advertise[.nameservers] == (address("fd00:16::2")).bytes)
        #expect(advertise[.searchList].flatMap(DomainNames.names(in:)) == ["vm.example"])
        #expect(advertise[.ntpServers] == nil)
        let association = try #require(advertise.options.compactMap(IdentityAssociation.init(parsing:)).first)
        #expect(association.id == 7 && association.renewalTime == 1800 && association.rebindingTime == 2880)

        let rapid = try #require(try answer(.solicit, options + [DHCPv6Option(.rapidCommit, [])]).ipv6)
        #expect(rapid.kind == .reply && rapid[.rapidCommit] == [] && addresses(rapid).map(\.address) == [own])
    }

    @Test func `each NTP server is an option of its own`() throws {
        var configuration = client.configuration
        let servers = try [address("fd00:16::5"), address("fd00:16::6")]
        configuration.ipv6?.ntpServers = servers
        let options = [Client.id, DHCPv6Option(.optionRequest, [0, 56])]
        let reply = try #require(try answer(.informationRequest, options, configuration).ipv6)
        #expect(
            reply.options.filter { $0.code == .ntpServers }.map(\.value) == servers.map { [0, 1, 0, 16] + $0.bytes })
    }

    @Test func `request, renew and rebind get the own address, and others are taken back`() throws {
        let wish = Client.association(of: other)
        for (kind, options) in [
            (DHCPv6Message.Kind.renew, [Client.id, client.serverID, wish]), (.rebind, [Client.id, wish]),
        ] {
            let answer = try answer(kind, options)
            #expect(answer.ipv6?.kind == .reply && answer.events == [.leased(own)])
            #expect(
                addresses(answer.ipv6) == [
                    IdentityAddress(address: own, preferredLifetime: 3600, validLifetime: 3600),
                    IdentityAddress(address: other, preferredLifetime: 0, validLifetime: 0),
                ])
        }
        let request = try answer(.request, [Client.id, client.serverID, wish])
        #expect(addresses(request.ipv6).map(\.address) == [own])
    }

    @Test func `a second association, temporary addresses and prefixes are not given`() throws {
        let wishes = [
            Client.association, IdentityAssociation(id: 8).option,
            IdentityAssociation(code: .temporaryAddresses, id: 9).option,
            IdentityAssociation(code: .prefixDelegation, id: 10).option,
        ]
        let reply = try #require(try answer(.request, [Client.id, client.serverID] + wishes).ipv6)
        let associations = reply.options.compactMap(IdentityAssociation.init(parsing:))
        #expect(associations.map(\.id) == [7, 8, 9, 10])
        #expect(associations.map { status($0.options) } == [nil, 2, 2, 6])
        #expect(addresses(reply).map(\.address) == [own])
    }

    @Test func `confirm says whether the address is the guest's`() throws {
        #expect(try status(answer(.confirm, [Client.id, Client.association(of: own)]).ipv6?.options) == 0)
        let refused = try answer(.confirm, [Client.id, Client.association(of: other)])
        #expect(status(refused.ipv6?.options) == 4 && refused.events == [.refused(other)])
        #expect(
            try answer(.confirm, [Client.id, Client.association]) == Responder.Answer(), "RFC 8415, section 18.3.3")
    }

    @Test func `of long lists as much is told as gets through any link`() throws {
        var configuration = client.configuration
        configuration.ipv6?.nameservers = try (1...200).map { try address("fd00:16::\($0)") }
        let search = (1...400).map { "\($0).vm.example" }
        configuration.ipv6?.search = search
        var responder = Responder(configuration)
        func packet(_ bytes: [UInt8]) throws -> IPPacket {
            let frame = try #require(responder.answer(to: bytes, at: now).frames.first)
            #expect(frame.bytes.count - 14 <= 1280)
            return try #require(IPPacket(parsing: frame))
        }
        let options = [Client.id, Client.association, DHCPv6Option(.optionRequest, [0, 23, 0, 24])]
        let solicit = try client.ipv6(.solicit, options: options)
        func message() throws -> DHCPv6Message {
            try #require(DHCPv6Message(parsing: UDPDatagram(parsing: packet(solicit))?.payload ?? []))
        }
        let servers = try #require(try message()[.nameservers])
        #expect(servers.count > 1000 && servers.count % 16 == 0)
        configuration.ipv6?.nameservers.removeLast(190)
        responder = Responder(configuration)
        let second = try message()
        let names = try #require(second[.searchList].flatMap(DomainNames.names(in:)))
        #expect(second[.nameservers]?.count == 160 && names.count > 50 && names == Array(search.prefix(names.count)))
        let answer = try #require(NeighborDiscoveryMessage(parsing: packet(client.solicitation())))
        #expect(try #require(RouterAdvertisement(parsing: answer)).options.map(\.type) == [3, 25, 31])
    }

    @Test func `release and decline are acknowledged, and an information request is answered`() throws {
        let options = [Client.id, client.serverID, Client.association(of: own)]
        #expect(try status(answer(.release, options).ipv6?.options) == 0)
        let declined = try answer(.decline, options)
        #expect(status(declined.ipv6?.options) == 0 && declined.events == [.declined(own)])
        let information = try answer(.informationRequest, [DHCPv6Option(.optionRequest, [0, 23, 0, 32])])
        #expect(information.ipv6?[.nameservers] != nil && information.ipv6?[.informationRefreshTime] == [0, 0, 14, 16])
    }

    @Test func `messages that RFC 8415 calls invalid, or that are for another server, get silence`() throws {
        let other = DHCPv6Option(.serverID, [0, 3, 0, 1, 9, 9, 9, 9, 9, 9])
        let cases: [(DHCPv6Message.Kind, [DHCPv6Option])] = [
            (.solicit, [Client.association]), (.solicit, [Client.id, client.serverID, Client.association]),
            (.request, [Client.id, Client.association]), (.request, [Client.id, other, Client.association]),
            (.renew, [Client.id, Client.association]), (.rebind, [Client.id, client.serverID, Client.association]),
            (.release, [Client.id, other]), (.informationRequest, [Client.id, Client.association]),
            (.advertise, [Client.id]), (.reply, [Client.id]), (.reconfigure, [Client.id]),
        ]
        for (kind, options) in cases { #expect(try answer(kind, options) == Responder.Answer(), "\(kind) \(options)") }
        let options = [Client.id, Client.association]
        for frame in [
            try client.ipv6(.solicit, from: own, options: options),
            try client.ipv6(.solicit, to: "\(DHCPServerIdentity.mac.linkLocalAddress)", options: options),
        ] {
            var responder = Responder(client.configuration)
            #expect(responder.answer(to: frame, at: now) == Responder.Answer())
        }
    }

    @Test func `a router solicitation is answered: addresses by DHCP, none made up, the prefix on the link`() throws {
        var responder = Responder(client.configuration)
        let frame = try #require(responder.answer(to: try client.solicitation(), at: now).frames.first)
        let message = try #require(IPPacket(parsing: frame).flatMap(NeighborDiscoveryMessage.init(parsing:)))
        let advertisement = try #require(RouterAdvertisement(parsing: message))
        #expect(advertisement.isManaged && advertisement.hasOtherConfiguration && advertisement.routerLifetime == 0)
        #expect(message.destination == client.mac.linkLocalAddress && frame.destination == client.mac)
        let information = try #require(
            advertisement.options.first { $0.type == NeighborDiscoveryOption.prefixInformation })
        #expect(information.value.prefix(2) == [64, 0x80])
        #expect(try information.value.suffix(16) == (address("fd00:16::")).bytes[...])
        #expect(advertisement.options.map(\.type) == [3, 25, 31])
    }

    private func unsolicited(_ configuration: GuestConfiguration) throws -> (IPAddress, RouterAdvertisement) {
        let frame = try #require(Responder(configuration).unsolicitedAdvertisement)
        let message = try #require(IPPacket(parsing: frame).flatMap(NeighborDiscoveryMessage.init(parsing:)))
        #expect(try message.destination == (address("ff02::1")) && frame.destination == client.mac)
        return (message.source, try #require(RouterAdvertisement(parsing: message)))
    }

    @Test func `a guest is told without asking, of no router where routers speak for themselves`() throws {
        let (source, advertisement) = try unsolicited(client.configuration)
        #expect(source == DHCPServerIdentity.mac.linkLocalAddress && advertisement.routerLifetime == 0)
        #expect(advertisement.isManaged && advertisement.options.map(\.type) == [3, 25, 31])
        var noIPv6 = client.configuration
        noIPv6.ipv6 = nil
        #expect(Responder(noIPv6).unsolicitedAdvertisement == nil)
    }

    @Test func `a router that this node speaks for is announced by its own address, for as long as the lease`() throws {
        var configuration = client.configuration
        configuration.ipv6?.router = try address("fe80::1")
        configuration.ipv6?.mtu = 1400
        let (source, advertisement) = try unsolicited(configuration)
        #expect(try source == (address("fe80::1")))
        #expect(advertisement.options.map(\.type) == [3, 5, 25, 31])
        // Without a link-layer address option: the guest asks the router itself for its MAC.
        for (lease, lifetime) in [(60, 9000), (36_000, 36_000), (86_400, 65_535), (.max, 65_535)] as [(UInt32, UInt16)]
        {
            configuration.ipv6?.leaseTime = lease
            #expect(try unsolicited(configuration).1.routerLifetime == lifetime)
        }
    }

    @Test func `what the pool says is told for as long as the lease, so that a guest forgets what it says no longer`()
        throws
    {
        var configuration = client.configuration
        for (lease, lifetime) in [(60, 9000), (86_400, 86_400), (.max, .max)] as [(UInt32, UInt32)] {
            configuration.ipv6?.leaseTime = lease
            let told = try unsolicited(configuration).1.options.map { option in
                // Two bytes come first: of the prefix its length and flags, with two lifetimes; reserved ones.
                option.value.dropFirst(2).prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
            }
            #expect(told == [lifetime, lifetime, lifetime])
        }
    }

    @Test(arguments: [".", "", "a..b", String(repeating: "x", count: 64) + ".example"])
    func `a search domain that DNS has no form for is left out, and the others are told`(name: String) throws {
        var configuration = client.configuration
        for (search, told) in [([name], nil), ([name, "vm.example"], ["vm.example"])] as [([String], [String]?)] {
            configuration.ipv6?.search = search
            let options = try unsolicited(configuration).1.options
            // Reserved bytes and lifetime first, zeros last.
            let list = options.first { $0.type == NeighborDiscoveryOption.dnsSearchList }?.value.dropFirst(6)
            let names = list.map { Array($0.reversed().drop { $0 == 0 }.reversed()) + [0] }
            #expect(names.flatMap(DomainNames.names(in:)) == told)
            var responder = Responder(configuration)
            let asked = [Client.id, Client.association, DHCPv6Option(.optionRequest, [0, 24])]
            let reply = try #require(responder.answer(to: client.ipv6(.solicit, options: asked), at: now).ipv6)
            #expect(reply[.searchList].flatMap(DomainNames.names(in:)) == told)
        }
    }
}
