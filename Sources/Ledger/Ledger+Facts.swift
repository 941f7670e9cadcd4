import Addresses
import IPAMModel

// The only code that changes the ledger's facts: it keeps the indexes in step, and notes the change and its undoing.
extension Ledger {
    /// A new revision, for one command that changes something.
    mutating func nextRevision() -> UInt64 {
        revision += 1
        return revision
    }

    /// Stamps a binding's new content, and puts it in its slot.
    mutating func put(_ binding: inout Binding, in slot: Int, revision: UInt64, at now: Timestamp) {
        binding.revision = revision
        binding.updatedAt = now
        if var old = slots[slot] {
            if let end = old.end(followedBy: binding) {
                noteHistory(of: old, endedBy: end, revision: revision, at: now)
                binding.heldSince = now
                binding.heldBy = batch.caller
            }
            if old.owner.key != binding.owner.key {
                // Under its old owner it is no more: stores and watches know a binding by its owner.
                old.revision = revision
                old.updatedAt = now
                batch.changes.append(.removeBinding(old))
            }
        } else {
            binding.heldSince = now
            binding.heldBy = batch.caller
        }
        batch.changes.append(.putBinding(binding))
        noteUndo(ofSlot: slot)
        set(slot, to: binding)
    }

    /// Stamps and puts a new binding.
    mutating func add(_ binding: inout Binding, revision: UInt64, at now: Timestamp) {
        let slot = vacantSlots.popLast() ?? slots.count
        if slot == slots.count { slots.append(nil) }
        put(&binding, in: slot, revision: revision, at: now)
    }

    /// Takes a binding away and frees its addresses.
    mutating func free(slot: Int, revision: UInt64, at now: Timestamp) {
        guard var binding = slots[slot] else { return }
        noteHistory(of: binding, endedBy: .freed, revision: revision, at: now)
        let owner = binding.owner
        let (pool, assignments) = (binding.pool, binding.assignments)
        binding.revision = revision
        binding.updatedAt = now
        batch.changes.append(.removeBinding(binding))
        noteUndo(ofSlot: slot)
        set(slot, to: nil)
        vacantSlots.append(slot)
        let notBefore = lastUse(ofLost: binding, at: now)
        for assignment in assignments {
            putFreed(
                FreedAddress(
                    address: assignment.address, pool: pool, lastOwner: owner, freedAt: now, revision: revision,
                    notBefore: notBefore))
        }
    }

    /// The present of `binding` is past.
    private mutating func noteHistory(
        of binding: Binding, endedBy end: HistoryEntry.End, revision: UInt64, at now: Timestamp
    ) {
        var entry = HistoryEntry(binding)
        entry.until = now
        entry.end = end
        entry.endedBy = batch.caller
        entry.revision = revision
        batch.changes.append(.putHistory(entry))
    }

    mutating func putFreed(_ freed: FreedAddress) {
        withPrefix(of: freed.address, inPool: freed.pool) { $0.putFreed(freed) }
        batch.undo.append(.putFreed(freed))
        batch.changes.append(.putFreed(freed))
    }

    mutating func removeFreed(_ freed: FreedAddress) {
        withPrefix(of: freed.address, inPool: freed.pool) { $0.removeFreed(freed.address) }
        batch.undo.append(.removeFreed(freed))
        batch.changes.append(.removeFreed(freed.address))
    }

    /// Puts a pool in place of the one at `index`, or as a new one.
    mutating func put(_ space: PoolSpace, at index: Int?) {
        let slot = index ?? vacantSpace()
        noteUndo(ofSpace: slot)
        batch.changes.append(.putPool(space.pool))
        setSpace(slot, to: space)
    }

    mutating func removePool(at index: Int) {
        guard let space = spaces[index] else { return }
        noteUndo(ofSpace: index)
        batch.changes.append(.removePool(name: space.pool.name))
        setSpace(index, to: nil)
    }

