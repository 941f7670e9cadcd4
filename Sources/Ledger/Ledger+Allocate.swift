import Addresses
import IPAMModel

// Allocate: promises 1 (unique) and 2 (fixed).
extension Ledger {
    mutating func allocate(_ request: AllocateRequest, at now: Timestamp) throws(IPAMError) -> Outcome {
        if request.addresses.count > 1, Set(request.addresses.map(\.family)).count < request.addresses.count {
            throw .invalidField("addresses", "name at most one address of each family")
        }
        if let mac = request.mac, mac.isMulticast || mac.isZero {
            throw .invalidField("mac", "\(mac) is not the address of one interface: it must be unicast and not zero")
        }
        if let slot = slot(of: request.owner.key), let binding = slots[slot] {
            return .allocated(try renew(binding, in: slot, for: request, at: now), created: false)
        }
        return .allocated(try create(for: request, at: now), created: true)
    }

    private mutating func create(for request: AllocateRequest, at now: Timestamp) throws(IPAMError) -> Binding {
        var (binding, index) = try propose(for: request, at: now)
        if let attachment = request.attachment { binding.activate(attachment) }
        let revision = nextRevision()
        binding.id = revision
        for assignment in binding.assignments { take(assignment.address, in: index, for: &binding, at: now) }
        noteCopy(of: &binding, keptBy: request.copyKeeper, at: now)
        add(&binding, revision: revision, at: now)
        return binding
    }

    /// A new owner's binding, and its pool's index. Apart from `create`, so that no copy of the pool is left when that
    /// changes it: a copy would make every change copy the pool's dictionaries.
    private func propose(
        for request: AllocateRequest, at now: Timestamp
    ) throws(IPAMError) -> (binding: Binding, poolIndex: Int) {
        let key = request.owner.key
        let index = try choosePool(for: request, current: nil)
        guard let space = spaces[index] else { throw .poolNotFound(request.pool ?? "") }
        try checkQuota(of: space, namespace: key.namespace)
        let addresses = try chooseAddresses(in: space, requested: request.addresses, keeping: [], for: key, at: now)
        if let mac = request.mac { try checkFree(mac, in: space, for: key) }
        let binding = Binding(
            owner: request.owner, pool: space.pool.name, assignments: addresses.compactMap(space.assignment),
            mac: request.mac ?? MACAddress(for: key) { holder(of: $0, in: space) == nil }, revision: 0, createdAt: now,
            updatedAt: now)
        return (binding, index)
    }

    /// The owner's binding, carried by the request's attachment. Its addresses and MAC change only on request, and only
    /// while nobody carries it.
    private mutating func renew(
        _ old: Binding, in slot: Int, for request: AllocateRequest, at now: Timestamp
    ) throws(IPAMError) -> Binding {
        var binding = old
        if let attachment = request.attachment, binding.isLate(attachment) { throw .superseded(attachment, binding) }
        if binding.owner.isAnotherObject(than: request.owner.uid) {
            // Promise 5: without a pod nothing tells a new object's reserve from a late one of an object that is gone.
            if request.attachment == nil, binding.isCarried { throw .carriedByAnother(request.owner, binding) }
            binding.dropAttachments(for: request.attachment)
        }
        if !request.owner.uid.isEmpty { binding.owner.uid = request.owner.uid }
        let vacated = try move(&binding, for: request, at: now)
        if binding.assignments != old.assignments || binding.mac != old.mac {
            try awaitCopies(of: old, exceptOf: request.attachment?.node, at: now)
        }
        let lastUse = vacated.isEmpty ? nil : lastUse(ofLost: old, at: now)
        noteCopy(of: &binding, keptBy: request.copyKeeper, at: now)
        if let attachment = request.attachment {
            if binding.active?.id.matches(attachment.id) == true {
                binding.active?.learn(from: attachment)
            } else {
                binding.activate(attachment)
            }
        }
        guard binding != old else { return old }

        let revision = nextRevision()
        if !vacated.isEmpty || binding.assignments != old.assignments {
            let kept = Set(old.assignments.map(\.address))
            guard let index = spaceIndexes[binding.pool] else { throw .poolNotFound(binding.pool) }
            for assignment in binding.assignments where !kept.contains(assignment.address) {
                take(assignment.address, in: index, for: &binding, at: now)
            }
        }
        put(&binding, in: slot, revision: revision, at: now)
        for address in vacated {
            putFreed(
                FreedAddress(
                    address: address, pool: old.pool, lastOwner: old.owner, freedAt: now, revision: revision,
                    notBefore: lastUse))
        }
        return binding
    }

