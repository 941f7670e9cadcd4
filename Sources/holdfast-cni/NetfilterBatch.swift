/// What nf_tables is asked for in one message of nfnetlink(7): all of it is done, or nothing (linux/netfilter/nf_tables.h).
struct NetfilterBatch {
    /// A family of tables, with the number that nf_tables knows it by.
    enum Family: UInt8 {
        case inet = 1
        case arp = 3
        case netdev = 5
    }

    /// Where a chain stands, with the hook's number in its family, and what a packet there is known by.
    struct Hook {
        var name: String
        var number: UInt32
        /// NFT_META_IIFNAME or NFT_META_OIFNAME.
        var key: UInt32
        /// The interface that a chain of `netdev` belongs to.
        var device: String?

        static func incoming(_ number: UInt32) -> Hook { Hook(name: "in", number: number, key: 6) }
        static func outgoing(_ number: UInt32, of device: String? = nil) -> Hook {
            Hook(name: "out", number: number, key: 7, device: device)
        }
    }

    private(set) var bytes: [UInt8] = []

    /// A table that drops all that is seen at these hooks of interfaces named `interface`, in the place of an older one.
    init(_ family: Family, table: String, droppingAt hooks: [Hook], of interface: String) {
        // NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END, of subsystem NFNL_SUBSYS_NFTABLES.
        append(type: 0x10, family: 0, resource: 10)
        // NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE: none is taken away that is not there.
        for type: UInt16 in [0, 2, 0] { append(.nftables(type), family) { $0.string(1, table) } }
        for hook in hooks {
            // NFT_MSG_NEWCHAIN
            append(.nftables(3), family) {
                $0.string(1, table)
                $0.string(3, hook.name)
                $0.nested(4) {
                    $0.number(1, hook.number)
                    $0.number(2, 0)
                    if let device = hook.device { $0.string(3, device) }
                }
                $0.string(7, "filter")
            }
            // NFT_MSG_NEWRULE
            append(.nftables(6), family) {
                $0.string(1, table)
                $0.string(2, hook.name)
                $0.nested(4) {
                    $0.expression("meta") {
                        $0.number(2, hook.key)
                        $0.number(1, 1)
                    }
                    $0.expression("cmp") {
                        $0.number(1, 1)
                        $0.number(2, 0)
                        $0.nested(3) { $0.bytes(1, Array(interface.utf8), paddedTo: 16) }
                    }
                    // NF_DROP for the verdict's register.
                    $0.expression("immediate") {
                        $0.number(1, 0)
                        $0.nested(2) { $0.nested(2) { $0.number(1, 0) } }
                    }
                }
            }
        }
        append(type: 0x11, family: 0, resource: 10)
    }

    /// A kind of message; of nf_tables in the subsystem's number space.
    private struct Kind {
        var type: UInt16
        static func nftables(_ type: UInt16) -> Kind { Kind(type: 10 << 8 | type) }
    }

    private mutating func append(_ kind: Kind, _ family: Family, _ attributes: (inout NetlinkAttributes) -> Void) {
        var list = NetlinkAttributes()
        attributes(&list)
        append(type: kind.type, family: family.rawValue, resource: 0, list.bytes)
    }

    /// `struct nlmsghdr` with NLM_F_REQUEST, NLM_F_CREATE, NLM_F_APPEND and, but for the batch's ends, NLM_F_ACK, and
    /// `struct nfgenmsg`.
    private mutating func append(type: UInt16, family: UInt8, resource: UInt16, _ attributes: [UInt8] = []) {
        let flags: UInt16 = attributes.isEmpty ? 0x1 : 0xc05
        bytes.append(native: UInt32(20 + attributes.count))
        bytes.append(native: type)
        bytes.append(native: flags)
        bytes.append(native: UInt32(0))
        bytes.append(native: UInt32(0))
        bytes += [family, 0, UInt8(resource >> 8), UInt8(resource & 0xff)]
        bytes += attributes
    }
}

/// Attributes of netlink(7), one after the other: numbers are in network order, as nf_tables has them.
struct NetlinkAttributes {
    private(set) var bytes: [UInt8] = []

    mutating func bytes(_ type: UInt16, _ value: [UInt8], paddedTo length: Int = 0) {
        let value = value + [UInt8](repeating: 0, count: max(0, length - value.count))
        bytes.append(native: UInt16(4 + value.count))
        bytes.append(native: type)
        bytes += value
        bytes += [UInt8](repeating: 0, count: -value.count & 3)
    }

    mutating func string(_ type: UInt16, _ value: String) { bytes(type, Array(value.utf8) + [0]) }

    mutating func number(_ type: UInt16, _ value: UInt32) {
        bytes(type, [UInt8(value >> 24), UInt8(value >> 16 & 0xff), UInt8(value >> 8 & 0xff), UInt8(value & 0xff)])
    }

    /// With NLA_F_NESTED.
    mutating func nested(_ type: UInt16, _ attributes: (inout NetlinkAttributes) -> Void) {
        var list = NetlinkAttributes()
        attributes(&list)
        bytes(type | 0x8000, list.bytes)
    }

    /// One of a rule's expressions: NFTA_LIST_ELEM with its name and data.
    mutating func expression(_ name: String, _ data: (inout NetlinkAttributes) -> Void) {
        nested(1) {
            $0.string(1, name)
            $0.nested(2, data)
        }
    }
}

extension [UInt8] {
    fileprivate mutating func append(native number: some FixedWidthInteger) {
        var number = number
        unsafe Swift.withUnsafeBytes(of: &number) { unsafe append(contentsOf: $0) }
    }
}
