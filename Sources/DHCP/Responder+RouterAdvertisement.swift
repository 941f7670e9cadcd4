import Addresses

extension Responder {
    /// The advertisement that answers a solicitation (RFC 4861, section 6.2.6).
    func answer(_ solicitation: NeighborDiscoveryMessage) -> Answer {
        let destination = solicitation.source.isUnspecified ? IPAddress.allNodes : solicitation.source
        return Answer(frames: advertisement(to: destination).map { [$0] } ?? [])
    }

    /// What the guest is told from time to time without asking, where this node speaks for the default router: a guest
    /// forgets a router that is silent. Nil otherwise.
    package var periodicAdvertisement: EthernetFrame? {
        configuration.ipv6?.router == nil ? nil : advertisement(to: .allNodes)
    }

    /// Seconds; the longest that RFC 4861 allows (section 6.2.1).
    private static let routerLifetime: UInt16 = 9000

    private func advertisement(to destination: IPAddress) -> EthernetFrame? {
        guard let lease = configuration.ipv6 else { return nil }
        var options: [NeighborDiscoveryOption] = []
        if let prefix = IPPrefix(containing: lease.address, length: lease.prefixLength), lease.prefixLength < 128 {
            options.append(.onLinkPrefix(prefix))
        }
        if let mtu = lease.mtu, mtu >= 1280 { options.append(.mtu(mtu)) }
        // The packet's header, the advertisement's own, and the options' are taken off.
        var room = IPPacket.smallestIPv6MTU - 40 - 16 - options.reduce(0) { $0 + $1.bytes.count }
        let nameservers = lease.nameservers.prefix((room - 8) / 16)
        if !nameservers.isEmpty {
            options.append(.nameservers(Array(nameservers)))
            room -= 8 + 16 * nameservers.count
        }
        let search = DomainNames.first(of: lease.search, within: room / 8 * 8 - 8)
        if !search.isEmpty { options.append(.searchList(search)) }
        let advertisement = RouterAdvertisement(
            isManaged: true, hasOtherConfiguration: true, routerLifetime: lease.router == nil ? 0 : Self.routerLifetime,
            options: options)
        return advertisement.message(from: lease.router ?? lease.serverMAC.linkLocalAddress, to: destination)
            .frame(from: lease.serverMAC, to: configuration.mac)
    }
}
