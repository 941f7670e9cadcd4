import Addresses
import IPAMModel

extension Ledger {
    /// More than any cluster has, and few enough to compare a new one with all: whoever may make pools stops nobody else.
    package static let mostPools = 1024

    mutating func createPool(_ pool: Pool, at now: Timestamp) throws(IPAMError) -> Pool {
        if let old = pool.name.isEmpty ? nil : currentPool(pool.name) {
            guard old.hasSameContent(as: pool) else { throw .poolExists(pool.name) }
            return old
        }
        try checkRoom(for: pool)
        try check(pool)
        let arriving = try arriving(in: PoolSpace(pool), at: now)
        var pool = pool
        pool.revision = nextRevision()
        for address in arriving { removeFreed(address) }
        var space = PoolSpace(pool)
        // The ledger before the restore may have had it.
        space.choosesFrom = restoredAt?.advanced(by: pool.reuseDelay)
        put(space, at: nil)
        return pool
    }

    mutating func updatePool(_ pool: Pool, at now: Timestamp) throws(IPAMError) -> Pool {
        guard let index = spaceIndexes[pool.name], let old = spaces[index] else { throw .poolNotFound(pool.name) }
        // A repeated update carries the revision from before it was done.
        if old.pool.hasSameContent(as: pool) { return old.pool }
        if pool.revision != 0, pool.revision != old.pool.revision { throw .poolChanged(old.pool) }
        try check(pool)
        let wanted = PoolSpace(pool)
        let members = slots.indices.filter { slots[$0]?.pool == pool.name }
        for binding in members.compactMap({ slots[$0] }) {
            for assignment in binding.assignments where !wanted.canHold(assignment.address) {
                throw .poolInUse(pool.name, holder: binding.owner.key, address: assignment.address, field: "pool")
            }
        }

        let leaving = old.freed.filter { wanted.prefixIndex(of: $0.address) == nil }
        try checkReady(leaving, in: old, at: now)
        let arriving = try arriving(in: wanted, at: now)

        var pool = pool
        pool.revision = nextRevision()
        for address in leaving + arriving { removeFreed(address) }
        guard let space = space(at: index, changedTo: pool) else { throw .poolNotFound(pool.name) }
        put(space, at: index)
        // Who watches or has copies knows a binding with its pool's routes and DNS.
        let isToldOtherwise = old.pool.routes != pool.routes || old.pool.dns != pool.dns
        for slot in members {
            guard var binding = slots[slot] else { continue }
            binding.assignments = binding.assignments.compactMap { space.assignment(of: $0.address) }
            guard isToldOtherwise || binding != slots[slot] else { continue }
            // Nothing has happened to it: how long a migration is open counts on.
            put(&binding, in: slot, revision: pool.revision, at: binding.updatedAt)
        }
        return pool
    }

    /// The pool at `index` with the content of `pool`, and with all that is freed and held in it.
    func space(at index: Int, changedTo pool: Pool) -> PoolSpace? {
        guard var space = spaces[index] else { return nil }
        if space.pool.prefixes == pool.prefixes {
            space.change(to: pool)
            return space
        }
        var changed = PoolSpace(pool)
        changed.choosesFrom = space.choosesFrom
        changed.longestDelay = max(space.longestDelay, pool.reuseDelay)
        for address in space.freed { changed.putFreed(address) }
        for slot in slots.indices where slots[slot]?.pool == pool.name {
            if let binding = slots[slot] { changed.place(binding) }
        }
        return changed
    }

    mutating func deletePool(named name: String, at now: Timestamp) throws(IPAMError) -> Outcome {
        guard let index = spaceIndexes[name], let space = spaces[index] else { return .poolDeleted }
        if space.isUsed, let slot = slots.firstIndex(where: { $0?.pool == name }), let holder = slots[slot] {
            throw .poolInUse(
                name, holder: holder.owner.key, address: holder.assignments.first?.address, field: "name")
        }
        let freed = space.freed
        try checkReady(freed, in: space, at: now, field: "name")
        _ = nextRevision()
        for address in freed { removeFreed(address) }
        removePool(at: index)
        return .poolDeleted
    }

    /// Promise 1: an address that leaves its pool may come back with another, which knows nothing of its quarantine.
    private func checkReady(
        _ freed: [FreedAddress], in space: PoolSpace, at now: Timestamp, field: String = "pool"
    ) throws(IPAMError) {
        let delay = space.pool.reuseDelay
        // The last one to be ready says how long the whole takes.
        let last = freed.max { $0.readyAt(reuseDelay: delay) < $1.readyAt(reuseDelay: delay) }
        if let last, !last.isReady(at: now, reuseDelay: delay) {
            throw .poolInUse(space.pool.name, freed: last, until: last.readyAt(reuseDelay: delay), field: field)
        }
    }

