import Addresses
package import IPAMModel
package import Ledger

/// SplitMix64: the same numbers from the same seed.
package struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}

/// Batches of changes as a ledger makes them: no address and no MAC of a pool is ever in two bindings. The spaces are
/// small, so that owners, addresses and MACs come again, also within one batch.
package struct RandomHistory {
    package private(set) var model = Model()
    private var lastID: UInt64 = 0
    private var lastRevision: UInt64 = 0
    package init() {}

    package mutating func batch(using random: inout some RandomNumberGenerator) -> [Change] {
        let changes = (0..<Int.random(in: 1...12, using: &random)).compactMap { _ in
            let change = change(using: &random)
            if let change { model.apply(change) }
            return change
        }
        model.revision = max(model.revision + UInt64(changes.count) + 1, lastRevision)
        return changes
    }

    private mutating func change(using random: inout some RandomNumberGenerator) -> Change? {
        switch Int.random(in: 0..<14, using: &random) {
        case 0..<5:
            var binding = Example.binding(using: &random)
            lastID += 1
            binding.id = model.bindings[binding.owner.key]?.id ?? lastID
            return isFree(binding) ? .putBinding(binding) : nil
        case 5..<7: return model.bindings.values.randomElement(using: &random).map { .removeBinding($0) }
        case 7: return .putFreed(Example.freed(using: &random))
        case 8: return model.freed.keys.randomElement(using: &random).map { .removeFreed($0) }
        case 9..<12:
            lastRevision += .random(in: 1...3, using: &random)
            return .putHistory(Example.entry(revision: lastRevision, using: &random))
        case 12: return model.history.values.randomElement(using: &random).map { .removeHistory($0) }
        case 13:
            let pool = Example.pool(using: &random)
            return Bool.random(using: &random) ? .putPool(pool) : .removePool(name: pool.name)
        default: fatalError("a case of its own for each number")
        }
    }

    private func isFree(_ binding: Binding) -> Bool {
        let addresses = Set(binding.assignments.map(\.address))
        return !model.bindings.values.contains { other in
            other.owner.key != binding.owner.key
                && (!addresses.isDisjoint(with: other.assignments.map(\.address))
                    || other.pool == binding.pool && other.mac == binding.mac)
        }
    }
}

