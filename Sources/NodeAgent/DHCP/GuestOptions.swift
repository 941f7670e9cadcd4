import Addresses
import CNI
import DHCP
import IPAMAPI
import IPAMModel
import KubeVirt

/// Whether a VM's guest is served by DHCP on one of its interfaces, and what it is told beside what its pool says.
///
/// Of the agent's `--dhcp`, the network's `"dhcp"` and the VM's annotations the later goes before the earlier.
struct GuestOptions: Hashable, Sendable {
    /// Of the VM's template: "true" or "false"; in all forms that `holdfast.dev/addresses` has.
    static let annotation = "holdfast.dev/dhcp"
    /// Behind one of Kube-OVN's providers.
    private static let ipv4Suffix = ".kubernetes.io/dhcp-v4-options"
    private static let ipv6Suffix = ".kubernetes.io/dhcp-v6-options"

    /// A day: a guest renews in the middle of it, so an agent may be away for hours.
    static let defaultLeaseTime: UInt32 = 86_400
    private static let shortestLease: UInt32 = 60
    /// What every IPv4 host takes (RFC 791).
    private static let smallestMTU: UInt16 = 576
    /// As many as a pool may have: all are looked at for each answer, also what that has no room for.
    fileprivate static let (mostValues, mostRoutes) = (16, 64)

    private(set) var isOn: Bool
    private var leaseTime = defaultLeaseTime
    private var ntpServers: [IPAddress] = []
    private var mtu: UInt16?
    private var ipv6Router: IPAddress?
    private let hasDefaultRoute: Bool
    private let hostName: String
    private let guestMAC: MACAddress?
    private var ipv4 = OptionReader()
    private var ipv6 = OptionReader()

    /// Throws code 7 for the network's `"dhcp"`, 107 for an annotation.
    init(
        isDefault: Bool, network: NetworkConfiguration, annotations: [String: String], nic: PodInterface,
        hostName: String
    ) throws(CNIError) {
        isOn = isDefault
        (hasDefaultRoute, guestMAC) = (nic.hasDefaultRoute, nic.guestMAC)
        self.hostName = hostName
        try read(network.dhcp)
        // What speaks for this NIC alone goes before what speaks for all of its network.
        for (prefix, suffix) in nic.ownForms.reversed() {
            let annotation = "\(prefix)\(Self.annotation)\(suffix)"
            switch annotations[annotation] {
            case "true": isOn = true
            case "false": isOn = false
            case nil, "": break
            case let text?: throw .badOption(annotation, text, "\"true\" or \"false\"")
            }
        }
        for provider in nic.kubeOVNProviders.reversed() {
            try read(annotations, "\(provider)\(Self.ipv4Suffix)", into: &ipv4)
            try read(annotations, "\(provider)\(Self.ipv6Suffix)", into: &ipv6)
        }
    }

    private func read(
        _ annotations: [String: String], _ annotation: String, into options: inout OptionReader
    ) throws(CNIError) {
        guard let text = annotations[annotation] else { return }
        guard let read = OptionText(text)?.options else {
            throw .badOption(annotation, text, "KEY=VALUE,KEY={VALUE,VALUE}")
        }
        options = OptionReader(annotation: annotation, options: read)
    }

    private mutating func read(_ json: JSON?) throws(CNIError) {
        switch json {
        case nil, .null: return
        case .bool(let value): isOn = value
        case .object(let object):
            isOn = true
            for member in object.members { try read(member.key, member.value) }
        case let other?: throw .badKey("", other, "true, false or an object")
        }
    }

    private mutating func read(_ key: String, _ value: JSON) throws(CNIError) {
        switch key {
        case "leaseTime":
            guard let seconds = value.integer.flatMap({ UInt32(exactly: $0) }), seconds >= Self.shortestLease else {
                throw .badKey(key, value, "seconds, \(Self.shortestLease) or more")
            }
            leaseTime = seconds
        case "mtu":
            guard let bytes = value.integer.flatMap({ UInt16(exactly: $0) }), bytes >= Self.smallestMTU else {
                throw .badKey(key, value, "bytes, \(Self.smallestMTU) or more")
            }
            mtu = bytes
        case "ntpServers":
            let addresses = value.array?.map { $0.string.flatMap(IPAddress.init) }
            guard let addresses, !addresses.contains(nil), addresses.count <= Self.mostValues else {
                throw .badKey(key, value, "a list of addresses, \(Self.mostValues) at most")
            }
            ntpServers = addresses.compactMap(\.self)
        case "ipv6Router":
            guard let router = value.string.flatMap(IPAddress.init), router.family == .ipv6, router.isLinkLocal
            else { throw .badKey(key, value, "the router's link-local address, fe80::…") }
            ipv6Router = router
        default: throw .badKey(key, value, "one of leaseTime, mtu, ntpServers, ipv6Router")
        }
    }
}

