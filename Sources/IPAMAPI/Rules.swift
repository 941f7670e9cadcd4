package import Addresses
package import IPAMModel

/// What a field of a request may hold. Each rule throws INVALID_ARGUMENT with the field's path in the API's names,
/// "owner.namespace" or "pool.prefixes[0].gateway", and says what would be right. What a server answers is only parsed: its
/// ledger may be older than a rule.
package enum Rules {
    package typealias Path = () -> String

    package static func invalid(_ path: String, _ why: String) -> IPAMError {
        IPAMError(.invalidArgument, .invalidField, "\(path): \(why)", metadata: ["field": path])
    }

    // Names are checked no stricter than any object needs that may own or serve addresses, by Kubernetes' rules (DNS
    // labels and subdomains, RFC 1123) or another system's: so upper case and '_' are allowed as well.

    /// A namespace: a name of at most 63 characters without dots.
    package static func namespace(_ text: String, _ path: @autoclosure Path) throws(IPAMError) -> String {
        if text.utf8.contains(UInt8(ascii: ".")) {
            throw invalid(path(), "'\(text)' may hold letters, digits, '-' and '_' only")
        }
        return try name(text, limit: 63, path())
    }

    /// An object's name: at most 253 characters.
    package static func objectName(_ text: String, _ path: @autoclosure Path) throws(IPAMError) -> String {
        try name(text, limit: 253, path())
    }

    /// A pool's name: at most 63 characters.
    package static func poolName(_ text: String, _ path: @autoclosure Path) throws(IPAMError) -> String {
        try name(text, limit: 63, path())
    }

    private static func name(_ text: String, limit: Int, _ path: @autoclosure Path) throws(IPAMError) -> String {
        guard !text.isEmpty else { throw invalid(path(), "is needed") }
        guard text.utf8.count <= limit else {
            throw invalid(path(), "is \(text.utf8.count) characters long; at most \(limit) are allowed")
        }
        let bytes = text.utf8Span.span
        for index in bytes.indices where !isNameByte(bytes[index]) {
            throw invalid(path(), "'\(text)' may hold letters, digits, '-', '_' and '.' only")
        }
        guard isAlphanumeric(bytes[0]), isAlphanumeric(bytes[bytes.count - 1]) else {
            throw invalid(path(), "'\(text)' must begin and end with a letter or digit")
        }
        return text
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: false
        }
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        isAlphanumeric(byte) || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_") || byte == UInt8(ascii: ".")
    }

    /// An identifier that another system made (a UID, a container ID, a network's name): printable ASCII without
    /// spaces, or empty.
    package static func identifier(
        _ text: String, limit: Int = 253, _ path: @autoclosure Path
    ) throws(IPAMError) -> String {
        guard text.utf8.count <= limit else {
            throw invalid(path(), "is \(text.utf8.count) characters long; at most \(limit) are allowed")
        }
        let bytes = text.utf8Span.span
        for index in bytes.indices where bytes[index] <= 0x20 || bytes[index] >= 0x7f {
            throw invalid(path(), "may hold printable ASCII without spaces only")
        }
        return text
    }

    /// An address that an interface can have.
    package static func address(_ text: String, _ path: @autoclosure Path) throws(IPAMError) -> IPAddress {
        let address = try anyAddress(text, path())
        try check(address, path())
        return address
    }

    /// As a server sends it, which knows better what there is.
    static func anyAddress(_ text: String, _ path: @autoclosure Path) throws(IPAMError) -> IPAddress {
        guard let address = IPAddress(text) else {
            throw invalid(path(), "'\(text)' is no IPv4 or IPv6 address, like 10.16.0.15 or fd00::15")
        }
        return address
    }

    private static func check(_ address: IPAddress, _ path: @autoclosure Path) throws(IPAMError) {
        let isNever = { (network: IPPrefix) in network.contains(address) }
        guard !networksOfNoInterface.contains(where: isNever), !limitedBroadcast.contains(where: isNever) else {
            throw invalid(path(), "\(address) is no address that an interface on a network can have")
        }
    }

    /// A MAC address that an interface can have.
    package static func mac(_ text: String, _ path: @autoclosure Path) throws(IPAMError) -> MACAddress {
        let mac = try anyMAC(text, path())
        guard !mac.isMulticast, !mac.isZero else {
            throw invalid(
                path(), "\(mac) is a multicast or zero MAC; an interface needs a unicast one (even first byte)")
        }
        return mac
    }

    /// As a server sends it.
    static func anyMAC(_ text: String, _ path: @autoclosure Path) throws(IPAMError) -> MACAddress {
        guard let mac = MACAddress(text) else {
            throw invalid(path(), "'\(text)' is no MAC address, like 02:00:0a:10:00:0f")
        }
        return mac
    }

    package static func prefix(_ text: String, _ path: @autoclosure Path) throws(IPAMError) -> IPPrefix {
        if let prefix = IPPrefix(text) { return prefix }
        guard let (address, length) = IPPrefix.split(text), let prefix = IPPrefix(containing: address, length: length)
        else { throw invalid(path(), "'\(text)' is no network, like 10.16.0.0/16 or fd00:10:16::/64") }
        throw invalid(path(), "'\(text)' has host bits set; the network is \(prefix)")
    }
}

extension Rules {
    /// A pool's reuse delay is no longer than this.
    package static let longestDelay = Delay.seconds(365 * 86_400)

    package static func range(_ text: String, _ path: @autoclosure Path) throws(IPAMError) -> AddressRange {
        guard let range = AddressRange(text) else {
            if IPPrefix.split(text) != nil { _ = try prefix(text, path()) }
            throw invalid(
                path(),
                "'\(text)' is no address, network or range, like 10.16.0.1, 10.16.0.0/28 or 10.16.0.1..10.16.0.9")
        }
        return range
    }