    /// Where a new pool goes.
    mutating func vacantSpace() -> Int {
        // A deleted pool's place is taken again: every batch and look-up by address walks them all.
        if let index = spaces.firstIndex(where: { $0 == nil }) { return index }
        spaces.append(nil)
        return spaces.count - 1
    }

    mutating func commitSpace(_ index: Int) {
        guard let count = spaces[index]?.prefixes.count else { return }
        for prefix in 0..<count { spaces[index]?.prefixes[prefix].commit() }
    }

    mutating func undo(_ step: Batch.Undo) {
        switch step {
        case .added(let slot):
            set(slot, to: nil)
            vacantSlots.append(slot)
        case .changed(let slot, let before):
            // The vacant slots are a stack, so that undoing in reverse finds this one on its top.
            if slots[slot] == nil { vacantSlots.removeLast() }
            set(slot, to: before)
        case .putFreed(let freed):
            withPrefix(of: freed.address, inPool: freed.pool) { $0.undoPutFreed(freed.address) }
        case .removeFreed(let freed):
            withPrefix(of: freed.address, inPool: freed.pool) { $0.undoRemoveFreed(freed) }
        case .space(let index, let before):
            setSpace(index, to: before)
        }
    }

    private mutating func noteUndo(ofSlot slot: Int) {
        if batch.firstTouch[slot] == nil { batch.firstTouch[slot] = batch.undo.count }
        batch.undo.append(slots[slot].map { .changed(slot: slot, before: $0) } ?? .added(slot: slot))
    }

    private mutating func noteUndo(ofSpace index: Int) {
        if batch.firstPut[index] == nil { batch.firstPut[index] = batch.undo.count }
        batch.undo.append(.space(index: index, before: spaces[index]))
        batch.touch(space: index)
    }

    private mutating func withPrefix(of address: IPAddress, inPool pool: String, _ body: (inout PrefixSpace) -> Void) {
        guard let index = spaceIndexes[pool], let prefix = spaces[index]?.prefixIndex(of: address) else { return }
        batch.touch(space: index)
        spaces[index]?.withPrefix(prefix, body)
    }

    mutating func setSpace(_ index: Int, to space: PoolSpace?) {
        let before = spaces[index]?.pool
        if let name = before?.name { spaceIndexes[name] = nil }
        spaces[index] = space
        if let name = space?.pool.name { spaceIndexes[name] = index }
        if [before, space?.pool].contains(where: { $0?.isForThoseWhoNameNone == true }) {
            poolChoice = PoolChoice(spaces)
        }
    }

    /// Changes a slot's content and what is indexed of it, and nothing else.
    mutating func set(_ slot: Int, to new: Binding?) {
        let old = slots[slot]
        slots[slot] = new
        guard let old, let new else {
            if let old { unindex(old, slot) }
            if let new { index(new, slot) }
            return
        }
        if old.owner.key != new.owner.key {
            owners.remove(slot, old.owner.key.objectHash)
            owners.insert(slot, new.owner.key.objectHash)
        }
        if old.active?.containerID != new.active?.containerID || old.target?.containerID != new.target?.containerID
            || old.released != new.released || old.endedMigration?.released != new.endedMigration?.released
        {
            old.forEachContainer { containers.remove(slot, $0.slotHash) }
            new.forEachContainer { containers.insert(slot, $0.slotHash) }
        }
        if old.active?.node != new.active?.node || old.target?.node != new.target?.node {
            old.forEachCarrier { forget(slot, onNode: $0.node) }
            new.forEachCarrier { nodes[$0.node, default: []].insert(slot) }
        }
        if (old.target == nil) != (new.target == nil) {
            if new.target == nil { migratingSlots.remove(slot) } else { migratingSlots.insert(slot) }
        }
        if old.pool != new.pool || old.mac != new.mac || old.owner.namespace != new.owner.namespace
            || old.assignments != new.assignments || old.isCarried != new.isCarried
        {
            unplace(old, slot)
            place(new, slot)
        }
    }

