import Addresses
package import IPAMModel

// A ledger that follows: what another server has made durable, put in place without asking the rules again.
extension Ledger {
    /// Takes over the changes of whole commits, each fact once, in any order; there must be no open batch. Throws
    /// `LEDGER_INCONSISTENT` where they do not fit what is there; the ledger is useless then.
    package mutating func follow(_ changes: [Change], revision: UInt64) throws(IPAMError) {
        // First everything that goes, then everything that comes: an address may go from one binding to another.
        var freed: [FreedAddress] = []
        var pools: [Pool] = []
        var gonePools: [String] = []
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
            case .removeFreed(let address): forgetFreed(address)
            case .putPool(let pool): pools.append(pool)
            case .removePool(let name): gonePools.append(name)
            case .putHistory, .removeHistory: break
            }
        }
        // It may have been freed in another pool before.
        if !pools.isEmpty { for address in freed { forgetFreed(address.address, unlessOf: address.revision) } }
        for name in gonePools {
            guard let index = spaceIndexes[name] else { continue }
            if spaces[index]?.isUsed == true { throw .inconsistent("pool \(name) is gone, and has bindings") }
            setSpace(index, to: nil)
        }
        for pool in pools {
            if let index = spaceIndexes[pool.name] {
                setSpace(index, to: space(at: index, changedTo: pool))
            } else {
                let index = vacantSpace()
                setSpace(index, to: PoolSpace(pool))
            }
        }
        for pool in pools {
            do { try check(pool) } catch { throw .inconsistent("pool \(pool.name): \(error.message)") }
        }
        for (slot, binding) in places {
            for assignment in binding.assignments where self.slot(holding: assignment.address) != nil {
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

    /// In whatever pool it is.
    private mutating func forgetFreed(_ address: IPAddress, unlessOf revision: UInt64? = nil) {
        guard let index = spaces.firstIndex(where: { $0?.freed(address) != nil }),
            spaces[index]?.freed(address)?.revision != revision
        else { return }
        spaces[index]?.removeFreed(address)
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

extension PoolSpace {
    fileprivate mutating func removeFreed(_ address: IPAddress) {
        if let index = prefixIndex(of: address) { prefixes[index].removeFreed(address) }
    }
}