    /// "60s", "500ms", "5m", "24h", "7d" or "0s".
    package static func delay(_ text: String, _ path: @autoclosure Path) throws(IPAMError) -> Delay {
        let units: [(suffix: String, nanoseconds: Int64)] = [
            ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000),
            ("d", 86_400_000_000_000),
        ]
        for unit in units where text.hasSuffix(unit.suffix) {
            guard let count = Int64(text.dropLast(unit.suffix.count)), count >= 0,
                count <= longestDelay.nanoseconds / unit.nanoseconds
            else { break }
            return Delay(nanoseconds: count * unit.nanoseconds)
        }
        throw invalid(path(), "'\(text)' is no duration from 0s to 365d, like 500ms, 60s, 5m, 24h or 7d")
    }

    static func noDuration(_ path: String) -> IPAMError { invalid(path, "is no duration from 0 s to 365 days") }

    /// Unspecified, loopback, multicast, and IPv4's addresses as IPv6's (RFC 6890; RFC 5771; RFC 4291 sections 2.4 and
    /// 2.5.5.2).
    private static let networksOfNoInterface = [
        "0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "::/128", "::1/128", "::ffff:0:0/96", "ff00::/8",
    ].compactMap(IPPrefix.init)

    /// The last address of every network that has it (RFC 919): most pools give that to nobody anyway.
    private static let limitedBroadcast = ["255.255.255.255/32"].compactMap(IPPrefix.init)

    private static func check(count: Int, limit: Int, _ path: String) throws(IPAMError) {
        if count > limit { throw invalid(path, "are \(count); at most \(limit) are allowed") }
    }

    static func check(_ owner: Owner, _ path: StaticString) throws(IPAMError) {
        _ = try namespace(owner.namespace, "\(path).namespace")
        _ = try objectName(owner.name, "\(path).name")
        _ = try identifier(owner.uid, limit: 128, "\(path).uid")
        _ = try identifier(owner.network, "\(path).network")
    }

    /// An attachment of which any part may be unknown.
    static func check(_ attachment: Attachment, _ path: StaticString) throws(IPAMError) {
        if !attachment.node.isEmpty { _ = try objectName(attachment.node, "\(path).node") }
        _ = try identifier(attachment.pod, "\(path).pod")
        _ = try identifier(attachment.podUID, limit: 128, "\(path).pod_uid")
        _ = try identifier(attachment.containerID, "\(path).container_id")
    }

    private static func check(_ dns: DNS, _ path: String) throws(IPAMError) {
        try check(count: dns.nameservers.count, limit: 16, "\(path).nameservers")
        try check(count: dns.search.count, limit: 16, "\(path).search")
        try check(count: dns.options.count, limit: 16, "\(path).options")
        _ = try identifier(dns.domain, "\(path).domain")
        for (index, address) in dns.nameservers.enumerated() { try check(address, "\(path).nameservers[\(index)]") }
        for (index, text) in dns.search.enumerated() { _ = try identifier(text, "\(path).search[\(index)]") }
        for (index, text) in dns.options.enumerated() { _ = try identifier(text, "\(path).options[\(index)]") }
    }

    /// A pool whose parts fit each other; the ledger sees to what it must not share with other pools.
    package static func check(_ pool: Pool, _ path: String) throws(IPAMError) {
        _ = try poolName(pool.name, "\(path).name")
        guard !pool.prefixes.isEmpty else { throw invalid("\(path).prefixes", "at least one is needed") }
        try check(count: pool.prefixes.count, limit: 64, "\(path).prefixes")
        try check(count: pool.namespaces.count, limit: 256, "\(path).namespaces")
        try check(count: pool.routes.count, limit: 64, "\(path).routes")
        for (index, text) in pool.namespaces.enumerated() { _ = try namespace(text, "\(path).namespaces[\(index)]") }
        if let dns = pool.dns { try check(dns, "\(path).dns") }
        for (delay, field) in [(pool.reuseDelay, "reuse_delay"), (pool.historyRetention, "history_retention")]
        where delay > longestDelay {
            throw noDuration("\(path).\(field)")
        }
        var exclusions = 0
        for (index, entry) in pool.prefixes.enumerated() {
            let path = "\(path).prefixes[\(index)]"
            let (prefix, family) = (entry.prefix, entry.prefix.family)
            let givesLast = entry.usesEdgeAddresses || prefix.length + 1 >= family.bitWidth
            let never = networksOfNoInterface + (givesLast ? limitedBroadcast : [])
            if let never = never.first(where: prefix.overlaps) {
                throw invalid(
                    "\(path).prefix",
                    "\(prefix) has addresses in common with \(never), which no interface on a network can have")
            }
            try check(count: entry.excluded.count, limit: 1024, "\(path).excluded")
            exclusions += entry.excluded.count
            if let gateway = entry.gateway {
                try check(gateway, "\(path).gateway")
                guard prefix.contains(gateway) else {
                    throw invalid("\(path).gateway", "\(gateway) is outside \(prefix)")
                }
            }
            for (position, range) in entry.excluded.enumerated()
            where range.family != family || !prefix.contains(range.lower) || !prefix.contains(range.upper) {
                throw invalid("\(path).excluded[\(position)]", "\(range) is outside \(prefix)")
            }
        }
        // Of all together: etcd takes no value over 1.5 MB.
        try check(count: exclusions, limit: 16_384, "\(path).prefixes[].excluded")
        for (index, route) in pool.routes.enumerated() {
            guard let gateway = route.gateway else { continue }
            let path = "\(path).routes[\(index)].gateway"
            try check(gateway, path)
            guard gateway.family == route.destination.family else {
                throw invalid(path, "\(gateway) is of another family than \(route.destination)")
            }
        }
    }
}
