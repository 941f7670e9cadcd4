import Addresses
import IPAMModel
import Ledger

extension Model {
    private func check(_ pool: Pool) throws {
        if pool.prefixes.isEmpty { throw refuse(.invalidField) }
        for (index, prefix) in pool.prefixes.enumerated() {
            if let gateway = prefix.gateway, !prefix.prefix.contains(gateway) { throw refuse(.invalidField) }
            if pool.prefixes[..<index].contains(where: { $0.prefix.overlaps(prefix.prefix) }) {
                throw refuse(.poolOverlap)
            }
        }
        for other in pools where other.name != pool.name {
            for theirs in other.prefixes {
                for own in pool.prefixes where own.prefix.overlaps(theirs.prefix) {
                    let parts = [own, theirs]
                    let isShared =
                        own.prefix == theirs.prefix
                        && Set(Self.members(of: own)).isDisjoint(with: Self.members(of: theirs))
                        && !parts.compactMap(\.gateway).contains { gateway in
                            parts.contains { Self.isGivable(gateway, $0) }
                        }
                    if !isShared { throw refuse(.poolOverlap) }
                }
            }
        }
        if pool.isDefault, pools.contains(where: { $0.isDefault && $0.name != pool.name }) {
            throw refuse(.defaultPoolExists)
        }
    }

    /// What was freed in other pools and is this one's from now on.
    private func arriving(in pool: Pool, _ now: Timestamp) throws -> [FreedAddress] {
        let arriving = freed.filter { freed in
            freed.pool != pool.name
                && pool.prefixes.contains { $0.prefix.contains(freed.address) && Self.isGivable(freed.address, $0) }
        }
        if !arriving.allSatisfy({ isReady($0, now) }) { throw refuse(.poolInUse) }
        return arriving
    }

    mutating func createPool(_ pool: Pool, _ now: Timestamp) throws -> Pool {
        var new = pool
        if let old = self.pool(pool.name) {
            new.revision = old.revision
            if new == old { return old }
            throw refuse(.poolExists)
        }
        try check(pool)
        let arriving = try arriving(in: pool, now)
        revision += 1
        new.revision = revision
        freed.removeAll(where: arriving.contains)
        pools.append(new)
        return new
    }

    mutating func updatePool(_ pool: Pool, _ now: Timestamp) throws -> Pool {
        guard let index = pools.firstIndex(where: { $0.name == pool.name }) else { throw refuse(.poolNotFound) }
        var new = pool
        new.revision = pools[index].revision
        if new == pools[index] { return new }
        if pool.revision != 0, pool.revision != pools[index].revision { throw refuse(.poolChanged) }
        try check(pool)
        func canHold(_ address: IPAddress) -> Bool {
            pool.prefixes.contains { $0.prefix.contains(address) && Self.isGivable(address, $0) }
        }
        for entry in entries where entry.binding.pool == pool.name {
            if !entry.binding.assignments.allSatisfy({ canHold($0.address) }) { throw refuse(.poolInUse) }
        }
        let leaving = freed.filter { freed in
            freed.pool == pool.name && !pool.prefixes.contains { $0.prefix.contains(freed.address) }
        }
        if !leaving.allSatisfy({ isReady($0, now) }) { throw refuse(.poolInUse) }
        let arriving = try arriving(in: pool, now)
        revision += 1
        new.revision = revision
        let isToldOtherwise = pools[index].routes != new.routes || pools[index].dns != new.dns
        pools[index] = new
        freed.removeAll(where: (leaving + arriving).contains)
        for position in entries.indices where entries[position].binding.pool == pool.name {
            var entry = entries[position]
            entry.binding.assignments = entry.binding.assignments.compactMap { assignment($0.address, in: new) }
            if isToldOtherwise || entry.binding != entries[position].binding {
                _ = store(entry, position, entry.binding.updatedAt)
            }
        }
        return new
    }

    mutating func deletePool(_ name: String, _ now: Timestamp) throws -> Outcome {
        guard let index = pools.firstIndex(where: { $0.name == name }) else { return .poolDeleted }
        if entries.contains(where: { $0.binding.pool == name }) { throw refuse(.poolInUse) }
        if freed.contains(where: { $0.pool == name && !isReady($0, now) }) { throw refuse(.poolInUse) }
        revision += 1
        pools.remove(at: index)
        freed.removeAll { $0.pool == name }
        return .poolDeleted
    }

    // MARK: Usage

    func usage(of name: String, at now: Timestamp) -> [PrefixUsage] {
        guard let pool = pool(name) else { return [] }
        return pool.prefixes.map { prefix in
            let members = Self.members(of: prefix)
            let holders = members.compactMap(holder(of:))
            let reserved = holders.filter { $0.active == nil && $0.target == nil }.count
            let waiting = freed.filter { members.contains($0.address) && !isReady($0, now) }.count
            return PrefixUsage(
                prefix: prefix.prefix, total: UInt64(members.count), bound: UInt64(holders.count - reserved),
                reserved: UInt64(reserved), quarantined: UInt64(waiting),
                free: UInt64(members.count - holders.count - waiting))
        }
    }
}