extension GuestOptions {
    /// Options of the annotations that nothing is made of here.
    var unknown: [String] {
        (ipv4.options.keys.filter { !Self.ipv4Keys.contains($0) }
            + ipv6.options.keys.filter { !Self.ipv6Keys.contains($0) }).sorted()
    }

    private static let ipv4Keys: Set = [
        "lease_time", "router", "dns_server", "domain_name", "domain_search_list", "hostname", "mtu", "ntp_server",
        "server_id", "server_mac", "classless_static_route", "ms_classless_static_route",
    ]
    private static let ipv6Keys: Set = ["dns_server", "domain_search", "server_id"]

    /// What the binding's guest is told. Throws code 107 for an option whose value is malformed.
    func configuration(of described: DescribedBinding) throws(CNIError) -> GuestConfiguration {
        var guest = GuestConfiguration(mac: guestMAC ?? described.binding.mac)
        for assignment in described.binding.assignments {
            switch assignment.address.family {
            case .ipv4: guest.ipv4 = try lease(assignment, described)
            case .ipv6: guest.ipv6 = try ipv6Lease(assignment, described)
            }
        }
        return guest
    }

    private func lease(_ assignment: Assignment, _ described: DescribedBinding) throws(CNIError) -> DHCPv4Lease {
        var lease = DHCPv4Lease(
            address: assignment.address, prefixLength: assignment.prefixLength, leaseTime: leaseTime)
        lease.nameservers = described.dns?.nameservers.filter { $0.family == .ipv4 } ?? []
        lease.domain = described.dns?.domain ?? ""
        lease.search = described.dns?.search ?? []
        lease.ntpServers = ntpServers.filter { $0.family == .ipv4 }
        lease.mtu = mtu
        lease.hostName = hostName
        for route in described.routes(hasDefaultRoute: hasDefaultRoute) where route.destination.family == .ipv4 {
            if let router = route.gateway, route.destination.length == 0 {
                lease.router = router
            } else {
                lease.routes.append(DHCPRoute(destination: route.destination, router: route.gateway ?? .zeroIPv4))
            }
        }
        // One VM's may be shorter than a network's.
        if let time = try ipv4.number("lease_time", atLeast: 1 as UInt32) { lease.leaseTime = time }
        if let router = try ipv4.addresses("router", .ipv4)?.first { lease.router = router }
        if let addresses = try ipv4.addresses("dns_server", .ipv4) { lease.nameservers = addresses }
        if let name = ipv4.text("domain_name") { lease.domain = name }
        if let names = try ipv4.list("domain_search_list") { lease.search = names }
        if let name = ipv4.text("hostname") { lease.hostName = name }
        if let mtu = try ipv4.number("mtu", atLeast: Self.smallestMTU) { lease.mtu = mtu }
        if let addresses = try ipv4.addresses("ntp_server", .ipv4) { lease.ntpServers = addresses }
        if let address = try ipv4.addresses("server_id", .ipv4)?.first { lease.server = address }
        if let mac = try ipv4.mac("server_mac") { lease.serverMAC = mac }
        for key in ["ms_classless_static_route", "classless_static_route"] {
            if let routes = try ipv4.routes(key) { lease.routes = routes }
        }
        return lease
    }

