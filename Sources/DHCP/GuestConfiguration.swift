package import Addresses

/// What the guest on one port is told: its binding's addresses and what its pool and its VM add to them.
package struct GuestConfiguration: Hashable, Sendable, Codable {
    /// The guest's, else the binding's: who else asks on this port gets no answer.
    package var mac: MACAddress
    package var ipv4: DHCPv4Lease?
    package var ipv6: DHCPv6Lease?

    package init(mac: MACAddress, ipv4: DHCPv4Lease? = nil, ipv6: DHCPv6Lease? = nil) {
        self.mac = mac
        self.ipv4 = ipv4
        self.ipv6 = ipv6
    }
}

/// Who answers. The same on every node, so that a guest goes on renewing after a migration as if nothing had changed.
package enum DHCPServerIdentity {
    /// As Kube-OVN's. A guest sends renewals to its router's MAC then, and the port hears them all the same.
    package static let address = IPAddress(family: .ipv4, bits: 0xa9fe_00fe)
    /// Locally administered: it is seen by guests only, never on a wire.
    package static let mac = MACAddress(bits: 0x02_00_a9_fe_00_fe)
}

package struct DHCPRoute: Hashable, Sendable, Codable {
    package var destination: IPPrefix
    /// 0.0.0.0: on the link.
    package var router: IPAddress

    package init(destination: IPPrefix, router: IPAddress) {
        self.destination = destination
        self.router = router
    }
}

package struct DHCPv4Lease: Hashable, Sendable, Codable {
    package var address: IPAddress
    package var prefixLength: Int
    package var router: IPAddress?
    package var nameservers: [IPAddress] = []
    package var domain = ""
    package var search: [String] = []
    package var ntpServers: [IPAddress] = []
    /// But for the default route by `router`.
    package var routes: [DHCPRoute] = []
    /// Nil: the port's own.
    package var mtu: UInt16?
    package var hostName = ""
    /// Seconds; `UInt32.max` is for ever.
    package var leaseTime: UInt32
    package var server = DHCPServerIdentity.address
    package var serverMAC = DHCPServerIdentity.mac

    package init(address: IPAddress, prefixLength: Int, router: IPAddress? = nil, leaseTime: UInt32) {
        self.address = address
        self.prefixLength = prefixLength
        self.router = router
        self.leaseTime = leaseTime
    }
}

package struct DHCPv6Lease: Hashable, Sendable, Codable {
    package var address: IPAddress
    package var prefixLength: Int
    /// The default router's link-local address, where this node speaks for it; nil: routers advertise themselves.
    package var router: IPAddress?
    package var nameservers: [IPAddress] = []
    package var search: [String] = []
    package var ntpServers: [IPAddress] = []
    /// Nil: the port's own.
    package var mtu: UInt16?
    /// Seconds; `UInt32.max` is for ever.
    package var leaseTime: UInt32
    package var serverMAC = DHCPServerIdentity.mac

    package init(address: IPAddress, prefixLength: Int, leaseTime: UInt32) {
        self.address = address
        self.prefixLength = prefixLength
        self.leaseTime = leaseTime
    }
}
