import Addresses
import CNI
import IPAMModel

/// Reads the IPAM keys of whereabouts and host-local. Throws code 7, naming the key.
struct ConfigurationReader {
    let network: String

    func invalid(_ key: String, _ why: String) -> CNIError {
        CNIError(
            .invalidConfiguration, "network \"\(network)\": \"\(key)\" \(why)",
            details: "correct the network's configuration, or name a pool with \"pool\" instead")
    }

    // MARK: whereabouts

    /// `range` with `range_start`, `range_end` and `exclude`, then `ipRanges` with the same keys each: every one gives an
    /// address. `gateway` is one for all.
    func whereabouts(_ ipam: JSONObject, at path: String) throws(CNIError) -> [InlineRange] {
        var ranges: [InlineRange] = []
        if let text = try string(ipam, "range", path) {
            ranges.append(try whereabouts(text, in: ipam, set: 0, at: path))
        }
        for (index, element) in try array(ipam["ipRanges"], "\(path)ipRanges").enumerated() {
            let path = "\(path)ipRanges[\(index)]."
            guard let object = element.object, let text = try string(object, "range", path) else {
                throw invalid("\(path)range", "is needed, like 10.0.0.0/24")
            }
            ranges.append(try whereabouts(text, in: object, set: index + 1, at: path))
        }
        if let text = try string(ipam, "gateway", path), ipam["subnet"] == nil {
            let gateway = try address(text, "\(path)gateway")
            for index in ranges.indices where ranges[index].prefix.reaches(gateway) {
                // One outside of every range reaches nothing; whereabouts' own examples have such.
                ranges[index].gateway = gateway
            }
        }
        return ranges
    }

    private func whereabouts(
        _ text: String, in object: JSONObject, set: Int, at path: String
    ) throws(CNIError) -> InlineRange {
        let sides = text.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard let (end, length) = IPPrefix.split(sides[sides.count - 1]),
            let prefix = IPPrefix(containing: end, length: length)
        else {
            throw invalid("\(path)range", "is no range like 10.0.0.0/24 or 10.0.0.10-10.0.0.20/24: \"\(text)\"")
        }
        var (first, last) = (try string(object, "range_start", path), try string(object, "range_end", path))
        if sides.count == 2 { (first, last) = (sides[0], "\(end)") }
        let lower = try first.map { (text) throws(CNIError) in try address(text, "\(path)range_start") }
        let upper = try last.map { (text) throws(CNIError) in try address(text, "\(path)range_end") }
        if sides.count == 2, let lower, !prefix.contains(lower) {
            throw invalid("\(path)range", "begins outside of \(prefix): \"\(text)\"")
        }
        var excluded: [AddressRange] = []
        for (index, element) in try array(object["exclude"], "\(path)exclude").enumerated() {
            guard let text = element.string, let range = AddressRange.network(around: text) else {
                throw invalid("\(path)exclude[\(index)]", "is no address or network: \(element)")
            }
            // What lies outside excludes nothing.
            if let part = range.part(in: prefix) { excluded.append(part) }
        }
        return InlineRange(
            path: "\(path)range", set: set, prefix: prefix, window: prefix.window(from: lower, through: upper),
            excluded: excluded)
    }

    // MARK: host-local

    /// `subnet` beside `type`, the old form, then `ranges`: sets, each of which gives an address.
    func hostLocal(_ ipam: JSONObject, at path: String) throws(CNIError) -> [InlineRange] {
        var ranges: [InlineRange] = []
        if ipam["subnet"] != nil { ranges.append(try hostLocal(ipam, set: -1, at: path)) }
        for (index, set) in try array(ipam["ranges"], "\(path)ranges").enumerated() {
            for (position, element) in try array(set, "\(path)ranges[\(index)]").enumerated() {
                let path = "\(path)ranges[\(index)][\(position)]."
                guard let object = element.object else { throw invalid(path, "is no object: \(element)") }
                ranges.append(try hostLocal(object, set: -2 - index, at: path))
            }
        }
        return ranges
    }

