import Addresses

/// An option of DHCPv4: a code and what it says (RFC 2132).
package struct DHCPv4Option: Hashable, Sendable {
    package var code: Code
    package var value: [UInt8]

    package init(_ code: Code, _ value: [UInt8]) {
        self.code = code
        self.value = value
    }

    package struct Code: RawRepresentable, Hashable, Sendable {
        package var rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        static let pad = Code(rawValue: 0)
        package static let subnetMask = Code(rawValue: 1)
        package static let router = Code(rawValue: 3)
        package static let nameservers = Code(rawValue: 6)
        package static let hostName = Code(rawValue: 12)
        package static let domainName = Code(rawValue: 15)
        package static let interfaceMTU = Code(rawValue: 26)
        package static let broadcastAddress = Code(rawValue: 28)
        package static let ntpServers = Code(rawValue: 42)
        package static let requestedAddress = Code(rawValue: 50)
        package static let leaseTime = Code(rawValue: 51)
        package static let overload = Code(rawValue: 52)
        package static let messageType = Code(rawValue: 53)
        package static let serverIdentifier = Code(rawValue: 54)
        package static let parameterRequestList = Code(rawValue: 55)
        package static let message = Code(rawValue: 56)
        package static let maximumMessageSize = Code(rawValue: 57)
        package static let renewalTime = Code(rawValue: 58)
        package static let rebindingTime = Code(rawValue: 59)
        package static let clientIdentifier = Code(rawValue: 61)
        /// RFC 3397.
        package static let domainSearch = Code(rawValue: 119)
        /// RFC 3442.
        package static let classlessRoutes = Code(rawValue: 121)
        /// The same as 121, under the number that Windows asked for before there was that one.
        package static let classlessRoutesMicrosoft = Code(rawValue: 249)
        static let end = Code(rawValue: 255)
    }

    /// More than 255 bytes are cut into several options of the same code (RFC 3396, section 5).
    var bytes: [UInt8] {
        guard !value.isEmpty else { return [code.rawValue, 0] }
        return stride(from: 0, to: value.count, by: 255).flatMap { start in
            let piece = value[start..<min(start + 255, value.count)]
            return [code.rawValue, UInt8(piece.count)] + piece
        }
    }
}

extension DHCPv4Option {
    static func number(_ code: Code, _ value: some FixedWidthInteger & UnsignedInteger) -> Self {
        var bytes: [UInt8] = []
        bytes.append(bigEndian: value)
        return Self(code, bytes)
    }

    /// Addresses of the other family are left out.
    static func addresses(_ code: Code, _ addresses: [IPAddress]) -> Self {
        Self(code, addresses.filter { $0.family == .ipv4 }.flatMap(\.bytes))
    }

    static func text(_ code: Code, _ text: String) -> Self { Self(code, Array(text.utf8.prefix(255))) }

    /// RFC 3442: the length, as many bytes of the destination as it covers, the router.
    static func routes(_ code: Code, _ routes: [DHCPRoute]) -> Self {
        Self(
            code,
            routes.flatMap { route in
                [UInt8(route.destination.length)]
                    + route.destination.address.bytes.prefix((route.destination.length + 7) / 8) + route.router.bytes
            })
    }
}

/// Options as they are read: pieces of one code put together, in the order in which the codes came first.
struct DHCPv4OptionList {
    private(set) var options: [DHCPv4Option] = []

    subscript(code: DHCPv4Option.Code) -> [UInt8]? {
        get { options.first { $0.code == code }?.value }
        set {
            options.removeAll { $0.code == code }
            if let newValue { options.append(DHCPv4Option(code, newValue)) }
        }
    }

    /// Reads up to the end option or the end; false where an option is cut.
    mutating func take(_ bytes: [UInt8]) -> Bool {
        var reader = ByteReader(bytes)
        while let code = reader.integer().map(DHCPv4Option.Code.init), code != .end {
            if code == .pad { continue }
            guard let length: UInt8 = reader.integer(), let value = reader.bytes(Int(length)) else { return false }
            if let index = options.firstIndex(where: { $0.code == code }) {
                options[index].value += value
            } else {
                options.append(DHCPv4Option(code, value))
            }
        }
        return true
    }
}
