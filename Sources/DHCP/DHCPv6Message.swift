package import Addresses

/// A DHCPv6 message between client and server (RFC 8415, section 8).
package struct DHCPv6Message: Hashable, Sendable {
    package static let serverPort: UInt16 = 547
    package static let clientPort: UInt16 = 546

    package enum Kind: UInt8, Hashable, Sendable, CaseIterable {
        case solicit = 1
        case advertise, request, confirm, renew, rebind, reply, release, decline, reconfigure
        case informationRequest
    }

    package var kind: Kind
    /// 24 bits.
    package var transactionID: UInt32
    package var options: [DHCPv6Option]

    package init(kind: Kind, transactionID: UInt32, options: [DHCPv6Option] = []) {
        self.kind = kind
        self.transactionID = transactionID & 0xff_ffff
        self.options = options
    }

    /// Nil for what is none (a relay's messages are not, either), or is cut.
    package init?(parsing bytes: [UInt8]) {
        var reader = ByteReader(bytes)
        guard let head: UInt32 = reader.integer(), let kind = Kind(rawValue: UInt8(head >> 24)),
            let options = DHCPv6Option.parse(reader.remainder)
        else { return nil }
        self.init(kind: kind, transactionID: head, options: options)
    }

    package var bytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(bigEndian: UInt32(kind.rawValue) << 24 | transactionID & 0xff_ffff)
        return bytes + options.flatMap(\.bytes)
    }

    /// The first such option's value; nil where the message has none.
    package subscript(code: DHCPv6Option.Code) -> [UInt8]? { options.first { $0.code == code }?.value }

    /// The codes of the options that the client asks for (option 6).
    package var requestedOptions: [DHCPv6Option.Code] {
        guard let value = self[.optionRequest] else { return [] }
        var reader = ByteReader(value)
        var codes: [DHCPv6Option.Code] = []
        while let code: UInt16 = reader.integer() { codes.append(DHCPv6Option.Code(rawValue: code)) }
        return codes
    }
}

/// An option of DHCPv6: a code and what it says (RFC 8415, section 21.1).
package struct DHCPv6Option: Hashable, Sendable {
    package var code: Code
    /// 65535 bytes at most.
    package var value: [UInt8]

    package init(_ code: Code, _ value: [UInt8]) {
        self.code = code
        self.value = value
    }

    package struct Code: RawRepresentable, Hashable, Sendable {
        package var rawValue: UInt16
        package init(rawValue: UInt16) { self.rawValue = rawValue }

        package static let clientID = Code(rawValue: 1)
        package static let serverID = Code(rawValue: 2)
        package static let nonTemporaryAddresses = Code(rawValue: 3)
        package static let temporaryAddresses = Code(rawValue: 4)
        package static let address = Code(rawValue: 5)
        package static let optionRequest = Code(rawValue: 6)
        package static let preference = Code(rawValue: 7)
        package static let statusCode = Code(rawValue: 13)
        package static let rapidCommit = Code(rawValue: 14)
        /// RFC 3646.
        package static let nameservers = Code(rawValue: 23)
        /// RFC 3646.
        package static let searchList = Code(rawValue: 24)
        package static let prefixDelegation = Code(rawValue: 25)
        package static let informationRefreshTime = Code(rawValue: 32)
        /// RFC 5908.
        package static let ntpServers = Code(rawValue: 56)
    }

    /// Nil where one is cut.
    package static func parse(_ bytes: [UInt8]) -> [Self]? {
        var reader = ByteReader(bytes)
        var options: [Self] = []
        while reader.count > 0 {
            guard let code: UInt16 = reader.integer(), let length: UInt16 = reader.integer(),
                let value = reader.bytes(Int(length))
            else { return nil }
            options.append(Self(Code(rawValue: code), value))
        }
        return options
    }

    package var bytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(bigEndian: code.rawValue)
        bytes.append(bigEndian: UInt16(clamping: value.count))
        return bytes + value.prefix(Int(UInt16.max))
    }
}

/// What went wrong, or that nothing did (RFC 8415, section 21.13).
package enum DHCPv6Status: UInt16, Hashable, Sendable {
    case success = 0
    case noAddresses = 2
    case notOnLink = 4
    case noPrefixes = 6

    package func option(_ words: String) -> DHCPv6Option {
        var value: [UInt8] = []
        value.append(bigEndian: rawValue)
        return DHCPv6Option(.statusCode, value + Array(words.utf8))
    }
}

/// A client's wish for addresses of one interface, and the answer to it: options 3 (IA_NA) and 25 (IA_PD), and option 4
/// (IA_TA) without the times (RFC 8415, sections 21.4, 21.5 and 21.21).
package struct IdentityAssociation: Hashable, Sendable {
    package var code: DHCPv6Option.Code
    package var id: UInt32
    /// Seconds after which the client asks the same server again.
    package var renewalTime: UInt32
    /// Seconds after which it asks any server.
    package var rebindingTime: UInt32
    package var options: [DHCPv6Option]

    package init(
        code: DHCPv6Option.Code = .nonTemporaryAddresses, id: UInt32, renewalTime: UInt32 = 0,
        rebindingTime: UInt32 = 0, options: [DHCPv6Option] = []
    ) {
        self.code = code
        self.id = id
        self.renewalTime = renewalTime
        self.rebindingTime = rebindingTime
        self.options = options
    }

    /// Nil for another option, and for one that is cut.
    package init?(parsing option: DHCPv6Option) {
        let codes: [DHCPv6Option.Code] = [.nonTemporaryAddresses, .temporaryAddresses, .prefixDelegation]
        var reader = ByteReader(option.value)
        guard codes.contains(option.code), let id: UInt32 = reader.integer() else { return nil }
        var times: (UInt32, UInt32) = (0, 0)
        if option.code != .temporaryAddresses {
            guard let first: UInt32 = reader.integer(), let second: UInt32 = reader.integer() else { return nil }
            times = (first, second)
        }
        guard let options = DHCPv6Option.parse(reader.remainder) else { return nil }
        self.init(code: option.code, id: id, renewalTime: times.0, rebindingTime: times.1, options: options)
    }

    package var option: DHCPv6Option {
        var value: [UInt8] = []
        value.append(bigEndian: id)
        if code != .temporaryAddresses {
            value.append(bigEndian: renewalTime)
            value.append(bigEndian: rebindingTime)
        }
        return DHCPv6Option(code, value + options.flatMap(\.bytes))
    }

    package var addresses: [IdentityAddress] { options.compactMap(IdentityAddress.init(parsing:)) }
}

/// One address of an association (option 5; RFC 8415, section 21.6).
package struct IdentityAddress: Hashable, Sendable {
    package var address: IPAddress
    /// Seconds.
    package var preferredLifetime: UInt32
    /// Seconds; 0: not to be used.
    package var validLifetime: UInt32

    package init(address: IPAddress, preferredLifetime: UInt32, validLifetime: UInt32) {
        self.address = address
        self.preferredLifetime = preferredLifetime
        self.validLifetime = validLifetime
    }

    /// Nil for another option, and for one that is cut. Options in it are passed over.
    package init?(parsing option: DHCPv6Option) {
        var reader = ByteReader(option.value)
        guard option.code == .address, let address = reader.address(.ipv6),
            let preferred: UInt32 = reader.integer(), let valid: UInt32 = reader.integer()
        else { return nil }
        self.init(address: address, preferredLifetime: preferred, validLifetime: valid)
    }

    package var option: DHCPv6Option {
        var value = address.bytes
        value.append(bigEndian: preferredLifetime)
        value.append(bigEndian: validLifetime)
        return DHCPv6Option(.address, value)
    }
}
