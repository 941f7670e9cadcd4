import Addresses
import IPAMModel

/// The addresses of one prefix of a pool: which are never given, held, freed, or have never been used.
struct PrefixSpace: Sendable {
    struct Counts: Hashable, Sendable {
        /// Held by bindings that a pod carries, and by those that none does.
        var bound: UInt64 = 0
        var reserved: UInt64 = 0
    }

    /// Never-used addresses are given before freed ones only while fewer than this many freed ones are ready: else
    /// short-lived owners would leave a record for every address of a /64.
    static let readyFreedLimit = 65_536

    let definition: PoolPrefix
    /// The pool's.
    private(set) var reuseDelay: Delay
    /// Never given, as sorted offsets: excluded, gateway, edges.
    private let withheld: [ClosedRange<UInt128>]
    /// Withheld, held or freed.
    private var taken: AddressSet
    /// Also those that were freed and are withheld since: they wait as well, for when they are given again.
    private(set) var freed: [UInt128: FreedAddress] = [:]
    /// Where in `freed` a VM finds what it had: its name may come again, a pod's does not.
    private var freedOfMachines: [OwnerKey: [UInt128]] = [:]
    /// Those that may be given once the reuse delay has passed, in the order of freeing; and those that wait longer for copies
    /// (of a pool with a longer delay, or of before the process began), apart so that they keep no other.
    private var queue = FreedQueue()
    private var heldBack = FreedQueue()
    private(set) var counts = Counts()
    private(set) var committedCounts = Counts()
    /// When those are ready that were freed, and that are freed no longer, since the last commit.
    private var freedSince: [Timestamp] = []
    private var takenSince: [Timestamp] = []

    init(_ definition: PoolPrefix, reuseDelay: Delay) {
        self.definition = definition
        self.reuseDelay = reuseDelay
        let prefix = definition.prefix
        withheld = definition.withheldOffsets.merged()
        taken = AddressSet(hostBits: prefix.family.bitWidth - prefix.length, ranges: withheld)
    }

    var family: AddressFamily { definition.prefix.family }

    func contains(_ address: IPAddress) -> Bool { definition.prefix.contains(address) }

    /// Whether an address of this prefix is never given.
    func withholds(_ address: IPAddress) -> Bool {
        let offset = self.offset(address)
        var (low, high) = (0, withheld.count)
        while low < high {
            let middle = (low + high) / 2
            if withheld[middle].upperBound < offset { low = middle + 1 } else { high = middle }
        }
        return low < withheld.count && withheld[low].contains(offset)
    }

    /// The address that the next owner gets: the lowest that was never used; else the freed one that was ready first, which is
    /// the one freed first unless copies held it back.
    func propose(at now: Timestamp) -> IPAddress? {
        let ready = nextFreed.flatMap { $0.readyAt <= now ? address(at: $0.offset) : nil }
        if freed.count > Self.readyFreedLimit, let ready { return ready }
        guard let offset = taken.firstMissing else { return ready }
        return address(at: offset)
    }

    /// The address that this VM had last, where it may be given and nobody has got it since.
    func lastFreed(of owner: OwnerKey) -> FreedAddress? {
        guard !freedOfMachines.isEmpty, let offsets = freedOfMachines[owner] else { return nil }
        return offsets.lazy.compactMap { freed[$0] }.filter { !withholds($0.address) }.max { $0.revision < $1.revision }
    }

    private mutating func note(_ address: FreedAddress) {
        guard address.lastOwner.kind == .virtualMachine else { return }
        freedOfMachines[address.lastOwner.key, default: []].append(offset(address.address))
    }

    private mutating func forget(_ address: FreedAddress) {
        guard address.lastOwner.kind == .virtualMachine else { return }
        let offset = offset(address.address)
        let rest = freedOfMachines[address.lastOwner.key]?.filter { $0 != offset }
        freedOfMachines[address.lastOwner.key] = rest?.isEmpty == false ? rest : nil
    }

    /// When `propose` will find one if nothing is freed or released before; nil when nothing is freed.
    var nextReady: Timestamp? { nextFreed?.readyAt }

    private var nextFreed: FreedQueue.Entry? {
        guard let first = queue.first(where: { isCurrent($0) }) else { return heldBack.first { isCurrent($0) } }
        return heldBack.first { isCurrent($0) }.map { min(first, $0) } ?? first
    }

    private func isCurrent(_ entry: FreedQueue.Entry) -> Bool { freed[entry.offset]?.revision == entry.revision }

    /// Freed addresses that were not ready yet as of the last commit.
    func committedQuarantined(at now: Timestamp) -> Int {
        queue.count(after: now) { isCurrent($0) } + heldBack.count(after: now) { isCurrent($0) }
            - freedSince.count(where: { $0 > now }) + takenSince.count(where: { $0 > now })
    }

    /// How many addresses may be given at all; `UInt64.max` stands for that many or more.
    var total: UInt64 {
        // One less than the number of addresses, which for ::/0 fits no integer.
        let span = definition.prefix.hostMask
        var lost: UInt128 = 0
        for range in withheld {
            let size = range.upperBound - range.lowerBound
            if size == .max { return 0 }
            lost += size + 1
        }
        if lost > span { return 0 }
        let less = UInt64(clamping: span - lost)
        return less == .max ? .max : less + 1
    }

    mutating func hold(_ address: IPAddress, isCarried: Bool) {
        taken.insert(offset(address))
        if isCarried { counts.bound += 1 } else { counts.reserved += 1 }
    }

    mutating func letGo(_ address: IPAddress, isCarried: Bool) {
        taken.remove(offset(address))
        if isCarried { counts.bound -= 1 } else { counts.reserved -= 1 }
    }

