package import Addresses

/// The interfaces of a network namespace, as the kernel tells of them (rtnetlink(7)).
package struct LinkTable: Hashable, Sendable {
    package struct Link: Hashable, Sendable {
        package var name: String
        /// The bridge that it is a port of; 0: none.
        package var master: Int32
        package var mtu: UInt32
        package var mac: MACAddress?

        package init(name: String, master: Int32 = 0, mtu: UInt32 = 0, mac: MACAddress? = nil) {
            self.name = name
            self.master = master
            self.mtu = mtu
            self.mac = mac
        }
    }

    /// By interface index.
    package private(set) var links: [Int32: Link] = [:]

    package init() {}

    package func index(named name: String) -> Int32? { links.first { $0.value.name == name }?.key }

    /// Takes messages as one read of the socket gives them: new and changed links, and links that are gone. Others, and
    /// what is malformed, are passed over. False where the kernel says that it does not answer a question (NLMSG_ERROR).
    @discardableResult
    package mutating func take(_ bytes: [UInt8]) -> Bool {
        var reader = HostReader(bytes)
        var isAnswered = true
        while let length = reader.integer(UInt32.self), length >= 16, let type = reader.integer(UInt16.self),
            reader.skip(10), let body = reader.take(Int(length) - 16)
        {
            if type == 2 { isAnswered = false }
            take(body, type: type)
        }
        return isAnswered
    }

    private mutating func take(_ body: [UInt8], type: UInt16) {
        let (newLink, deletedLink): (UInt16, UInt16) = (16, 17)
        var reader = HostReader(body)
        // A bridge's own messages tell of its ports (AF_BRIDGE): that one is gone does not say that the link is.
        guard type == newLink || type == deletedLink, reader.integer(UInt8.self) == 0, reader.skip(3),
            let index = reader.integer(UInt32.self), reader.skip(8)
        else { return }
        let key = Int32(truncatingIfNeeded: index)
        guard type == newLink else {
            links[key] = nil
            return
        }
        var link = Link(name: "")
        while let length = reader.integer(UInt16.self), length >= 4, let kind = reader.integer(UInt16.self),
            let value = reader.take(Int(length) - 4)
        {
            var value = HostReader(value)
            switch kind {
            case 1: link.mac = value.mac()  // IFLA_ADDRESS
            case 3: link.name = String(decoding: value.remainder.prefix { $0 != 0 }, as: UTF8.self)  // IFLA_IFNAME
            case 4: link.mtu = value.integer(UInt32.self) ?? 0  // IFLA_MTU
            case 10: link.master = Int32(truncatingIfNeeded: value.integer(UInt32.self) ?? 0)  // IFLA_MASTER
            default: break
            }
        }
        links[key] = link
    }
}

/// Netlink's numbers are in this machine's order, and its parts begin at multiples of four.
private struct HostReader {
    private var reader: ByteReader

    init(_ bytes: [UInt8]) { reader = ByteReader(bytes) }

    var remainder: [UInt8] { reader.remainder }

    mutating func integer<Value: FixedWidthInteger & UnsignedInteger>(_: Value.Type) -> Value? {
        reader.integer(Value.self).map { Value(littleEndian: $0.byteSwapped) }
    }

    mutating func mac() -> MACAddress? { reader.mac() }

    mutating func skip(_ count: Int) -> Bool { reader.bytes(count) != nil }

    mutating func take(_ count: Int) -> [UInt8]? {
        guard let value = reader.bytes(count) else { return nil }
        _ = reader.bytes(min((4 - count % 4) % 4, reader.count))
        return value
    }
}