    /// What was freed in another pool of the same network, and is `space`'s to give from now on.
    private func arriving(in space: PoolSpace, at now: Timestamp) throws(IPAMError) -> [FreedAddress] {
        var arriving: [FreedAddress] = []
        for other in neighbours(of: space.pool).compactMap({ spaces[$0] }) {
            let theirs = other.freed.filter { space.canHold($0.address) }
            try checkReady(theirs, in: other, at: now)
            arriving += theirs
        }
        return arriving
    }

    /// Throws unless `pool` is sound in itself and may stand beside the others.
    func check(_ pool: Pool) throws(IPAMError) {
        if pool.name.isEmpty { throw .invalidField("pool.name", "a pool needs a name") }
        if pool.prefixes.isEmpty {
            throw .invalidField("pool.prefixes", "a pool needs a prefix to give addresses from")
        }
        for (index, prefix) in pool.prefixes.enumerated() {
            try check(prefix, field: "pool.prefixes[\(index)]")
            for earlier in pool.prefixes[..<index] where earlier.prefix.overlaps(prefix.prefix) {
                throw .poolOverlap(prefix.prefix, earlier.prefix, of: pool.name)
            }
        }
        for other in neighbours(of: pool).compactMap({ spaces[$0]?.pool }) {
            for theirs in other.prefixes {
                for own in pool.prefixes where own.prefix.overlaps(theirs.prefix) && !own.isApart(from: theirs) {
                    throw .poolOverlap(own.prefix, theirs.prefix, of: other.name)
                }
            }
        }
        // After all overlaps, so that which of two reasons is told does not depend on the order of the pools.
        if pool.isDefault,
            let other = spaces.lazy.compactMap({ $0?.pool }).first(where: { $0.isDefault && $0.name != pool.name })
        {
            throw .defaultPoolExists(other.name)
        }
    }

    /// Before anything is compared with all pools.
    func checkRoom(for pool: Pool) throws(IPAMError) {
        if spaceIndexes[pool.name] == nil, spaceIndexes.count >= Self.mostPools {
            throw .tooManyPools(pool.name, limit: Self.mostPools)
        }
    }

    /// The indexes of other pools that have addresses in common with `pool`, whose prefixes must not overlap: each of theirs
    /// is looked for among its own in order.
    func neighbours(of pool: Pool) -> [Int] {
        let own = pool.prefixes.map(\.prefix.range).sorted { $0.lower < $1.lower }
        guard let first = own.first, let last = own.last else { return [] }
        return spaces.indices.filter { index in
            guard let networks = spaces[index]?.networks, spaceIndexes[pool.name] != index else { return false }
            return networks.contains { network in
                guard network.upper >= first.lower, network.lower <= last.upper else { return false }
                var (lower, upper) = (0, own.count)
                while upper - lower > 1 {
                    let middle = (lower + upper) / 2
                    if own[middle].lower <= network.upper { lower = middle } else { upper = middle }
                }
                return own[lower].lower <= network.upper && network.lower <= own[lower].upper
            }
        }
    }

    private func check(_ prefix: PoolPrefix, field: String) throws(IPAMError) {
        if let gateway = prefix.gateway {
            guard prefix.prefix.contains(gateway) else {
                throw .invalidField("\(field).gateway", "gateway \(gateway) is not inside \(prefix.prefix)")
            }
            if gateway.family == .ipv4, prefix.edges.contains(gateway) {
                throw .invalidField(
                    "\(field).gateway", "gateway \(gateway) is the network or broadcast address of \(prefix.prefix)")
            }
        }
        for range in prefix.excluded
        where !prefix.prefix.contains(range.lower) || !prefix.prefix.contains(range.upper) {
            throw .invalidField("\(field).excluded", "\(range) is not inside \(prefix.prefix)")
        }
    }

    private func currentPool(_ name: String) -> Pool? { spaceIndexes[name].flatMap { spaces[$0]?.pool } }
}

extension Pool {
    /// Whether both say the same, whatever their revisions.
    func hasSameContent(as other: Pool) -> Bool {
        var other = other
        other.revision = revision
        return self == other
    }
}

extension PoolSpace {
    /// Whether an owner may have `address` at all.
    func canHold(_ address: IPAddress) -> Bool {
        prefixIndex(of: address).map { !prefixes[$0].withholds(address) } ?? false
    }

    /// In the order of freeing.
    var freed: [FreedAddress] { prefixes.flatMap { $0.freed.values }.sorted { $0.revision < $1.revision } }

    mutating func putFreed(_ address: FreedAddress) {
        if let index = prefixIndex(of: address.address) { prefixes[index].putFreed(address) }
    }
}
