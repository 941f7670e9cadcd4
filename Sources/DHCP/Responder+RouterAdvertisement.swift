import Addresses

extension Responder {
    /// The advertisement that answers a solicitation (RFC 4861, section 6.2.6).
    func answer(_ solicitation: NeighborDiscoveryMessage) -> Answer {
        let destination = solicitation.source.isUnspecified ? IPAddress.allNodes : solicitation.source
        return Answer(frames: advertisement(to: destination).map { [$0] } ?? [])
    }

    /// What the guest is told without asking (section 6.2.4): it forgets a router that is silent, and does not ask again once it
    /// has asked three times in vain (section 6.3.7). Nil where it has no IPv6.
    package var unsolicitedAdvertisement: EthernetFrame? { advertisement(to: .allNodes) }

    /// Seconds: as long as the lease, after which a guest forgets what its pool says no longer (RFC 8106, section 5.3); no shorter
    /// than what RFC 4861 let routers say at most (RFC 8319).
    private static func lifetime(_ lease: DHCPv6Lease) -> UInt32 { max(9000, lease.leaseTime) }

    /// The same where the field has room for it.
    private static func routerLifetime(_ lease: DHCPv6Lease) -> UInt16 {
        lease.router == nil ? 0 : UInt16(clamping: lifetime(lease))
    }

    private func advertisement(to destination: IPAddress) -> EthernetFrame? {
        guard let lease = configuration.ipv6 else { return nil }
        let lifetime = Self.lifetime(lease)
        var options: [NeighborDiscoveryOption] = []
        if let prefix = IPPrefix(containing: lease.address, length: lease.prefixLength), lease.prefixLength < 128 {
            options.append(.onLinkPrefix(prefix, lifetime: lifetime))
        }
        if let mtu = lease.mtu, mtu >= 1280 { options.append(.mtu(mtu)) }
        // The packet's header, the advertisement's own, and the options' are taken off.
        var room = IPPacket.smallestIPv6MTU - 40 - 16 - options.reduce(0) { $0 + $1.bytes.count }
        let nameservers = lease.nameservers.prefix((room - 8) / 16)
        if !nameservers.isEmpty {
            options.append(.nameservers(Array(nameservers), lifetime: lifetime))
            room -= 8 + 16 * nameservers.count
        }
        let search = DomainNames.first(of: lease.search, within: room / 8 * 8 - 8)
        if !search.isEmpty { options.append(.searchList(search, lifetime: lifetime)) }
        let advertisement = RouterAdvertisement(
            isManaged: true, hasOtherConfiguration: true, routerLifetime: Self.routerLifetime(lease), options: options)
        return advertisement.message(from: lease.router ?? lease.serverMAC.linkLocalAddress, to: destination)
            .frame(from: lease.serverMAC, to: configuration.mac)
    }
}
