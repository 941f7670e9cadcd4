import Addresses
package import IPAMModel

// A ledger that follows: what another server has made durable, put in place without asking the rules again.
extension Ledger {
    /// Takes over the changes of whole commits, each fact once, in any order; there must be no open batch. Throws
    /// `LEDGER_INCONSISTENT` where they do not fit what is there; the ledger is useless then.
    package mutating func follow(_ changes: [Change], revision: UInt64) throws(IPAMError) {
        if changes.contains(where: \.isOfPool) {
            var next = snapshot
            next.apply(changes)
            next.revision = revision
            self = try Ledger(next)
            return
        }
        // First everything that goes, then everything that comes: an address may go from one binding to another.
        var freed: [FreedAddress] = []
        var places: [(slot: Int, binding: Binding)] = []
        for change in changes {
            switch change {
            case .putBinding(let binding):
                let slot = slot(of: binding.owner.key)
                if let slot { set(slot, to: nil) }
                places.append((slot ?? -1, binding))
            case .removeBinding(let binding):
                guard let slot = slot(of: binding.owner.key) else { continue }
                set(slot, to: nil)
                vacantSlots.append(slot)
            case .putFreed(let address): freed.append(address)
            case .removeFreed(let address):
                if let index = spaces.firstIndex(where: { $0?.freed(address) != nil }) {
                    spaces[index]?.removeFreed(address)
                }
            case .putPool, .removePool, .putHistory, .removeHistory: break
            }
        }
        for (slot, binding) in places {
            for assignment in binding.assignments where holders[assignment.address] != nil {
                throw .inconsistent("\(assignment.address) would be in two bindings")
            }
            let place = slot >= 0 ? slot : vacantSlots.popLast() ?? slots.count
            if place == slots.count { slots.append(nil) }
            set(place, to: binding)
        }
        for address in freed.sorted(by: { $0.revision < $1.revision }) {
            guard let index = spaceIndexes[address.pool] else { continue }
            // It was given and freed again in one commit, which says the last only; or a journal says it twice.
            if let known = spaces[index]?.freed(address.address) {
                if known.revision == address.revision { continue }
                spaces[index]?.removeFreed(address.address)
            }
            spaces[index]?.putFreed(address)
        }
        for index in spaces.indices { commitSpace(index) }
        batch = Batch()
        self.revision = revision
        committedRevision = revision
    }

    /// This server leads from now on. Page tokens of other terms, whose slots are others, are not taken for this one's.
    package mutating func begin(term: UInt64) { firstRevision = term }

    /// It is served from `now` on, by a process that knows nothing of copies granted before and whose clock may be another
    /// than its predecessor's: what was freed before waits its whole time again.
    package mutating func start(at now: Timestamp) {
        copies.start = (now, committedRevision)
        for index in spaces.indices {
            guard let delay = spaces[index]?.pool.reuseDelay, let count = spaces[index]?.prefixes.count else {
                continue
            }
            spaces[index]?.longestDelay = delay
            for prefix in 0..<count { spaces[index]?.prefixes[prefix].holdFreed(until: now.advanced(by: delay)) }
        }
    }

    /// The latest time that a binding or a freed address has.
    package var newestTime: Timestamp {
        max(
            slots.lazy.compactMap { $0?.updatedAt }.max() ?? Timestamp(nanoseconds: 0),
            spaces.lazy.compactMap { $0?.freed.map(\.freedAt).max() }.max() ?? Timestamp(nanoseconds: 0))
    }

    /// All that is committed, in no order; there must be no open batch.
    package var snapshot: Snapshot {
        Snapshot(
            revision: committedRevision, pools: spaces.compactMap { $0?.pool }, bindings: slots.compactMap { $0 },
            freed: spaces.flatMap { $0?.freed ?? [] })
    }
}

extension Change {
    fileprivate var isOfPool: Bool {
        switch self {
        case .putPool, .removePool: true
        case .putBinding, .removeBinding, .putFreed, .removeFreed, .putHistory, .removeHistory: false
        }
    }
}

extension Snapshot {
    fileprivate mutating func apply(_ changes: [Change]) {
        var (pools, bindings, freed) = (
            Dictionary(uniqueKeysWithValues: pools.map { ($0.name, $0) }),
            Dictionary(uniqueKeysWithValues: bindings.map { ($0.owner.key, $0) }),
            Dictionary(uniqueKeysWithValues: freed.map { ($0.address, $0) })
        )
        for change in changes {
            switch change {
            case .putBinding(let binding): bindings[binding.owner.key] = binding
            case .removeBinding(let binding): bindings[binding.owner.key] = nil
            case .putFreed(let address): freed[address.address] = address
            case .removeFreed(let address): freed[address] = nil
            case .putPool(let pool): pools[pool.name] = pool
            case .removePool(let name): pools[name] = nil
            case .putHistory, .removeHistory: break
            }
        }
        self.pools = Array(pools.values)
        self.bindings = Array(bindings.values)
        self.freed = Array(freed.values)
    }
}

extension PoolSpace {
    fileprivate mutating func removeFreed(_ address: IPAddress) {
        if let index = prefixIndex(of: address) { prefixes[index].removeFreed(address) }
    }
}
