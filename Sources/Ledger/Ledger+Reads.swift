package import Addresses
package import IPAMModel

// Reads: the last committed state, which an open batch covers up where it touched something.
extension Ledger {
    package func binding(of owner: OwnerKey) -> Binding? {
        committed(current: slot(of: owner)) { $0.owner.key == owner }
    }

    package func binding(holding address: IPAddress) -> Binding? {
        committed(current: slot(holding: address)) { $0.assignments.contains { $0.address == address } }
    }

    package func freed(_ address: IPAddress) -> FreedAddress? {
        for step in batch.undo {
            switch step {
            case .putFreed(let freed) where freed.address == address: return nil
            case .removeFreed(let freed) where freed.address == address: return freed
            default: continue
            }
        }
        return spaces.lazy.compactMap { $0?.freed(address) }.first
    }

    /// When others than its last owner may have it; nil where its pool gives it to nobody.
    package func availability(of freed: FreedAddress) -> Timestamp? {
        guard let space = committedSpace(named: freed.pool), space.canHold(freed.address) else { return nil }
        return freed.readyAt(reuseDelay: space.pool.reuseDelay)
    }

    /// A page of bindings in a stable order; `token` nil on the last page. Throws on a token that is none of its own.
    ///
    /// Where the filter names neither an object nor a node, not more than `most` bindings are looked at: then a page may
    /// have fewer than `limit`, or none, and is not the last.
    package func bindings(
        matching filter: BindingFilter, after token: String?, limit: Int, lookingAt most: Int = .max
    ) throws(IPAMError) -> (bindings: [Binding], token: String?) {
        let start = try token.map { (token) throws(IPAMError) in try firstSlot(of: token) } ?? 0
        if let few = candidates(for: filter) {
            return page(of: few.lazy.filter { $0 >= start }, matching: filter, limit: limit)
        }
        let end = start + min(most, slots.count - start)
        let page = page(of: start..<end, matching: filter, limit: limit)
        return (page.bindings, page.token ?? (end < slots.count ? self.token(at: end) : nil))
    }

    private func page(
        of candidates: some Sequence<Int>, matching filter: BindingFilter, limit: Int
    ) -> (bindings: [Binding], token: String?) {
        var page: [Binding] = []
        for slot in candidates {
            guard let binding = committedBinding(in: slot), filter.matches(binding) else { continue }
            if page.count >= max(1, limit) { return (page, token(at: slot)) }
            page.append(binding)
        }
        return (page, nil)
    }

    package func pool(named name: String) -> Pool? { committedSpace(named: name)?.pool }

    /// By name.
    package var pools: [Pool] {
        spaces.indices.compactMap { committedSpace($0)?.pool }.sorted { $0.name < $1.name }
    }

    package func usage(ofPool name: String, at now: Timestamp) -> [PrefixUsage] {
        guard let space = committedSpace(named: name) else { return [] }
        return space.prefixes.map { prefix in
            let (counts, total) = (prefix.committedCounts, prefix.total)
            let waiting = UInt64(max(0, prefix.committedQuarantined(at: now)))
            let used = counts.bound + counts.reserved + waiting
            return PrefixUsage(
                prefix: prefix.definition.prefix, total: total, bound: counts.bound, reserved: counts.reserved,
                quarantined: waiting, free: total == .max ? .max : total - min(total, used))
        }
    }

    /// The bindings with an open migration, in no order.
    package var migrating: [Binding] {
        migratingSlots.union(batch.firstTouch.keys).compactMap(committedBinding).filter { $0.state == .migrating }
    }

    /// The committed binding in a slot.
    private func committedBinding(in slot: Int) -> Binding? {
        guard let touch = batch.firstTouch[slot] else { return slots[slot] }
        if case .changed(_, let before) = batch.undo[touch] { return before }
        return nil
    }

    /// The committed binding that satisfies `condition`, which at most one does; `current`: the slot that the open
    /// batch has for it.
    private func committed(current: Int?, where condition: (Binding) -> Bool) -> Binding? {
        if let current, batch.firstTouch[current] == nil { return slots[current] }
        for touch in batch.firstTouch.values {
            if case .changed(_, let before) = batch.undo[touch], condition(before) { return before }
        }
        return nil
    }

    private func committedSpace(named name: String) -> PoolSpace? {
        for index in batch.firstPut.keys {
            if let space = committedSpace(index), space.pool.name == name { return space }
        }
        guard let index = spaceIndexes[name], batch.firstPut[index] == nil else { return nil }
        return spaces[index]
    }

    /// The committed pool at an index.
    private func committedSpace(_ index: Int) -> PoolSpace? {
        if let put = batch.firstPut[index], case .space(_, let before) = batch.undo[put] { return before }
        return spaces[index]
    }

    /// The few slots that a binding of an object or of a node may be in, ascending; nil where the filter names neither.
    private func candidates(for filter: BindingFilter) -> [Int]? {
        var candidates: Set<Int>
        if let namespace = filter.namespace, let name = filter.name {
            candidates = Set(
                OwnerKind.allCases.flatMap { owners.all(OwnerKey.objectHash($0, namespace: namespace, name: name)) })
        } else if let node = filter.node {
            candidates = nodes[node] ?? []
        } else {
            return nil
        }
        // What the open batch has moved away from there is there still.
        candidates.formUnion(batch.firstTouch.keys)
        return candidates.sorted()
    }

    private func token(at slot: Int) -> String { "\(firstRevision)-\(slot)" }

    private func firstSlot(of token: String) throws(IPAMError) -> Int {
        let parts = token.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, UInt64(parts[0]) == firstRevision, let slot = Int(parts[1]), slot >= 0,
            slot <= slots.count
        else {
            throw .invalidField("page_token", "not a token of this list, or from before a restart; start again without")
        }
        return slot
    }
}
