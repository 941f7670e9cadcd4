import Addresses
import FoundationEssentials

// The values that users write. Each reader gives nil for an empty value, which asks for nothing.
extension Wish {
    /// Of a list: each may cost a question to the server.
    private static let mostChoices = 64

    /// "10.16.0.15", "10.16.0.15,fd00::15" or "10.16.0.15/24".
    package static func addresses(_ text: String, _ source: Source) throws(WishError) -> Wish? {
        guard !text.isEmpty else { return nil }
        return try addresses(parts(text, ","), in: text, source)
    }

    /// The elements of a list that stands in `text`.
    package static func addresses(
        _ list: [String], in text: String, _ source: Source
    ) throws(WishError) -> Wish? {
        guard !list.isEmpty else { return nil }
        let expected = "one IPv4 or IPv6 address, or one of each"
        guard let addresses = list.allOrNil(Self.address) else {
            throw .unreadable(source, value: text, expected: expected)
        }
        guard let set = Self.choice(addresses) else {
            throw .unreadable(source, value: text, expected: "at most one address of each family")
        }
        return Wish(source: source, text: text, content: .addresses(set))
    }

    /// ["10.16.0.15", "fd00::15"] as JSON.
    static func jsonAddresses(_ text: String, _ source: Source) throws(WishError) -> Wish? {
        guard !text.isEmpty else { return nil }
        guard let list = json([String].self, text) else {
            throw .unreadable(source, value: text, expected: #"JSON like ["10.16.0.15"]"#)
        }
        return try addresses(list, in: text, source)
    }

    /// The addresses of one of the networks in JSON like {"default": ["10.16.0.15"]}.
    static func jsonAddresses(of network: String?, _ text: String, _ source: Source) throws(WishError) -> Wish? {
        guard !text.isEmpty else { return nil }
        guard let networks = json([String: [String]].self, text) else {
            throw .unreadable(source, value: text, expected: #"JSON like {"default": ["10.16.0.15"]}"#)
        }
        guard let network, let list = networks[network] else { return nil }
        return try addresses(list, in: text, source)
    }

    /// Kube-OVN's `ip_pool`: addresses "a,b", pairs "a,A;b,B", one pair "a,A", or the name of an IPPool
    /// (pkg/controller/pod.go, `acquireStaticAddressHelper`).
    static func ipPool(_ text: String, _ source: Source) throws(WishError) -> Wish? {
        guard !text.isEmpty else { return nil }
        if !text.contains(where: { $0 == "," || $0 == ";" || $0 == ":" }), address(text) == nil,
            let name = poolName(text)
        {
            return Wish(source: source, text: text, content: .part(name))
        }
        var elements = parts(text, ";")
        if elements.count == 1 {
            let parts = parts(text, ",")
            let families = parts.compactMap { address($0)?.family }
            if parts.count != 2 || families.count != 2 || families[0] == families[1] { elements = parts }
        }
        let choices = elements.allOrNil { element in
            parts(element, ",").allOrNil(Self.address).flatMap(Self.choice)
        }
        guard let choices else {
            throw .unreadable(
                source, value: text,
                expected: "addresses like 10.16.0.15,10.16.0.16, pairs like "
                    + "10.16.0.15,fd00::15;10.16.0.16,fd00::16, or one pool's name")
        }
        guard choices.count <= mostChoices else {
            throw .unreadable(
                source, value: text.prefix(100) + "…",
                expected: "a list of at most \(mostChoices) addresses or pairs; this one has \(choices.count)")
        }
        return Wish(source: source, text: text, content: .choices(choices.withoutRepetitions))
    }

    package static func mac(_ text: String, _ source: Source) throws(WishError) -> Wish? {
        guard !text.isEmpty else { return nil }
        guard let mac = MACAddress(trimmed(text)), !mac.isMulticast, !mac.isZero else {
            throw .unreadable(source, value: text, expected: "a unicast MAC like 02:00:0a:10:00:0f")
        }
        return Wish(source: source, text: text, content: .mac(mac))
    }

    static func pool(_ text: String, _ source: Source) throws(WishError) -> Wish? {
        try named(text, source, Content.pool)
    }

    static func subnet(_ text: String, _ source: Source) throws(WishError) -> Wish? {
        try named(text, source, Content.subnet)
    }

    private static func named(
        _ text: String, _ source: Source, _ content: (String) -> Content
    ) throws(WishError) -> Wish? {
        guard !text.isEmpty else { return nil }
        guard let name = poolName(text) else {
            throw .unreadable(
                source, value: text, expected: "a pool's name: at most 63 letters, digits, '-', '_' and '.'")
        }
        return Wish(source: source, text: text, content: content(name))
    }

    /// An address that an interface can have, with or without the length of its network: that is the pool's to say.
    private static func address(_ text: String) -> IPAddress? {
        let text = trimmed(text)
        guard let address = IPAddress(text) ?? IPPrefix.split(text)?.address,
            !address.isMulticast, !address.isUnspecified, !address.isLoopback
        else { return nil }
        return address
    }

    /// Nil with two of one family.
    private static func choice(_ addresses: [IPAddress]) -> [IPAddress]? {
        Set(addresses.map(\.family)).count == addresses.count ? addresses.sorted() : nil
    }

    private static func poolName(_ text: String) -> String? {
        let name = trimmed(text)
        let isWhole = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
                true
            default: false
            }
        }
        guard isWhole, name.utf8.count <= 63, let first = name.first, let last = name.last,
            first.isLetter || first.isNumber, last.isLetter || last.isNumber
        else { return nil }
        return name
    }

    private static func parts(_ text: String, _ separator: Character) -> [String] {
        text.split(separator: separator, omittingEmptySubsequences: false).map(String.init)
    }

    private static func trimmed(_ text: String) -> String {
        var text = text.drop { $0 == " " }
        while text.last == " " { text.removeLast() }
        return String(text)
    }

    private static func json<Value: Decodable>(_ type: Value.Type, _ text: String) -> Value? {
        try? JSONDecoder().decode(type, from: Data(text.utf8))
    }
}

extension Sequence {
    /// What `transform` makes of all; nil where it makes nil of one.
    fileprivate func allOrNil<Value>(_ transform: (Element) -> Value?) -> [Value]? {
        var values: [Value] = []
        for element in self {
            guard let value = transform(element) else { return nil }
            values.append(value)
        }
        return values
    }
}

extension [[IPAddress]] {
    fileprivate var withoutRepetitions: Self {
        var seen: Set<[IPAddress]> = []
        return filter { seen.insert($0).inserted }
    }
}
