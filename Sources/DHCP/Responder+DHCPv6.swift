import Addresses

extension Responder {
    /// RFC 8415, sections 16 (which messages are valid) and 18.3.
    func answer(_ message: DHCPv6Message, in datagram: UDPDatagram) -> Answer {
        // Nobody is told to use unicast, so whoever does is not answered (section 16).
        guard let lease = configuration.ipv6, datagram.destination == .allDHCPServers,
            datagram.source.isLinkLocal
        else { return .silence }
        let server = message[.serverID]
        let isForUs = server == lease.serverID
        guard message[.clientID] != nil || message.kind == .informationRequest else { return .silence }
        switch message.kind {
        case .solicit where server == nil:
            let isRapid = message[.rapidCommit] != nil
            return reply(isRapid ? .reply : .advertise, to: message, lease, datagram, lease.associations(in: message))
        case .request where isForUs, .renew where isForUs, .rebind where server == nil:
            return reply(.reply, to: message, lease, datagram, lease.associations(in: message))
        case .confirm where server == nil: return confirm(message, lease, datagram)
        case .release where isForUs:
            // The address stays the VM's.
            return reply(.reply, to: message, lease, datagram, [DHCPv6Status.success.option("released")])
        case .decline where isForUs:
            var answer = reply(.reply, to: message, lease, datagram, [DHCPv6Status.success.option("noted")])
            answer.events = [.declined(message.addresses.first ?? lease.address)]
            return answer
        case .informationRequest where server == nil || isForUs:
            guard !message.options.contains(where: { IdentityAssociation(parsing: $0) != nil }) else { return .silence }
            return reply(.reply, to: message, lease, datagram, [])
        default: return .silence
        }
    }

    /// Section 18.3.3.
    private func confirm(_ message: DHCPv6Message, _ lease: DHCPv6Lease, _ datagram: UDPDatagram) -> Answer {
        let asked = message.addresses
        guard !asked.isEmpty else { return .silence }
        let other = asked.first { $0 != lease.address }
        let status =
            other == nil
            ? DHCPv6Status.success.option("all yours")
            : DHCPv6Status.notOnLink.option("this machine's address is \(lease.address)")
        var answer = reply(.reply, to: message, lease, datagram, [status])
        answer.events = other.map { [.refused($0)] } ?? []
        return answer
    }

    private func reply(
        _ kind: DHCPv6Message.Kind, to message: DHCPv6Message, _ lease: DHCPv6Lease, _ datagram: UDPDatagram,
        _ body: [DHCPv6Option]
    ) -> Answer {
        var options = [DHCPv6Option(.serverID, lease.serverID)]
        if let client = message[.clientID] { options.append(DHCPv6Option(.clientID, client)) }
        // The client need not wait whether a better server answers (section 18.2.1).
        if kind == .advertise { options.append(DHCPv6Option(.preference, [255])) }
        if kind == .reply, message.kind == .solicit { options.append(DHCPv6Option(.rapidCommit, [])) }
        options += body
        // The headers of IPv6, UDP and the message are taken off.
        let room = IPPacket.smallestIPv6MTU - 40 - 8 - 4 - options.reduce(0) { $0 + $1.bytes.count }
        options += lease.options(message.requestedOptions, within: room)
        let answer = UDPDatagram(
            source: lease.serverMAC.linkLocalAddress, destination: datagram.source,
            sourcePort: DHCPv6Message.serverPort, destinationPort: DHCPv6Message.clientPort,
            payload: DHCPv6Message(kind: kind, transactionID: message.transactionID, options: options).bytes)
        let isLease = kind == .reply && [.solicit, .request, .renew, .rebind].contains(message.kind)
        return Answer(
            frames: [answer.frame(from: lease.serverMAC, to: configuration.mac)],
            events: isLease ? [.leased(lease.address)] : [])
    }
}

extension DHCPv6Message {
    /// In all associations together.
    fileprivate var addresses: [IPAddress] {
        options.compactMap(IdentityAssociation.init(parsing:)).flatMap(\.addresses).map(\.address)
    }
}

extension DHCPv6Lease {
    /// DUID-LL of the server's MAC (RFC 8415, section 11.4).
    package var serverID: [UInt8] { [0, 3, 0, 1] + serverMAC.bytes }

    /// The answer to each association that the client has: the first of its kind gets the address, and what it had of
    /// others is to be dropped.
    fileprivate func associations(in message: DHCPv6Message) -> [DHCPv6Option] {
        var isGiven = false
        return message.options.compactMap(IdentityAssociation.init(parsing:)).map { wish in
            var answer = IdentityAssociation(code: wish.code, id: wish.id)
            if wish.code == .prefixDelegation {
                answer.options = [DHCPv6Status.noPrefixes.option("no prefixes here")]
            } else if wish.code == .temporaryAddresses || isGiven {
                answer.options = [DHCPv6Status.noAddresses.option("this machine has one address, \(address)")]
            } else {
                isGiven = true
                answer.renewalTime = leaseTime == .max ? .max : leaseTime / 2
                answer.rebindingTime = leaseTime == .max ? .max : UInt32(UInt64(leaseTime) * 4 / 5)
                let own = IdentityAddress(address: address, preferredLifetime: leaseTime, validLifetime: leaseTime)
                let others = message.kind == .renew || message.kind == .rebind ? wish.addresses : []
                answer.options = [own.option]
                for other in others where other.address != address {
                    answer.options.append(
                        IdentityAddress(address: other.address, preferredLifetime: 0, validLifetime: 0).option)
                }
            }
            return answer.option
        }
    }

    /// What is asked for of all that there is to tell, none of it empty: of each list what so many bytes have room for.
    fileprivate func options(_ requested: [DHCPv6Option.Code], within limit: Int) -> [DHCPv6Option] {
        var options: [DHCPv6Option] = []
        var room = limit
        func add(_ code: DHCPv6Option.Code, _ read: (_ room: Int) -> [UInt8]) {
            guard requested.contains(code), room > 4 else { return }
            let value = read(room - 4)
            guard !value.isEmpty, value.count <= room - 4 else { return }
            options.append(DHCPv6Option(code, value))
            room -= 4 + value.count
        }
        add(.informationRefreshTime) { _ in
            var bytes: [UInt8] = []
            bytes.append(bigEndian: max(600, leaseTime))
            return bytes
        }
        add(.nameservers) { nameservers.prefix($0 / 16).flatMap(\.bytes) }
        // An option for each, with suboption 1, its address (RFC 5908, sections 4 and 4.1).
        for server in ntpServers { add(.ntpServers) { _ in [0, 1, 0, 16] + server.bytes } }
        add(.searchList) { DomainNames.bytes(of: DomainNames.first(of: search, within: $0)) }
        return options
    }
}
