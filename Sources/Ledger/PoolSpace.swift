import Addresses
import IPAMModel

/// A pool with what is in use of it.
struct PoolSpace: Sendable {
    /// Behind one reference: a pool's space is copied for nearly every look at it.
    private final class Definition: Sendable {
        let pool: Pool
        let families: [AddressFamily]
        let networks: [AddressRange]

        init(_ pool: Pool) {
            self.pool = pool
            let networks = pool.prefixes.map(\.prefix.range)
            families = AddressFamily.allCases.filter { family in networks.contains { $0.family == family } }
            self.networks = networks
        }
    }

    private var definition: Definition
    var prefixes: [PrefixSpace]
    var bindingsOfNamespace: [String: Int] = [:]
    /// Before then no address is chosen for anybody: nobody knows who may still use one.
    var choosesFrom: Timestamp?
    /// The longest reuse delay that the pool has had since the process began: copies of before may be as old.
    var longestDelay: Delay

    init(_ pool: Pool) {
        definition = Definition(pool)
        longestDelay = pool.reuseDelay
        prefixes = pool.prefixes.map { PrefixSpace($0, reuseDelay: pool.reuseDelay) }
    }

    var pool: Pool { definition.pool }
    /// Each once, IPv4 first.
    var families: [AddressFamily] { definition.families }
    /// All addresses of each prefix.
    var networks: [AddressRange] { definition.networks }

    /// Gives it all of `new` but its prefixes, which are the same.
    mutating func change(to new: Pool) {
        definition = Definition(new)
        for index in prefixes.indices { prefixes[index].setReuseDelay(new.reuseDelay) }
        longestDelay = max(longestDelay, new.reuseDelay)
    }

    /// Whether a binding has addresses of it.
    var isUsed: Bool { !bindingsOfNamespace.isEmpty }

    func isOpen(to namespace: String) -> Bool { pool.namespaces.isEmpty || pool.namespaces.contains(namespace) }

    // By index: as an element of the array each would be a copy.
    func prefixIndex(of address: IPAddress) -> Int? { prefixes.indices.first { prefixes[$0].contains(address) } }

    func freed(_ address: IPAddress) -> FreedAddress? {
        prefixIndex(of: address).flatMap { prefixes[$0].freed(address) }
    }

    /// What the prefix of `address` says of it; nil outside the pool.
    func assignment(of address: IPAddress) -> Assignment? {
        guard let index = prefixIndex(of: address) else { return nil }
        let definition = prefixes[index].definition
        return Assignment(
            address: address, prefixLength: definition.prefix.length, gateway: definition.gateway)
    }

    /// What a VM of this name had last, while nobody else has got it: quarantine is for others only. Else an address from
    /// the first prefix of `family` that has one.
    func propose(_ family: AddressFamily, for owner: OwnerKey, at now: Timestamp) -> IPAddress? {
        // Nor what it had last: another may have got it since the backup.
        if let choosesFrom, now < choosesFrom { return nil }
        if owner.kind == .virtualMachine {
            let had = prefixes.indices.lazy.compactMap { index in
                prefixes[index].family == family ? prefixes[index].lastFreed(of: owner) : nil
            }
            if let last = had.max(by: { $0.revision < $1.revision }) { return last.address }
        }
        for index in prefixes.indices where prefixes[index].family == family {
            if let address = prefixes[index].propose(at: now) { return address }
        }
        return nil
    }

    /// When the next quarantined address of `family` becomes free, if one is.
    func nextReady(_ family: AddressFamily) -> Timestamp? {
        prefixes.lazy.filter { $0.family == family }.compactMap(\.nextReady).min()
    }

}

extension MACAddress {
    /// The owner's own one, the same in every process; where that is not free, another.
    init(for owner: OwnerKey, where isFree: (MACAddress) -> Bool) {
        let seed = owner.stableHash
        var probe: UInt64 = 0
        repeat {
            self.init(locallyAdministered: (seed &+ probe &* 0x9e37_79b9_7f4a_7c15).mixed)
            probe += 1
        } while !isFree(self)
    }
}

extension MACAddress {
    /// Unicast and locally administered: the first byte is 0x02, the others are the low ones of `bits`.
    fileprivate init(locallyAdministered bits: UInt64) { self.init(bits: 0x02_00_0000_0000 | bits & 0xff_ffff_ffff) }
}

extension OwnerKey {
    /// The same in every process.
    fileprivate var stableHash: UInt64 {
        var hash = FNV1a()
        hash.add(kind.rawValue)
        func add(_ part: String) {
            hash.add(part)
            // No byte of UTF-8: keeps "a" "bc" apart from "ab" "c".
            hash.add(0xff)
        }
        add(namespace)
        add(name)
        add(network)
        return hash.value
    }
}

extension UInt64 {
    /// SplitMix64's finalizer: every input bit reaches every output bit.
    fileprivate var mixed: UInt64 {
        var z = (self ^ self >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}