    /// Gives `binding` the pool, addresses and MAC that the request names, where they differ; returns the addresses
    /// that it no longer has.
    private func move(
        _ binding: inout Binding, for request: AllocateRequest, at now: Timestamp
    ) throws(IPAMError) -> [IPAddress] {
        let held = binding.assignments.map(\.address)
        let key = binding.owner.key
        let wantsPool = request.pool != nil && request.pool != binding.pool
        let wantsAddress = !request.addresses.allSatisfy(held.contains)
        let wantsMAC = request.mac != nil && request.mac != binding.mac
        if let pool = request.pool, spaceIndexes[pool] == nil { throw .poolNotFound(pool) }
        if wantsPool || wantsAddress, binding.isCarried {
            throw .addressChange(binding, field: wantsAddress ? "addresses" : "pool")
        }
        if wantsMAC, binding.isCarried { throw .macChange(binding) }
        guard wantsPool || wantsAddress || wantsMAC else { return [] }

        var index = spaceIndexes[binding.pool] ?? 0
        var kept = held
        if wantsPool || wantsAddress { index = try choosePool(for: request, current: binding.pool) }
        guard let space = spaces[index] else { throw .poolNotFound(binding.pool) }
        let isElsewhere = space.pool.name != binding.pool
        if isElsewhere {
            try checkQuota(of: space, namespace: key.namespace)
            kept = []
        }
        if wantsMAC || isElsewhere { try checkFree(request.mac ?? binding.mac, in: space, for: key) }
        if wantsPool || wantsAddress {
            let addresses = try chooseAddresses(
                in: space, requested: request.addresses, keeping: kept, for: key, at: now)
            binding.pool = space.pool.name
            binding.assignments = addresses.compactMap(space.assignment)
        }
        binding.mac = request.mac ?? binding.mac
        return held.filter { address in !binding.assignments.contains { $0.address == address } }
    }

    /// The pool that the request names; else the one that has the requested address; else `current`; else the first
    /// that lists the namespace; else the default.
    private func choosePool(for request: AllocateRequest, current: String?) throws(IPAMError) -> Int {
        let namespace = request.owner.namespace
        if let name = request.pool {
            guard let index = spaceIndexes[name], let space = spaces[index] else { throw .poolNotFound(name) }
            guard space.isOpen(to: namespace) else { throw .namespaceNotAllowed(namespace, pool: name) }
            if let revision = request.poolRevision, revision != space.pool.revision { throw .poolChanged(space.pool) }
            return index
        }
        var usual = current.flatMap { spaceIndexes[$0] } ?? poolChoice.listing(namespace)
        if usual == nil, let index = poolChoice.byDefault, spaces[index]?.isOpen(to: namespace) == true {
            usual = index
        }
        if let first = request.addresses.first, let other = spaceIndex(of: first), let space = spaces[other],
            space.isOpen(to: namespace),
            space.canHold(first) || usual.flatMap({ spaces[$0]?.prefixIndex(of: first) }) == nil
        {
            return other
        }
        guard let usual else {
            throw .noDefaultPool(namespace, closed: poolChoice.byDefault.flatMap { spaces[$0]?.pool.name })
        }
        // What it has there it keeps, but it gets no more.
        if let current, spaces[usual]?.isOpen(to: namespace) == false {
            throw .namespaceNotAllowed(namespace, pool: current)
        }
        return usual
    }