package enum Example {
    private static let texts = [
        "", "a", "täst-vm", "it's; DROP TABLE bindings", "🦊", String(repeating: "n", count: 253),
    ]

    /// Of all plain bindings.
    package static let pool = Pool(
        name: "vm-net",
        prefixes: IPPrefix("10.16.0.0/16").map { [PoolPrefix(prefix: $0, gateway: IPAddress("10.16.0.1"))] } ?? [],
        revision: 1)

    /// A plain bound VM, told apart by small numbers.
    package static func binding(owner: Int, address: Int) -> Binding {
        let time = Timestamp(seconds: 1_800_000_000)
        return Binding(
            id: UInt64(owner),
            owner: Owner(
                kind: .virtualMachine, namespace: "default", name: "vm-\(owner)", uid: "uid-\(owner)",
                network: "vm-net/eth0"),
            pool: "vm-net",
            assignments: [
                Assignment(
                    address: IPAddress(family: .ipv4, bits: 0x0a10_0000 + UInt128(address)), prefixLength: 16,
                    gateway: IPAddress(family: .ipv4, bits: 0x0a10_0001))
            ],
            mac: MACAddress(bits: 0x0200_0a10_0000 + UInt64(address)),
            active: Attachment(
                node: "node-a", pod: "virt-launcher-vm-\(owner)-x7k2p", podUID: "pod-uid-\(owner)",
                containerID: "container-\(owner)", createdAt: time),
            newestAttachment: time, revision: 1, createdAt: time, updatedAt: time)
    }

    package static func binding(using random: inout some RandomNumberGenerator) -> Binding {
        let hasIPv4 = Int.random(in: 0..<4, using: &random) > 0
        let hasIPv6 = !hasIPv4 || Bool.random(using: &random)
        let target = Bool.random(using: &random) ? attachment(using: &random) : nil
        return Binding(
            owner: owner(using: &random), pool: ["blue", "green"].randomElement(using: &random) ?? "",
            assignments: (hasIPv4 ? [assignment(.ipv4, using: &random)] : [])
                + (hasIPv6 ? [assignment(.ipv6, using: &random)] : []),
            mac: MACAddress(bits: 0x0200_0000_0000 | UInt64.random(in: 0..<24, using: &random)),
            active: Bool.random(using: &random) ? attachment(using: &random) : nil,
            released: Bool.random(using: &random) ? attachment(using: &random).id : nil, target: target,
            migrationUID: target == nil ? "" : text(using: &random),
            endedMigration: Bool.random(using: &random)
                ? EndedMigration(
                    uid: text(using: &random), outcome: Bool.random(using: &random) ? .committed : .aborted,
                    released: Bool.random(using: &random) ? attachment(using: &random).id : nil) : nil,
            newestAttachment: Bool.random(using: &random) ? time(using: &random) : nil,
            superseded: (0..<Int.random(in: 0..<3, using: &random)).map { _ in attachment(using: &random).id },
            isCopied: Bool.random(using: &random), heldSince: time(using: &random), heldBy: text(using: &random),
            revision: .random(in: 0 ... .max, using: &random), createdAt: time(using: &random),
            updatedAt: time(using: &random))
    }

    static func freed(using random: inout some RandomNumberGenerator) -> FreedAddress {
        FreedAddress(
            address: address(Bool.random(using: &random) ? .ipv4 : .ipv6, using: &random), pool: "blue",
            lastOwner: owner(using: &random), freedAt: time(using: &random),
            revision: .random(in: 0 ... .max, using: &random))
    }

    static func entry(revision: UInt64, using random: inout some RandomNumberGenerator) -> HistoryEntry {
        HistoryEntry(
            owner: owner(using: &random), pool: "blue",
            addresses: [.ipv4, .ipv6].filter { _ in Bool.random(using: &random) }.map { address($0, using: &random) },
            mac: MACAddress(bits: .random(in: 0..<1 << 48, using: &random)), node: text(using: &random),
            pod: text(using: &random), since: time(using: &random),
            until: Bool.random(using: &random) ? time(using: &random) : nil, begunBy: text(using: &random),
            endedBy: text(using: &random), end: HistoryEntry.End.allCases.randomElement(using: &random),
            revision: revision)
    }

    static func pool(using random: inout some RandomNumberGenerator) -> Pool {
        let family: AddressFamily = Bool.random(using: &random) ? .ipv4 : .ipv6
        let prefix = IPPrefix(containing: address(family, using: &random), length: family.bitWidth - 4)
        return Pool(
            name: ["blue", "green", "täst"].randomElement(using: &random) ?? "",
            prefixes: prefix.map { prefix in
                [
                    PoolPrefix(
                        prefix: prefix, gateway: Bool.random(using: &random) ? prefix.last : nil,
                        excluded: [AddressRange(from: prefix.address, through: prefix.last)],
                        usesEdgeAddresses: Bool.random(using: &random))
                ]
            } ?? [],
            namespaces: Bool.random(using: &random) ? ["default", text(using: &random)] : [],
            routes: prefix.map { [Route(destination: $0), Route(destination: $0, gateway: $0.last)] } ?? [],
            dns: Bool.random(using: &random)
                ? DNS(
                    nameservers: [address(family, using: &random)], domain: text(using: &random),
                    search: [text(using: &random)], options: ["ndots:5"]) : nil,
            isDefault: Bool.random(using: &random),
            reuseDelay: Delay(nanoseconds: .random(in: 0 ... .max, using: &random)),
            namespaceQuota: .random(in: 0 ... .max, using: &random),
            historyRetention: Delay(nanoseconds: .random(in: 0 ... .max, using: &random)),
            revision: .random(in: 0 ... .max, using: &random))
    }

    private static func owner(using random: inout some RandomNumberGenerator) -> Owner {
        Owner(
            kind: Bool.random(using: &random) ? .virtualMachine : .pod,
            namespace: ["default", "prod"].randomElement(using: &random) ?? "", name: text(using: &random),
            uid: text(using: &random), network: Bool.random(using: &random) ? "vm-net/eth0" : "vm-net/net1")
    }

    private static func attachment(using random: inout some RandomNumberGenerator) -> Attachment {
        Attachment(
            node: text(using: &random), pod: text(using: &random), podUID: text(using: &random),
            containerID: text(using: &random), createdAt: Bool.random(using: &random) ? time(using: &random) : nil)
    }

    private static func assignment(_ family: AddressFamily, using random: inout some RandomNumberGenerator)
        -> Assignment
    {
        Assignment(
            address: address(family, using: &random), prefixLength: .random(in: 0...family.bitWidth, using: &random),
            gateway: Bool.random(using: &random) ? address(family, using: &random) : nil)
    }

    private static func address(_ family: AddressFamily, using random: inout some RandomNumberGenerator) -> IPAddress {
        let base: UInt128 = family == .ipv4 ? 0x0a10_0000 : 0xfd00 << 112
        return IPAddress(family: family, bits: base + .random(in: 0..<16, using: &random))
    }

    private static func time(using random: inout some RandomNumberGenerator) -> Timestamp {
        Timestamp(nanoseconds: .random(in: .min ... .max, using: &random))
    }

    private static func text(using random: inout some RandomNumberGenerator) -> String {
        texts.randomElement(using: &random) ?? ""
    }
}
