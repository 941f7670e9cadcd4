package import Addresses

/// A DHCPv4 message (RFC 2131, section 2).
package struct DHCPv4Message: Hashable, Sendable {
    package static let serverPort: UInt16 = 67
    package static let clientPort: UInt16 = 68

    /// `op`.
    package enum Operation: UInt8, Hashable, Sendable, CaseIterable {
        case request = 1
        case reply = 2
    }

    /// Option 53.
    package enum Kind: UInt8, Hashable, Sendable, CaseIterable {
        case discover = 1
        case offer, request, decline, ack, nak, release, inform
    }

    package var operation: Operation
    /// `htype`; 1 is Ethernet.
    package var hardwareType: UInt8
    package var hops: UInt8
    package var transactionID: UInt32
    package var seconds: UInt16
    /// The top bit: the client wants broadcasts.
    package var flags: UInt16
    /// `ciaddr`, the client's own; 0.0.0.0 where it has none.
    package var clientAddress: IPAddress
    /// `yiaddr`, what the client is given.
    package var yourAddress: IPAddress
    /// `siaddr`, where its boot file is.
    package var nextServer: IPAddress
    /// `giaddr`, a relay's.
    package var relayAddress: IPAddress
    /// `chaddr`: as many bytes as `hlen` says, 16 at most.
    package var hardwareAddress: [UInt8]
    /// `sname`, 64 bytes at most, without zeros at its end.
    package var serverName: [UInt8]
    /// `file`, 128 bytes at most, without zeros at its end.
    package var bootFile: [UInt8]
    /// In the order of the wire, each code once.
    package var options: [DHCPv4Option]

    package init(
        operation: Operation, hardwareType: UInt8 = 1, hops: UInt8 = 0, transactionID: UInt32, seconds: UInt16 = 0,
        flags: UInt16 = 0, clientAddress: IPAddress = .zeroIPv4, yourAddress: IPAddress = .zeroIPv4,
        nextServer: IPAddress = .zeroIPv4, relayAddress: IPAddress = .zeroIPv4, hardwareAddress: [UInt8],
        serverName: [UInt8] = [], bootFile: [UInt8] = [], options: [DHCPv4Option] = []
    ) {
        self.operation = operation
        self.hardwareType = hardwareType
        self.hops = hops
        self.transactionID = transactionID
        self.seconds = seconds
        self.flags = flags
        self.clientAddress = clientAddress
        self.yourAddress = yourAddress
        self.nextServer = nextServer
        self.relayAddress = relayAddress
        self.hardwareAddress = hardwareAddress
        self.serverName = serverName
        self.bootFile = bootFile
        self.options = options
    }

    package var kind: Kind? { self[.messageType].flatMap { $0.count == 1 ? Kind(rawValue: $0[0]) : nil } }

    package var wantsBroadcast: Bool { flags & 0x8000 != 0 }

    /// The option's value; nil where the message has none.
    package subscript(code: DHCPv4Option.Code) -> [UInt8]? { options.first { $0.code == code }?.value }

    /// The option's value as one address; nil where it is none.
    package func address(_ code: DHCPv4Option.Code) -> IPAddress? {
        self[code].flatMap { $0.count == 4 ? IPAddress(family: .ipv4, bytes: $0) : nil }
    }
}

extension DHCPv4Message {
    private static let magicCookie: [UInt8] = [99, 130, 83, 99]

    /// Nil for what is no DHCP message or is cut. An option that comes in pieces is put together (RFC 3396), and those
    /// that stand in `file` and `sname` (option 52) are taken from there.
    package init?(parsing bytes: [UInt8]) {
        var reader = ByteReader(bytes)
        guard let operation = reader.integer().flatMap(Operation.init), let hardwareType: UInt8 = reader.integer(),
            let length: UInt8 = reader.integer(), length <= 16, let hops: UInt8 = reader.integer(),
            let transactionID: UInt32 = reader.integer(), let seconds: UInt16 = reader.integer(),
            let flags: UInt16 = reader.integer(), let client = reader.address(.ipv4),
            let your = reader.address(.ipv4), let next = reader.address(.ipv4), let relay = reader.address(.ipv4),
            let hardwareAddress = reader.bytes(16), let serverName = reader.bytes(64),
            let bootFile = reader.bytes(128), reader.bytes(4) == Self.magicCookie
        else { return nil }
        var options = DHCPv4OptionList()
        guard options.take(reader.remainder) else { return nil }
        let overload = options[.overload]?.first ?? 0
        options[.overload] = nil
        let (fileIsOptions, nameIsOptions) = (overload & 1 != 0, overload & 2 != 0)
        guard !fileIsOptions || options.take(bootFile), !nameIsOptions || options.take(serverName) else { return nil }
        options[.overload] = nil
        self.init(
            operation: operation, hardwareType: hardwareType, hops: hops, transactionID: transactionID,
            seconds: seconds, flags: flags, clientAddress: client, yourAddress: your, nextServer: next,
            relayAddress: relay, hardwareAddress: Array(hardwareAddress.prefix(Int(length))),
            serverName: nameIsOptions ? [] : serverName.trimmingZeros,
            bootFile: fileIsOptions ? [] : bootFile.trimmingZeros, options: options.options)
    }

    /// At least the 300 bytes of BOOTP (RFC 1542, section 2.1).
    package var bytes: [UInt8] {
        var bytes = [operation.rawValue, hardwareType, UInt8(clamping: hardwareAddress.count), hops]
        bytes.append(bigEndian: transactionID)
        bytes.append(bigEndian: seconds)
        bytes.append(bigEndian: flags)
        for address in [clientAddress, yourAddress, nextServer, relayAddress] { bytes.append(address) }
        bytes += hardwareAddress.padded(to: 16) + serverName.padded(to: 64) + bootFile.padded(to: 128)
        bytes += Self.magicCookie
        for option in options { bytes += option.bytes }
        bytes.append(DHCPv4Option.Code.end.rawValue)
        return bytes.count < 300 ? bytes.padded(to: 300) : bytes
    }
}