    private mutating func index(_ binding: Binding, _ slot: Int) {
        owners.insert(slot, binding.owner.key.objectHash)
        binding.forEachContainer { containers.insert(slot, $0.slotHash) }
        binding.forEachCarrier { nodes[$0.node, default: []].insert(slot) }
        if binding.target != nil { migratingSlots.insert(slot) }
        place(binding, slot)
    }

    private mutating func unindex(_ binding: Binding, _ slot: Int) {
        owners.remove(slot, binding.owner.key.objectHash)
        binding.forEachContainer { containers.remove(slot, $0.slotHash) }
        binding.forEachCarrier { forget(slot, onNode: $0.node) }
        migratingSlots.remove(slot)
        unplace(binding, slot)
    }

    private mutating func forget(_ slot: Int, onNode node: String) {
        nodes[node]?.remove(slot)
        if nodes[node]?.isEmpty == true { nodes[node] = nil }
    }

    private mutating func place(_ binding: Binding, _ slot: Int) {
        guard let index = spaceIndexes[binding.pool] else { return }
        batch.touch(space: index)
        for assignment in binding.assignments { holders.insert(slot, assignment.address.slotHash) }
        macs.insert(slot, binding.mac.slotHash)
        spaces[index]?.place(binding)
    }

    private mutating func unplace(_ binding: Binding, _ slot: Int) {
        guard let index = spaceIndexes[binding.pool] else { return }
        batch.touch(space: index)
        for assignment in binding.assignments { holders.remove(slot, assignment.address.slotHash) }
        macs.remove(slot, binding.mac.slotHash)
        spaces[index]?.unplace(binding)
    }
}

extension PoolSpace {
    fileprivate mutating func withPrefix(_ index: Int, _ body: (inout PrefixSpace) -> Void) { body(&prefixes[index]) }

    /// Counts a binding in.
    mutating func place(_ binding: Binding) {
        bindingsOfNamespace[binding.owner.namespace, default: 0] += 1
        for assignment in binding.assignments {
            guard let index = prefixIndex(of: assignment.address) else { continue }
            prefixes[index].hold(assignment.address, isCarried: binding.isCarried)
        }
    }

    /// Counts it out.
    mutating func unplace(_ binding: Binding) {
        let left = bindingsOfNamespace[binding.owner.namespace, default: 0] - 1
        bindingsOfNamespace[binding.owner.namespace] = left > 0 ? left : nil
        for assignment in binding.assignments {
            guard let index = prefixIndex(of: assignment.address) else { continue }
            prefixes[index].letGo(assignment.address, isCarried: binding.isCarried)
        }
    }
}

extension Binding {
    /// What of who had its addresses where came to an end when `next` took its place; nil: nothing.
    fileprivate func end(followedBy next: Binding) -> HistoryEntry.End? {
        if owner.key != next.owner.key || owner.isAnotherObject(than: next.owner.uid) { return .transferred }
        if !assignments.lazy.map(\.address).elementsEqual(next.assignments.lazy.map(\.address)) { return .readdressed }
        switch (active, next.active) {
        case (nil, nil): return nil
        case (_, nil): return .detached
        case (nil, _): return .attached
        case (let old?, let new?): return old.isSamePod(as: new) ? nil : .attached
        }
    }

    /// Of those that carry it, and of those whose release may be repeated.
    fileprivate func forEachContainer(_ body: (String) -> Void) {
        func name(_ id: String?) { if let id, !id.isEmpty { body(id) } }
        name(active?.containerID)
        name(target?.containerID)
        name(released?.containerID)
        name(endedMigration?.released?.containerID)
    }

    /// An array of them would be made and forgotten with every change.
    fileprivate func forEachCarrier(_ body: (Attachment) -> Void) {
        if let active { body(active) }
        if let target { body(target) }
    }
}
