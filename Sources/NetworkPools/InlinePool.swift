package import Addresses
package import CNI
package import IPAMModel

/// The pool that a network's configuration describes by ranges, in whereabouts' keys or host-local's. The same
/// configuration gives the same pool on every node.
///
/// Upstream: whereabouts pkg/config/config.go and pkg/iphelpers/iphelpers.go; containernetworking/plugins
/// plugins/ipam/host-local/backend/allocator. docs/annotations.md says what of it is read.
package struct InlinePool: Hashable, Sendable {
    /// Each is compared with all others, for every ADD.
    private static let mostRanges = 1024
    /// As many as a pool has.
    private static let mostPrefixes = 64

    /// The network's name in the CNI configuration.
    package var network: String
    package var pool: Pool
    /// The gateways that results name though they are not the pool's: first addresses, which host-local names though nothing
    /// is routed by them, and link-local ones.
    package var namedGateways: [IPPrefix: IPAddress]

    /// Nil where the configuration has no ranges. Throws code 7 where they cannot be read, or ask for what no pool gives.
    package init?(_ network: NetworkConfiguration) throws(CNIError) {
        let reader = ConfigurationReader(network: network.name)
        guard let (path, ipam) = Self.ranges(in: network) else { return nil }
        let ranges = try reader.whereabouts(ipam, at: path) + reader.hostLocal(ipam, at: path)
        guard !ranges.isEmpty else { return nil }
        if ranges.count > Self.mostRanges {
            throw reader.invalid(
                ranges[Self.mostRanges].path, "is one range more than the \(Self.mostRanges) of a pool")
        }
        if let addresses = ipam["addresses"]?.array, !addresses.isEmpty {
            throw reader.invalid("\(path)addresses", "fixed addresses are asked for by annotations of the pod or VM")
        }
        let routes = try reader.routes(ipam["routes"], at: "\(path)routes").map { $0.completed(by: ranges) }
        let prefixes = try Self.prefixes(ranges, routes: routes, reader)
        namedGateways = [:]
        for prefix in prefixes where prefix.gateway == nil {
            let all = ranges.filter { $0.prefix == prefix.prefix }
            namedGateways[prefix.prefix] = all.compactMap(\.gateway).first ?? all.first?.usualGateway
        }
        self.network = network.name
        pool = Pool(
            name: Pool.name(after: prefixes.map(\.prefix), networkName: ipam["network_name"]?.string ?? ""),
            prefixes: prefixes, routes: routes, dns: try reader.dns(ipam["dns"], at: "\(path)dns"))
    }

    /// The first place that has ranges.
    private static func ranges(in network: NetworkConfiguration) -> (path: String, object: JSONObject)? {
        network.places.first { place in
            ["range", "ipRanges", "subnet", "ranges"].contains { place.object[$0] != nil }
        }
    }

    /// Ranges of one prefix are one prefix of the pool: all of it is excluded but them.
    private static func prefixes(
        _ ranges: [InlineRange], routes: [Route], _ reader: ConfigurationReader
    ) throws(CNIError) -> [PoolPrefix] {
        var sets: [AddressFamily: Int] = [:]
        for range in ranges {
            guard sets[range.prefix.family, default: range.set] == range.set else {
                throw reader.invalid(
                    range.path,
                    "is a second range of \(range.prefix.family == .ipv4 ? "IPv4" : "IPv6") addresses, "
                        + "which would give each NIC two of them: a pool gives one of each family")
            }
            sets[range.prefix.family] = range.set
        }
        var prefixes: [PoolPrefix] = []
        // IPv4 first, whatever the order in the configuration: that changes nothing.
        let ordered = AddressFamily.allCases.flatMap { family in ranges.filter { $0.prefix.family == family } }
        for range in ordered where !prefixes.contains(where: { $0.prefix == range.prefix }) {
            if prefixes.count == mostPrefixes {
                throw reader.invalid(range.path, "is one prefix more than the \(mostPrefixes) of a pool")
            }
            let all = ranges.filter { $0.prefix == range.prefix }
            let excluded = range.prefix.gaps(around: all.map(\.window)) + all.flatMap(\.excluded)
            let needsGateway = routes.contains { $0.destination.family == range.prefix.family && $0.gateway == nil }
            let named = all.compactMap(\.gateway)
            let gateway =
                named.first(where: range.prefix.contains)
                ?? routes.first { $0.destination.length == 0 && $0.gateway.map(range.prefix.contains) == true }?.gateway
                ?? (needsGateway && named.isEmpty ? range.usualGateway : nil)
            var reserved = excluded
            // host-local never gives it, whether or not anything is routed by it.
            if let usual = range.usualGateway, usual != gateway, named.isEmpty {
                reserved.append(AddressRange(from: usual, through: usual))
            }
            prefixes.append(
                PoolPrefix(prefix: range.prefix, gateway: gateway, excluded: reserved.sortedWithoutRepetitions))
        }
        return prefixes
    }
}

/// One range of a configuration.
struct InlineRange: Hashable, Sendable {
    var path: String
    /// Ranges of one set are alternatives; each set gives an address.
    var set: Int
    var prefix: IPPrefix
    /// What is given of it.
    var window: AddressRange
    var excluded: [AddressRange] = []
    /// Of the prefix, or link-local.
    var gateway: IPAddress?
    /// The one that host-local takes where none is named: the first address.
    var usualGateway: IPAddress?
}

extension Route {
    /// One without a gateway goes by the ranges' link-local one, where that is all that they have: a pool's own gateway is one
    /// of its addresses.
    fileprivate func completed(by ranges: [InlineRange]) -> Route {
        let gateways = Set(ranges.filter { $0.prefix.family == destination.family }.map(\.gateway))
        guard gateway == nil, gateways.count == 1, let named = gateways.first, let named, named.isLinkLocal else {
            return self
        }
        return Route(destination: destination, gateway: named)
    }
}

extension IPPrefix {
    /// The addresses outside `windows`, without network and broadcast address alone: a pool never gives these.
    fileprivate func gaps(around windows: [AddressRange]) -> [AddressRange] {
        range.subtracting(windows).filter {
            $0.span > 0 || hostMask <= 1 || $0.lower != address && ($0.lower != last || family == .ipv6)
        }
    }
}

extension [AddressRange] {
    fileprivate var sortedWithoutRepetitions: Self {
        Set(self).sorted { ($0.lower, $0.upper) < ($1.lower, $1.upper) }
    }
}
