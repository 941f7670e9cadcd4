import Addresses
import DequeModule
import IPAMModel

/// The addresses of one prefix of a pool: which are never given, held, freed, or have never been used.
struct PrefixSpace: Sendable {
    struct Counts: Hashable, Sendable {
        /// Held by bindings that a pod carries, and by those that none does.
        var bound: UInt64 = 0
        var reserved: UInt64 = 0
    }

    private struct QueueEntry: Sendable {
        var offset: UInt128
        /// Of the freeing: an entry counts only while the address is still freed since then.
        var revision: UInt64
    }

    /// Never-used addresses are given before freed ones only while fewer than this many freed ones are ready: else
    /// short-lived owners would leave a record for every address of a /64.
    static let readyFreedLimit = 65_536

    let definition: PoolPrefix
    /// Never given, as sorted offsets: excluded, gateway, edges.
    private let withheld: [ClosedRange<UInt128>]
    /// Withheld, held or freed.
    private var taken: AddressSet
    /// Also those that were freed and are withheld since: they wait as well, for when they are given again.
    private(set) var freed: [UInt128: FreedAddress] = [:]
    /// Where in `freed` a VM finds what it had: its name may come again, a pod's does not.
    private var freedOfMachines: [OwnerKey: [UInt128]] = [:]
    /// Those that may be given, oldest first. Entries that no longer count are dropped at a commit, so that a rollback can bring them back.
    private var queue: Deque<QueueEntry> = []
    /// Everything before this no longer counts.
    private var head = 0
    private(set) var counts = Counts()
    private(set) var committedCounts = Counts()

    init(_ definition: PoolPrefix) {
        self.definition = definition
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

    /// The address that the next owner gets: the lowest that was never used; else the one freed first, if it is ready.
    func propose(at now: Timestamp, reuseDelay: Delay) -> IPAddress? {
        let ready = oldestFreed.flatMap { $0.isReady(at: now, reuseDelay: reuseDelay) ? $0.address : nil }
        if freed.count > Self.readyFreedLimit, let ready { return ready }
        return taken.firstMissing.map(address(at:)) ?? ready
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

    private mutating func forget(_ address: FreedAddress?) {
        guard let address, address.lastOwner.kind == .virtualMachine else { return }
        let offset = offset(address.address)
        let rest = freedOfMachines[address.lastOwner.key]?.filter { $0 != offset }
        freedOfMachines[address.lastOwner.key] = rest?.isEmpty == false ? rest : nil
    }

    /// When `propose` will find one if nothing is freed or released before; nil when nothing is freed.
    func nextReady(reuseDelay: Delay) -> Timestamp? { oldestFreed?.readyAt(reuseDelay: reuseDelay) }

    private var oldestFreed: FreedAddress? {
        for entry in queue[head...] {
            if let address = current(entry) { return address }
        }
        return nil
    }

    private func current(_ entry: QueueEntry) -> FreedAddress? {
        freed[entry.offset].flatMap { $0.revision == entry.revision ? $0 : nil }
    }

    /// Freed addresses that are not ready yet.
    func quarantined(at now: Timestamp, reuseDelay: Delay) -> Int {
        // Freed in order of time, so that everything before the last ready one is ready too.
        var count = 0
        for entry in queue.reversed() {
            guard let address = current(entry) else { continue }
            if address.isReady(at: now, reuseDelay: reuseDelay) { break }
            count += 1
        }
        return count
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
        let offset = offset(address.address)
        freed[offset] = address
        note(address)
        if withholds(address.address) { return }
        taken.insert(offset)
        queue.append(QueueEntry(offset: offset, revision: address.revision))
    }

    mutating func holdFreed(until time: Timestamp) {
        for (offset, address) in freed { freed[offset]?.notBefore = max(address.notBefore ?? time, time) }
    }

    mutating func removeFreed(_ address: IPAddress) {
        let offset = offset(address)
        forget(freed[offset])
        freed[offset] = nil
        if withholds(address) { return }
        taken.remove(offset)
        while head < queue.count, current(queue[head]) == nil { head += 1 }
    }

    mutating func undoPutFreed(_ address: IPAddress) {
        let offset = offset(address)
        forget(freed[offset])
        freed[offset] = nil
        if withholds(address) { return }
        taken.remove(offset)
        // Changes are undone last first: this was the last to be queued.
        queue.removeLast()
        head = min(head, queue.count)
    }

    mutating func undoRemoveFreed(_ address: FreedAddress) {
        let offset = offset(address.address)
        freed[offset] = address
        note(address)
        if withholds(address.address) { return }
        taken.insert(offset)
        head = 0
    }

    /// Nothing of what was done so far will be undone.
    mutating func commit() {
        committedCounts = counts
        queue.removeFirst(head)
        head = 0
        if queue.count > 2 * freed.count + 64 {
            queue.removeAll { [freed] in freed[$0.offset]?.revision != $0.revision }
        }
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