    private func ipv6Lease(_ assignment: Assignment, _ described: DescribedBinding) throws(CNIError) -> DHCPv6Lease {
        var lease = DHCPv6Lease(
            address: assignment.address, prefixLength: assignment.prefixLength, leaseTime: leaseTime)
        let own = described.routes.first { $0.destination.family == .ipv6 && $0.destination.length == 0 }
        if hasDefaultRoute || own != nil {
            // A router's address in its advertisement is link-local (RFC 4861, section 4.2).
            lease.router = ipv6Router ?? own?.gateway.flatMap { $0.isLinkLocal ? $0 : nil }
        }
        lease.nameservers = described.dns?.nameservers.filter { $0.family == .ipv6 } ?? []
        lease.search = described.dns?.search ?? []
        lease.ntpServers = ntpServers.filter { $0.family == .ipv6 }
        lease.mtu = mtu
        if let addresses = try ipv6.addresses("dns_server", .ipv6) { lease.nameservers = addresses }
        if let names = try ipv6.list("domain_search") { lease.search = names }
        if let mac = try ipv6.mac("server_id") { lease.serverMAC = mac }
        return lease
    }
}

/// One annotation's options, read as what they must be; nil where one is not there.
private struct OptionReader: Hashable, Sendable {
    var annotation = ""
    var options: [String: [String]] = [:]

    private func refusal(_ key: String, _ expected: String) -> CNIError {
        // Of a list without end no more than tells which it is.
        let values = options[key, default: []].prefix(2 * GuestOptions.mostRoutes)
        return .badOption(annotation, "\(key)=\(values.joined(separator: ",").prefix(1024))", expected)
    }

    func text(_ key: String) -> String? { options[key]?.first }

    func list(_ key: String) throws(CNIError) -> [String]? {
        guard let texts = options[key] else { return nil }
        let names = texts.flatMap { $0.split(separator: ",").map { String($0.drop { $0 == " " }) } }
        guard names.count <= GuestOptions.mostValues else {
            throw refusal(key, "\(GuestOptions.mostValues) names at most")
        }
        return names
    }

    func number<Number: FixedWidthInteger>(_ key: String, atLeast least: Number) throws(CNIError) -> Number? {
        guard let text = text(key) else { return nil }
        guard let number = Number(text), number >= least else {
            throw refusal(key, "a number from \(least) to \(Number.max)")
        }
        return number
    }

    func addresses(_ key: String, _ family: AddressFamily) throws(CNIError) -> [IPAddress]? {
        guard let texts = options[key] else { return nil }
        let addresses = texts.prefix(GuestOptions.mostValues).compactMap(IPAddress.init).filter { $0.family == family }
        guard addresses.count == texts.count, !addresses.isEmpty else {
            throw refusal(key, "\(family == .ipv4 ? "IPv4" : "IPv6") addresses, \(GuestOptions.mostValues) at most")
        }
        return addresses
    }

    func mac(_ key: String) throws(CNIError) -> MACAddress? {
        guard let text = text(key) else { return nil }
        guard let mac = MACAddress(text), !mac.isMulticast, !mac.isZero else { throw refusal(key, "a unicast MAC") }
        return mac
    }

    /// Networks and routers in turn.
    func routes(_ key: String) throws(CNIError) -> [DHCPRoute]? {
        guard let texts = options[key] else { return nil }
        guard texts.count <= 2 * GuestOptions.mostRoutes else {
            throw refusal(key, "\(GuestOptions.mostRoutes) routes at most")
        }
        var routes: [DHCPRoute] = []
        for index in stride(from: 0, to: texts.count, by: 2) {
            guard index + 1 < texts.count, let destination = IPPrefix(texts[index]), destination.family == .ipv4,
                let router = IPAddress(texts[index + 1]), router.family == .ipv4
            else { throw refusal(key, "networks and routers in turn: {10.0.0.0/8,10.16.0.1}") }
            routes.append(DHCPRoute(destination: destination, router: router))
        }
        return routes
    }
}

extension CNIError {
    fileprivate static func badOption(_ annotation: String, _ value: String, _ expected: String) -> CNIError {
        CNIError(
            .badAnnotation, "annotation \(annotation) has the value \"\(value)\"",
            details: "expected \(expected); correct it in the VM's template and restart the VM")
    }

    fileprivate static func badKey(_ key: String, _ value: JSON, _ expected: String) -> CNIError {
        CNIError(
            .invalidConfiguration, "\"dhcp\(key.isEmpty ? "" : ".\(key)")\" of the network is \(value)",
            details: "expected \(expected)")
    }
}
