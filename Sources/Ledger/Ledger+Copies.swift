package import IPAMModel

// Copies: what a node that cannot reach the server may go on giving to its VMs. Quarantine keeps a freed address away from
// others for as long; what moves without quarantine waits here.
extension Ledger {
    /// Says of each copy whether the node may use it on, and grants that.
    mutating func renewCopies(_ request: RenewCopiesRequest, at now: Timestamp) -> [CopyStanding] {
        for copy in request.dropped { copies.drop(copy.owner.key, by: request.node, ticket: copy.ticket) }
        return request.copies.map { copy in
            let key = copy.owner.key
            guard let binding = slot(of: key).flatMap({ slots[$0] }), binding.owner.uid == copy.owner.uid,
                binding.isCopied, binding.isOf(request.node), let delay = copyValidity(of: binding, at: now)
            else { return CopyStanding(validFor: nil, ticket: copies.ticket(of: key, on: request.node)) }
            copies.grant(key, to: request.node, until: now.advanced(by: delay), at: now)
            return CopyStanding(validFor: delay, binding: binding.revision == copy.revision ? nil : binding)
        }
    }

    /// How long `node` may use the copy that it was granted in this same moment; nil: it was granted none.
    package func grantedCopy(of binding: Binding, to node: String, at now: Timestamp) -> Delay? {
        guard let delay = copyValidity(of: binding, at: now),
            let until = copies.until(binding.owner.key, on: node), now < until
        else { return nil }
        return min(delay, Delay(nanoseconds: until.nanoseconds - now.nanoseconds))
    }

    /// How long a copy that is made now may be used; nil: there must be none.
    private func copyValidity(of binding: Binding, at now: Timestamp) -> Delay? {
        guard binding.isCopied, !copies.isClosed(binding.owner.key, at: now),
            let delay = spaceIndexes[binding.pool].flatMap({ spaces[$0]?.pool.reuseDelay }), delay > .seconds(0)
        else { return nil }
        return delay
    }

    /// The answer to this request is what `node` will have a copy of.
    mutating func noteCopy(of binding: inout Binding, keptBy node: String?, at now: Timestamp) {
        guard let node, binding.owner.kind == .virtualMachine else { return }
        binding.isCopied = true
        guard let delay = copyValidity(of: binding, at: now) else { return }
        copies.grant(binding.owner.key, to: node, until: now.advanced(by: delay), at: now)
    }

    /// Throws UNAVAILABLE while a node may give the binding's addresses to its present owner without asking; from now on
    /// none is allowed to.
    mutating func awaitCopies(of binding: Binding, exceptOf node: String? = nil, at now: Timestamp) throws(IPAMError) {
        guard binding.isCopied else { return }
        copies.close(binding.owner.key, at: now)
        var open = copies.open(binding.owner.key, exceptOf: node, at: now)
        if open.isEmpty, let until = unknownUse(of: binding), now < until { open = [("", until)] }
        if !open.isEmpty { throw .copiesOutstanding(binding, open, now: now) }
        copies.reopen(binding.owner.key)
    }

    /// Until when copies of which this process knows nothing may be in use; nil: of this binding there are none.
    private func unknownUse(of binding: Binding) -> Timestamp? {
        guard binding.isCopied, let start = copies.start, binding.id <= start.revision,
            let delay = spaceIndexes[binding.pool].flatMap({ spaces[$0]?.longestDelay })
        else { return nil }
        return start.at.advanced(by: delay)
    }

    /// Until when copies of the addresses that `binding` loses now may be in use.
    mutating func lastUse(ofLost binding: Binding, at now: Timestamp) -> Timestamp? {
        if let until = unknownUse(of: binding), now < until {
            copies.grant(binding.owner.key, to: "", until: until, at: now)
        }
        return copies.lastUse(of: binding.owner.key)
    }

    /// Its last owner may have a freed address at once, and with it come the copies of it that may be in use: else they
    /// would be forgotten once it goes on to another.
    mutating func inheritCopies(of freed: FreedAddress, to binding: inout Binding, at now: Timestamp) {
        let key = binding.owner.key
        guard freed.lastOwner.key == key, key.kind == .virtualMachine else { return }
        if let start = copies.start, freed.revision <= start.revision, let until = freed.notBefore, now < until {
            copies.grant(key, to: "", until: until, at: now)
        }
        if let last = copies.lastUse(of: key), now < last { binding.isCopied = true }
    }
}

extension Binding {
    /// Whether a copy on `node` is of use: it carries the VM, or may be the next to do so.
    fileprivate func isOf(_ node: String) -> Bool {
        active == nil || active?.node == node || target?.node == node
    }
}

extension Command {
    /// The node that will have a copy of the answer.
    package var copyKeeper: String? {
        switch self {
        case .allocate(let request): request.copyKeeper
        case .transfer(let request): request.copyKeeper
        default: nil
        }
    }
}

extension AllocateRequest {
    var copyKeeper: String? { keepsCopy ? attachment?.node : nil }
}

extension TransferRequest {
    var copyKeeper: String? {
        guard keepsCopy, case .prepare(let target, _) = phase else { return nil }
        return target.node
    }
}
