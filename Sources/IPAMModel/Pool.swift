package import Addresses

/// A named address space.
package struct Pool: Hashable, Sendable {
    package var name: String
    package var prefixes: [PoolPrefix]
    /// Namespaces that may use it; empty: all.
    package var namespaces: [String]
    package var routes: [Route]
    package var dns: DNS?
    package var isDefault: Bool
    package var reuseDelay: Delay
    /// Bindings that one namespace may have here; 0: no limit.
    package var namespaceQuota: UInt32
    /// How long is kept who had which of its addresses.
    package var historyRetention: Delay
    package var revision: UInt64

    package static let defaultReuseDelay = Delay.seconds(60)
    package static let defaultHistoryRetention = Delay.seconds(90 * 86_400)

    package init(
        name: String, prefixes: [PoolPrefix], namespaces: [String] = [], routes: [Route] = [], dns: DNS? = nil,
        isDefault: Bool = false, reuseDelay: Delay = Pool.defaultReuseDelay, namespaceQuota: UInt32 = 0,
        historyRetention: Delay = Pool.defaultHistoryRetention, revision: UInt64 = 0
    ) {
        self.name = name
        self.prefixes = prefixes
        self.namespaces = namespaces
        self.routes = routes
        self.dns = dns
        self.isDefault = isDefault
        self.reuseDelay = reuseDelay
        self.namespaceQuota = namespaceQuota
        self.historyRetention = historyRetention
        self.revision = revision
    }
}

package struct PoolPrefix: Hashable, Sendable {
    package var prefix: IPPrefix
    /// Nil: pure layer 2.
    package var gateway: IPAddress?
    package var excluded: [AddressRange]
    /// Network and broadcast address may be given too.
    package var usesEdgeAddresses: Bool

    package init(
        prefix: IPPrefix, gateway: IPAddress? = nil, excluded: [AddressRange] = [], usesEdgeAddresses: Bool = false
    ) {
        self.prefix = prefix
        self.gateway = gateway
        self.excluded = excluded
        self.usesEdgeAddresses = usesEdgeAddresses
    }
}

package struct Route: Hashable, Sendable, Codable {
    package var destination: IPPrefix
    /// Nil: the pool's gateway.
    package var gateway: IPAddress?

    package init(destination: IPPrefix, gateway: IPAddress? = nil) {
        self.destination = destination
        self.gateway = gateway
    }
}

package struct DNS: Hashable, Sendable, Codable {
    package var nameservers: [IPAddress]
    package var domain: String
    package var search: [String]
    package var options: [String]

    package init(nameservers: [IPAddress] = [], domain: String = "", search: [String] = [], options: [String] = []) {
        self.nameservers = nameservers
        self.domain = domain
        self.search = search
        self.options = options
    }
}

/// How much of one prefix is in use. `UInt64.max` stands for "that many or more".
package struct PrefixUsage: Hashable, Sendable {
    package var prefix: IPPrefix
    package var total: UInt64
    package var bound: UInt64
    package var reserved: UInt64
    package var quarantined: UInt64
    package var free: UInt64

    package init(
        prefix: IPPrefix, total: UInt64, bound: UInt64, reserved: UInt64, quarantined: UInt64, free: UInt64
    ) {
        self.prefix = prefix
        self.total = total
        self.bound = bound
        self.reserved = reserved
        self.quarantined = quarantined
        self.free = free
    }
}