    /// One address of each family of the pool, IPv4 first: the requested one, else the one in `keeping`, else what a VM
    /// of this name had before, else a free one. A binding that has addresses already gets no further family unasked.
    private func chooseAddresses(
        in space: PoolSpace, requested: [IPAddress], keeping: [IPAddress], for owner: OwnerKey, at now: Timestamp
    ) throws(IPAMError) -> [IPAddress] {
        for address in requested where !keeping.contains(address) {
            try checkFree(address, in: space, for: owner, at: now)
        }
        var chosen: [IPAddress] = []
        for family in space.families {
            if let address = requested.first(where: { $0.family == family })
                ?? keeping.first(where: { $0.family == family })
            {
                chosen.append(address)
            } else if keeping.isEmpty {
                guard let address = space.propose(family, for: owner, at: now) else {
                    if let choosesFrom = space.choosesFrom, now < choosesFrom {
                        throw .poolHeld(space.pool.name, family, until: choosesFrom)
                    }
                    throw .poolExhausted(space.pool.name, family, nextReady: space.nextReady(family))
                }
                chosen.append(address)
            }
        }
        return chosen
    }

    /// Where it was freed it is so no longer, but `binding`'s.
    private mutating func take(_ address: IPAddress, in index: Int, for binding: inout Binding, at now: Timestamp) {
        guard let freed = spaces[index]?.freed(address) else { return }
        inheritCopies(of: freed, to: &binding, at: now)
        removeFreed(freed)
    }

    private func checkFree(
        _ address: IPAddress, in space: PoolSpace, for owner: OwnerKey, at now: Timestamp
    ) throws(IPAMError) {
        guard let prefix = space.prefixIndex(of: address) else {
            throw .addressOutsidePool(address, space.pool)
        }
        if space.prefixes[prefix].withholds(address) {
            throw .addressExcluded(address, space.prefixes[prefix].definition, pool: space.pool.name)
        }
        if let holder = holder(of: address), holder.owner.key != owner {
            throw .addressTaken(address, holder: holder.owner.key)
        }
        if let freed = space.freed(address), freed.lastOwner.key != owner,
            !freed.isReady(at: now, reuseDelay: space.pool.reuseDelay)
        {
            throw .addressQuarantined(freed, until: freed.readyAt(reuseDelay: space.pool.reuseDelay))
        }
    }

    private func checkFree(_ mac: MACAddress, in space: PoolSpace, for owner: OwnerKey) throws(IPAMError) {
        if let holder = holder(of: mac, in: space), holder.owner.key != owner {
            throw .macTaken(mac, holder: holder.owner.key)
        }
    }

    func checkQuota(of space: PoolSpace, namespace: String) throws(IPAMError) {
        let quota = Int(space.pool.namespaceQuota)
        if quota > 0, space.bindingsOfNamespace[namespace, default: 0] >= quota {
            throw .quotaExceeded(namespace, space.pool)
        }
    }

    func slot(of owner: OwnerKey) -> Int? {
        owners.first(owner.objectHash) { slots[$0]?.owner.key == owner }
    }

    func slot(holding address: IPAddress) -> Int? {
        holders.first(address.slotHash) { slots[$0]?.has(address) == true }
    }

    func holder(of address: IPAddress) -> Binding? { slot(holding: address).flatMap { slots[$0] } }

    /// In a pool, where no two bindings have one MAC.
    func holder(of mac: MACAddress, in space: PoolSpace) -> Binding? {
        macs.first(mac.slotHash) { slots[$0]?.mac == mac && slots[$0]?.pool == space.pool.name }.flatMap { slots[$0] }
    }

    /// The pool that may give `address`; else one that has it in a prefix.
    private func spaceIndex(of address: IPAddress) -> Int? {
        spaces.firstIndex { $0?.canHold(address) == true } ?? spaces.firstIndex { $0?.prefixIndex(of: address) != nil }
    }
}

extension Binding {
    fileprivate func has(_ address: IPAddress) -> Bool { assignments.contains { $0.address == address } }
}
