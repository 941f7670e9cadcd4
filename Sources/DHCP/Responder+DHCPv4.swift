import Addresses

extension Responder {
    /// RFC 2131, section 4.3.
    func answer(_ message: DHCPv4Message, in datagram: UDPDatagram) -> Answer {
        // A message that a relay passed on does not come from a guest.
        guard let lease = configuration.ipv4, message.operation == .request, message.hardwareType == 1,
            message.hardwareAddress == configuration.mac.bytes, message.relayAddress.isUnspecified,
            message.options.allSatisfy({ $0.code != .serverIdentifier || $0.value == lease.server.bytes })
        else { return .silence }
        switch message.kind {
        case .discover: return reply(.offer, to: message, lease)
        case .request: return answer(request: message, lease)
        case .inform where !message.clientAddress.isUnspecified: return reply(.ack, to: message, lease)
        case .decline: return Answer(events: [.declined(message.address(.requestedAddress) ?? lease.address)])
        // The address stays the VM's, whatever its guest gives back.
        case .release, .inform, .offer, .ack, .nak, nil: return .silence
        }
    }

    /// Section 4.3.2: which address is meant depends on the client's state.
    private func answer(request message: DHCPv4Message, _ lease: DHCPv4Lease) -> Answer {
        let asked: IPAddress
        if let requested = message.address(.requestedAddress) {
            asked = requested
        } else if !message.clientAddress.isUnspecified {
            asked = message.clientAddress
        } else {
            return .silence
        }
        if asked == lease.address { return reply(.ack, to: message, lease) }
        var answer = reply(.nak, to: message, lease)
        answer.events = [.refused(asked)]
        return answer
    }

    private func reply(_ kind: DHCPv4Message.Kind, to message: DHCPv4Message, _ lease: DHCPv4Lease) -> Answer {
        let isRefusal = kind == .nak
        let isInform = message.kind == .inform
        var reply = DHCPv4Message(
            operation: .reply, transactionID: message.transactionID, flags: message.flags,
            clientAddress: kind == .ack ? message.clientAddress : .zeroIPv4,
            yourAddress: isRefusal || isInform ? .zeroIPv4 : lease.address,
            hardwareAddress: message.hardwareAddress)
        reply.options = [DHCPv4Option(.messageType, [kind.rawValue]), .addresses(.serverIdentifier, [lease.server])]
        // RFC 6842
        if let id = message[.clientIdentifier] { reply.options.append(DHCPv4Option(.clientIdentifier, id)) }
        var events: [Event] = kind == .ack && !isInform ? [.leased(lease.address)] : []
        if isRefusal {
            reply.options.append(.text(.message, "this machine's address is \(lease.address)"))
        } else {
            if !isInform { reply.options.append(.number(.leaseTime, lease.leaseTime)) }
            let leftOut = reply.append(lease.options(), askedForBy: message, within: mtu)
            if !leftOut.isEmpty { events.append(.leftOut(leftOut)) }
        }
        let (address, mac) = Self.destination(of: reply, isRefusal: isRefusal, configuration.mac)
        let datagram = UDPDatagram(
            source: lease.server, destination: address, sourcePort: DHCPv4Message.serverPort,
            destinationPort: DHCPv4Message.clientPort, payload: reply.bytes)
        return Answer(frames: [datagram.frame(from: lease.serverMAC, to: mac)], events: events)
    }

    /// Section 4.1, for a client without a relay.
    private static func destination(
        of reply: DHCPv4Message, isRefusal: Bool, _ mac: MACAddress
    ) -> (IPAddress, MACAddress) {
        if isRefusal { return (.broadcast, .broadcast) }
        if !reply.clientAddress.isUnspecified { return (reply.clientAddress, mac) }
        return reply.wantsBroadcast ? (.broadcast, .broadcast) : (reply.yourAddress, mac)
    }
}

extension DHCPv4Message {
    /// Appends those options that the client asks for, in its order (all, where it says nothing), as long as the message
    /// stays within the sizes that the client and the link take. The mask comes before the router (RFC 2132, section 3.3). Gives
    /// back what there was no room for.
    fileprivate mutating func append(
        _ options: [DHCPv4Option], askedForBy request: DHCPv4Message, within mtu: Int
    ) -> [DHCPv4Option.Code] {
        var wanted = options
        if let list = request[.parameterRequestList] {
            let codes = list.map(DHCPv4Option.Code.init)
            wanted = codes.compactMap { code in options.first { $0.code == code } }
            if let mask = wanted.firstIndex(where: { $0.code == .subnetMask }) { wanted.swapToFront(mask) }
        }
        // IP and UDP headers have 28 bytes; 576 is what every client takes.
        let announced = request[.maximumMessageSize].flatMap { $0.count == 2 ? Int($0[0]) << 8 | Int($0[1]) : nil }
        let limit = min(max(announced ?? 576, 576), mtu) - 28
        var leftOut: [DHCPv4Option.Code] = []
        var size = 236 + 4 + 1 + self.options.reduce(0) { $0 + $1.bytes.count }
        for option in wanted where !self.options.contains(where: { $0.code == option.code }) {
            let length = option.bytes.count
            guard size + length <= limit else {
                leftOut.append(option.code)
                continue
            }
            size += length
            self.options.append(option)
        }
        return leftOut
    }
}

extension Array {
    fileprivate mutating func swapToFront(_ index: Int) { insert(remove(at: index), at: 0) }
}

extension DHCPv4Lease {
    /// All that there is to tell, none of it empty.
    fileprivate func options() -> [DHCPv4Option] {
        let prefix = IPPrefix(containing: address, length: prefixLength)
        let mask = ~UInt32(truncatingIfNeeded: prefix?.hostMask ?? 0)
        var options: [DHCPv4Option] = [.number(.subnetMask, mask)]
        func add(_ option: DHCPv4Option) { if !option.value.isEmpty { options.append(option) } }
        add(.addresses(.router, router.map { [$0] } ?? []))
        let routes = classlessRoutes(in: prefix)
        add(.routes(.classlessRoutes, routes))
        add(.routes(.classlessRoutesMicrosoft, routes))
        add(.addresses(.nameservers, nameservers))
        add(.text(.hostName, hostName))
        add(.text(.domainName, domain.isEmpty ? search.first ?? "" : domain))
        add(DHCPv4Option(.domainSearch, DomainNames.bytes(of: search)))
        if let mtu, mtu >= 68 { options.append(.number(.interfaceMTU, mtu)) }
        if let prefix, prefixLength < 31 { add(.addresses(.broadcastAddress, [prefix.last])) }
        add(.addresses(.ntpServers, ntpServers))
        return options
    }

    /// Empty where option 3 says it all. A client that takes these does not look at option 3 (RFC 3442), so the default
    /// route is one of them; and a router that is no neighbour has a route of its own. Routes on the link come first.
    private func classlessRoutes(in prefix: IPPrefix?) -> [DHCPRoute] {
        let own = self.routes.filter { $0.destination.family == .ipv4 && $0.router.family == .ipv4 }
        var routes = own.filter(\.router.isUnspecified)
        if let router, prefix?.contains(router) == false, !routes.contains(where: { $0.destination.contains(router) }),
            let host = IPPrefix(address: router, length: 32)
        {
            routes.append(DHCPRoute(destination: host, router: .zeroIPv4))
        }
        routes += own.filter { !$0.router.isUnspecified }
        guard !routes.isEmpty else { return [] }
        if let router, let all = IPPrefix(address: .zeroIPv4, length: 0),
            !routes.contains(where: { $0.destination == all })
        {
            routes.append(DHCPRoute(destination: all, router: router))
        }
        return routes
    }
}