    private func hostLocal(_ object: JSONObject, set: Int, at path: String) throws(CNIError) -> InlineRange {
        guard let text = try string(object, "subnet", path), let prefix = IPPrefix(text) else {
            throw invalid("\(path)subnet", "is no network like 10.0.0.0/24: \(object["subnet"] ?? .null)")
        }
        func inside(_ key: String) throws(CNIError) -> IPAddress? {
            guard let text = try string(object, key, path) else { return nil }
            let address = try address(text, "\(path)\(key)")
            guard prefix.contains(address) else { throw invalid("\(path)\(key)", "\(address) is outside of \(prefix)") }
            return address
        }
        let (lower, upper) = (try inside("rangeStart"), try inside("rangeEnd"))
        if let lower, let upper, lower > upper {
            throw invalid("\(path)rangeEnd", "\(upper) is before rangeStart \(lower)")
        }
        let gateway = try string(object, "gateway", path).map { (text) throws(CNIError) in
            try address(text, "\(path)gateway")
        }
        return InlineRange(
            path: "\(path)subnet", set: set, prefix: prefix, window: prefix.window(from: lower, through: upper),
            gateway: gateway.flatMap { prefix.reaches($0) ? $0 : nil },
            usualGateway: prefix.hostMask > 1 ? prefix.address.advanced(by: 1) : nil)
    }

    // MARK: both

    func routes(_ json: JSON?, at path: String) throws(CNIError) -> [Route] {
        var routes: [Route] = []
        for (index, element) in try array(json, path).enumerated() {
            let path = "\(path)[\(index)]."
            guard let object = element.object, let text = try string(object, "dst", path),
                let (address, length) = IPPrefix.split(text),
                let destination = IPPrefix(containing: address, length: length)
            else { throw invalid("\(path)dst", "is needed, like 0.0.0.0/0") }
            if let other = object.members.first(where: { $0.key != "dst" && $0.key != "gw" && $0.value != .null }) {
                throw invalid("\(path)\(other.key)", "is more than a pool's route can say: \"dst\" and \"gw\"")
            }
            let gateway = try string(object, "gw", path).map { (text) throws(CNIError) in
                try self.address(text, "\(path)gw")
            }
            if let gateway, gateway.family != destination.family {
                throw invalid("\(path)gw", "\(gateway) is of another family than \(destination)")
            }
            routes.append(Route(destination: destination, gateway: gateway))
        }
        return routes
    }

    func dns(_ json: JSON?, at path: String) throws(CNIError) -> DNS? {
        guard let json, json != .null else { return nil }
        guard let object = json.object else { throw invalid(path, "is no object: \(json)") }
        func strings(_ key: String) throws(CNIError) -> [String] {
            var strings: [String] = []
            for element in try array(object[key], "\(path).\(key)") {
                guard let text = element.string else { throw invalid("\(path).\(key)", "is no list of strings") }
                strings.append(text)
            }
            return strings
        }
        var nameservers: [IPAddress] = []
        for text in try strings("nameservers") { nameservers.append(try address(text, "\(path).nameservers")) }
        let dns = DNS(
            nameservers: nameservers, domain: try string(object, "domain", "\(path).") ?? "",
            search: try strings("search"), options: try strings("options"))
        return dns == DNS() ? nil : dns
    }

    /// Nil where it is absent or empty.
    private func string(_ object: JSONObject, _ key: String, _ path: String) throws(CNIError) -> String? {
        guard let value = object[key], value != .null else { return nil }
        guard let string = value.string else { throw invalid("\(path)\(key)", "is not a string: \(value)") }
        return string.isEmpty ? nil : string
    }

    private func array(_ json: JSON?, _ key: String) throws(CNIError) -> [JSON] {
        guard let json, json != .null else { return [] }
        guard let array = json.array else { throw invalid(key, "is no list: \(json)") }
        return array
    }

    private func address(_ text: String, _ key: String) throws(CNIError) -> IPAddress {
        guard let address = IPAddress(text) else { throw invalid(key, "is no address: \"\(text)\"") }
        return address
    }
}

extension IPPrefix {
    /// Whether a host with an address of this prefix has `router` on its link.
    fileprivate func reaches(_ router: IPAddress) -> Bool {
        contains(router) || family == .ipv6 && router.family == .ipv6 && router.isLinkLocal
    }

    /// The addresses from one through another. Like whereabouts, passes over a bound that no interface can have, and an
    /// end before the start (`GetIPRange`).
    fileprivate func window(from lower: IPAddress?, through upper: IPAddress?) -> AddressRange {
        func isUsable(_ address: IPAddress) -> Bool {
            contains(address) && (hostMask <= 1 || address > self.address && address < last)
        }
        let start = lower.flatMap { isUsable($0) ? $0 : nil } ?? address
        let end = upper.flatMap { isUsable($0) && $0 >= start ? $0 : nil } ?? last
        return AddressRange(from: start, through: end)
    }
}

extension AddressRange {
    /// An address, or the network that "10.0.0.5/30" is in, as whereabouts reads it.
    fileprivate static func network(around text: String) -> AddressRange? {
        if let address = IPAddress(text) { return AddressRange(from: address, through: address) }
        return IPPrefix.split(text).flatMap { IPPrefix(containing: $0.address, length: $0.length)?.range }
    }
}
