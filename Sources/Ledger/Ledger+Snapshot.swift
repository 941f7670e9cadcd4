import Addresses
package import IPAMModel

extension Ledger {
    /// Rebuilds a ledger from a store. Throws where the snapshot breaks a promise (an address or MAC twice, an address
    /// outside its pool): a store that holds such a thing must not be served.
    ///
    /// `started`: when, where copies of its bindings may be in use of which this process knows nothing.
    package init(_ snapshot: Snapshot, startedAt started: Timestamp? = nil) throws(IPAMError) {
        self.init(startingAt: snapshot.revision)
        copies.start = started.map { ($0, snapshot.revision) }
        for pool in snapshot.pools {
            if spaceIndexes[pool.name] != nil { throw .inconsistent("pool \(pool.name) is there twice") }
            do { try check(pool) } catch { throw .inconsistent("pool \(pool.name): \(error.message)") }
            spaceIndexes[pool.name] = spaces.count
            spaces.append(PoolSpace(pool))
        }
        poolChoice = PoolChoice(spaces)
        for binding in snapshot.bindings {
            if let fault = fault(in: binding) { throw .inconsistent("the binding of \(binding.owner.key): \(fault)") }
            slots.append(nil)
            set(slots.count - 1, to: binding)
        }
        for freed in snapshot.freed.sorted(by: { $0.revision < $1.revision }) {
            guard let index = spaceIndexes[freed.pool], spaces[index]?.prefixIndex(of: freed.address) != nil else {
                throw .inconsistent("\(freed.address) is freed, but not an address of pool \(freed.pool)")
            }
            if let holder = holder(of: freed.address) {
                throw .inconsistent("\(freed.address) is freed, and held by \(holder.owner.key)")
            }
            if spaces[index]?.freed(freed.address) != nil {
                throw .inconsistent("\(freed.address) is freed twice")
            }
            if freed.revision > revision { throw .inconsistent("\(freed.address) was freed after the last revision") }
            var waiting = freed
            waiting.notBefore = started.flatMap { started in
                spaces[index].map { started.advanced(by: $0.pool.reuseDelay) }
            }
            spaces[index]?.putFreed(waiting)
        }
        for index in spaces.indices { commitSpace(index) }
        batch = Batch()
    }

    /// What keeps a stored binding from standing beside those before it.
    private func fault(in binding: Binding) -> String? {
        guard let space = spaceIndexes[binding.pool].flatMap({ spaces[$0] }) else {
            return "there is no pool \(binding.pool)"
        }
        if slot(of: binding.owner.key) != nil { return "it is there twice" }
        if binding.assignments.isEmpty { return "it has no address" }
        if Set(binding.assignments.map(\.address.family)).count != binding.assignments.count {
            return "it has two addresses of one family"
        }
        for assignment in binding.assignments {
            let address = assignment.address
            if !space.canHold(address) { return "\(address) is not an address of pool \(binding.pool)" }
            if space.assignment(of: address) != assignment {
                return "\(address) has not its prefix's length and gateway"
            }
            if let holder = holder(of: address) { return "\(address) is \(holder.owner.key)'s too" }
        }
        if let holder = holder(of: binding.mac, in: space) {
            return "\(binding.mac) is \(holder.owner.key)'s too"
        }
        if (binding.target == nil) != binding.migrationUID.isEmpty { return "a target and a migration go together" }
        if binding.revision > revision { return "it was changed after the last revision" }
        return nil
    }
}