    mutating func putFreed(_ address: FreedAddress) {
        freed[offset(address.address)] = address
        note(address)
        if withholds(address.address) { return }
        let entry = entry(of: address)
        taken.insert(entry.offset)
        withQueue(of: address) { $0.insert(entry) }
        freedSince.append(entry.readyAt)
    }

    mutating func holdFreed(until time: Timestamp) {
        for (offset, address) in freed { freed[offset]?.notBefore = max(address.notBefore ?? time, time) }
        requeue()
    }

    mutating func setReuseDelay(_ delay: Delay) {
        if delay == reuseDelay { return }
        reuseDelay = delay
        requeue()
    }

    /// Freed addresses are ready at other times than before.
    private mutating func requeue() {
        let before = [queue, heldBack]
        var (usual, late): ([FreedQueue.Entry], [FreedQueue.Entry]) = ([], [])
        for old in before.lazy.flatMap(\.entries) where isCurrent(old) {
            guard let address = freed[old.offset] else { continue }
            if isHeldBack(address) { late.append(entry(of: address)) } else { usual.append(entry(of: address)) }
        }
        (queue, heldBack) = (FreedQueue(usual), FreedQueue(late))
    }

    mutating func removeFreed(_ address: IPAddress) {
        guard let gone = takeOut(address) else { return }
        takenSince.append(entry(of: gone).readyAt)
        withQueue(of: gone) { [freed] in $0.skip { freed[$0.offset]?.revision != $0.revision } }
    }

    mutating func undoPutFreed(_ address: IPAddress) {
        guard let gone = takeOut(address) else { return }
        let entry = entry(of: gone)
        withQueue(of: gone) { $0.remove(entry) }
        // Changes are undone last first.
        freedSince.removeLast()
    }

    mutating func undoRemoveFreed(_ address: FreedAddress) {
        freed[offset(address.address)] = address
        note(address)
        if withholds(address.address) { return }
        taken.insert(offset(address.address))
        withQueue(of: address) { $0.rewind() }
        takenSince.removeLast()
    }

    /// Returns what was freed, where it is one that may be given.
    private mutating func takeOut(_ address: IPAddress) -> FreedAddress? {
        let offset = offset(address)
        guard let gone = freed.removeValue(forKey: offset) else { return nil }
        forget(gone)
        if withholds(address) { return nil }
        taken.remove(offset)
        return gone
    }

    /// Nothing of what was done so far will be undone.
    mutating func commit() {
        committedCounts = counts
        (freedSince, takenSince) = ([], [])
        let most = 2 * freed.count + 64
        queue.commit(keeping: most) { [freed] in freed[$0.offset]?.revision == $0.revision }
        heldBack.commit(keeping: most) { [freed] in freed[$0.offset]?.revision == $0.revision }
    }

    private func entry(of address: FreedAddress) -> FreedQueue.Entry {
        FreedQueue.Entry(
            readyAt: address.readyAt(reuseDelay: reuseDelay), revision: address.revision,
            offset: offset(address.address))
    }

    private func isHeldBack(_ address: FreedAddress) -> Bool {
        address.readyAt(reuseDelay: reuseDelay) > address.freedAt.advanced(by: reuseDelay)
    }

    private mutating func withQueue(of address: FreedAddress, _ body: (inout FreedQueue) -> Void) {
        if isHeldBack(address) { body(&heldBack) } else { body(&queue) }
    }

    func freed(_ address: IPAddress) -> FreedAddress? { freed[offset(address)] }

    private func offset(_ address: IPAddress) -> UInt128 { address.bits - definition.prefix.address.bits }

    private func address(at offset: UInt128) -> IPAddress {
        IPAddress(family: family, bits: definition.prefix.address.bits + offset)
    }
}

extension FreedAddress {
    /// Whether an owner other than the last may have it.
    func isReady(at now: Timestamp, reuseDelay: Delay) -> Bool { readyAt(reuseDelay: reuseDelay) <= now }
}

extension PoolPrefix {
    /// The addresses that are never given.
    var withheld: [AddressRange] {
        var ranges = excluded
        if let gateway { ranges.append(AddressRange(from: gateway, through: gateway)) }
        ranges += edges.map { AddressRange(from: $0, through: $0) }
        return ranges
    }

    fileprivate var withheldOffsets: [ClosedRange<UInt128>] {
        withheld.map { ($0.lower.bits - prefix.address.bits)...($0.upper.bits - prefix.address.bits) }
    }

    /// Whether both are parts of one network that two pools may have: neither gives what the other may give, nor the
    /// other's gateway.
    func isApart(from other: PoolPrefix) -> Bool {
        guard prefix == other.prefix, (withheldOffsets + other.withheldOffsets).merged() == [0...prefix.hostMask] else {
            return false
        }
        return withholdsGateway(of: other) && other.withholdsGateway(of: self)
    }

    private func withholdsGateway(of other: PoolPrefix) -> Bool {
        other.gateway.map { gateway in withheld.contains { $0.contains(gateway) } } ?? true
    }

    /// The addresses that stand for the network itself: IPv4's network and broadcast address, IPv6's subnet-router
    /// anycast address (RFC 4291 section 2.6.1). None in a /31 (RFC 3021), a /127 (RFC 6164), a /32 and a /128.
    var edges: [IPAddress] {
        if usesEdgeAddresses || prefix.length + 1 >= prefix.family.bitWidth { return [] }
        return prefix.family == .ipv4 ? [prefix.address, prefix.last] : [prefix.address]
    }
}
