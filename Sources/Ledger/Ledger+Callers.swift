import IPAMModel

// Promise 8: an agent acts for its own node only. Judged as part of the command's batch, by the attachments that the
// binding has just then: between a look before and the change another command could come.
extension Ledger {
    /// Throws PERMISSION_DENIED where `command` is not the caller's business; changes nothing.
    func check(_ command: Command, of caller: Caller) throws(IPAMError) {
        guard caller.isBoundToNode else {
            if case .updatePool(let pool, for: let namespace?) = command {
                try checkDescription(of: pool, for: namespace)
            }
            return
        }
        guard let node = caller.node else { throw .nodeUnknown(caller) }
        let agent = NodeAgent(name: caller.name, node: node)
        switch command {
        case .allocate(let request): try check(request, of: agent)
        case .release(let request): try check(request, of: agent)
        case .transfer(let request): try check(request, of: agent)
        case .renewCopies(let request): try agent.owns(request.node, "copies of node \(request.node)")
        case .createPool(let pool):
            try agent.mayMake(pool, isThere: spaceIndexes[pool.name] != nil)
            try checkRoom(for: pool)
            try checkSharesNone(pool, agent)
        case .updatePool(let pool, let namespace):
            try agent.mayChange(spaceIndexes[pool.name].flatMap { spaces[$0]?.pool }, to: pool)
            try checkDescription(of: pool, for: namespace ?? "")
            try checkSharesNone(pool, agent)
        case .deletePool(let name): throw .notForAgents("pool \(name) is deleted", agent)
        }
    }

    /// Whoever may write a network's configuration speaks for one namespace: it changes the gateway, routes, DNS and
    /// exclusions of a pool that ranges made, while nobody else has addresses there and no operator has said who may.
    private func checkDescription(of pool: Pool, for namespace: String) throws(IPAMError) {
        guard let space = spaceIndexes[pool.name].flatMap({ spaces[$0] }), !space.pool.hasSameContent(as: pool) else {
            return
        }
        let old = space.pool
        guard old.isNamedAfterPrefixes, old.prefixes.map(\.prefix) == pool.prefixes.map(\.prefix),
            !old.isForThoseWhoNameNone
        else { throw .notForNetworks(pool.name, namespace, "an operator has made it, or said who may use it") }
        if space.bindingsOfNamespace.keys.contains(where: { $0 != namespace }) {
            throw .notForNetworks(pool.name, namespace, "others than that namespace's have addresses in it")
        }
    }

    /// A network's configuration does not give what an operator's pool of the same prefix excludes.
    private func checkSharesNone(_ pool: Pool, _ agent: NodeAgent) throws(IPAMError) {
        let old = spaceIndexes[pool.name].flatMap { spaces[$0]?.pool }
        for other in neighbours(of: pool).compactMap({ spaces[$0]?.pool }) {
            for own in pool.prefixes where old?.prefixes.contains(own) != true {
                if other.prefixes.contains(where: own.isApart) {
                    throw .notForAgents("pool \(pool.name), a part of \(other.name)'s network, is made", agent)
                }
            }
        }
    }

    private func check(_ request: AllocateRequest, of agent: NodeAgent) throws(IPAMError) {
        let key = request.owner.key
        guard let attachment = request.attachment else {
            throw .notForAgents("\(key) is reserved ahead of any pod", agent)
        }
        try agent.owns(attachment, of: key)
        try checkContainer(of: attachment, agent)
        // What another node's pod carries does not become its own by the name of that pod.
        let binding = slot(of: key).flatMap { slots[$0] }
        for carrier in [binding?.active, binding?.target].compactMap(\.self) where carrier.isSamePod(as: attachment) {
            try agent.owns(carrier, of: key)
        }
    }

    /// A release finds its binding by the container's ID: what one node's pods carry is found by no other's.
    private func checkContainer(of attachment: Attachment, _ agent: NodeAgent) throws(IPAMError) {
        for binding in containers.all(attachment.containerID.slotHash).compactMap({ slots[$0] }) {
            for carrier in [binding.active, binding.target].compactMap(\.self)
            where carrier.containerID == attachment.containerID {
                try agent.owns(carrier.node, "container \(attachment.containerID)")
            }
        }
    }

    private func check(_ request: ReleaseRequest, of agent: NodeAgent) throws(IPAMError) {
        switch request {
        case .attachment(let id, let owner, let network):
            guard let slot = slot(carriedBy: id, of: owner, network: network), let binding = slots[slot] else { return }
            for attachment in [binding.target, binding.active].compactMap(\.self) where attachment.id.matches(id) {
                return try agent.owns(attachment, of: binding.owner.key)
            }
        case .binding(let owner):
            guard let binding = slot(of: owner.key).flatMap({ slots[$0] }),
                !binding.owner.isAnotherObject(than: owner.uid)
            else { return }
            // Whether the VM is gone is not its node's to say: the server sees that, or an operator.
            throw .notForAgents("the binding of \(owner.key) is released", agent)
        }
    }

    private func check(_ request: TransferRequest, of agent: NodeAgent) throws(IPAMError) {
        let key = request.owner.key
        let binding = slot(of: key).flatMap { slots[$0] }
        let isOpen = binding?.migrationUID == request.migrationUID
        switch request.phase {
        case .prepare(let target, _):
            try agent.owns(target, of: key)
            try checkContainer(of: target, agent)
            if isOpen, let open = binding?.target, open.isSamePod(as: target) { try agent.owns(open, of: key) }
        case .commit(let targetOwner):
            let mayGive = targetOwner != nil && binding?.endedMigration?.released != nil
            try check(isOpen || mayGive, request, of: agent, binding)
        case .abort:
            try check(isOpen || binding?.endedMigration?.released != nil, request, of: agent, binding)
        }
    }

    /// A migration is its source's and its target's; a message that changes nothing any more (promise 4) is nobody's.
    private func check(
        _ changes: Bool, _ request: TransferRequest, of agent: NodeAgent, _ binding: Binding?
    ) throws(IPAMError) {
        guard changes, let binding, [binding.migrationUID, binding.endedMigration?.uid].contains(request.migrationUID)
        else { return }
        let parties = [binding.active, binding.target].compactMap(\.self).map(\.node)
        guard let other = parties.last, !parties.contains(agent.node) else { return }
        throw .otherNode(other, "migration \(request.migrationUID) of \(binding.owner.key)", agent)
    }
}

/// An agent as its credentials prove it.
struct NodeAgent {
    var name: String
    var node: String

    func owns(_ attachment: Attachment, of owner: OwnerKey) throws(IPAMError) {
        try owns(attachment.node, "pod \(attachment.pod) of \(owner)")
    }

    func owns(_ other: String, _ what: String) throws(IPAMError) {
        if other != node { throw .otherNode(other, what, self) }
    }

    /// Ranges have one or two; each is compared with those of all pools.
    static let mostPrefixes = 8

    /// What network configurations describe gives addresses to whoever uses that network, and is nobody's default.
    func mayMake(_ pool: Pool, isThere: Bool) throws(IPAMError) {
        if !isThere, pool.prefixes.count > Self.mostPrefixes {
            throw .notForAgents("pool \(pool.name), of more than \(Self.mostPrefixes) prefixes, is made", self)
        }
        guard pool.isNamedAfterPrefixes, !pool.isDefault, pool.namespaces.isEmpty else {
            throw .notForAgents("pool \(pool.name) is made", self)
        }
    }

    /// What an operator set of such a pool stays, and so do all other pools.
    func mayChange(_ old: Pool?, to new: Pool) throws(IPAMError) {
        guard let old else { return }
        var allowed = new
        allowed.namespaces = old.namespaces
        allowed.isDefault = old.isDefault
        allowed.namespaceQuota = old.namespaceQuota
        allowed.reuseDelay = old.reuseDelay
        allowed.historyRetention = old.historyRetention
        guard old.isNamedAfterPrefixes, new.isNamedAfterPrefixes, allowed == new else {
            throw .notForAgents("pool \(new.name) is changed", self)
        }
    }
}

extension IPAMError {
    fileprivate static func nodeUnknown(_ caller: Caller) -> IPAMError {
        IPAMError(
            .permissionDenied, .nodeUnknown,
            "nothing proves which node the agent \(caller.name) is on, and an agent acts for its own only: its token must "
                + "be bound to its pod (a projected volume's is), or its certificate be for system:node:NODE",
            metadata: ["caller": caller.name])
    }

    fileprivate static func otherNode(_ other: String, _ what: String, _ agent: NodeAgent) -> IPAMError {
        IPAMError(
            .permissionDenied, .otherNode,
            "\(what) is node \(other)'s, and the caller is the agent of node \(agent.node), which acts for its own only",
            metadata: ["node": other, "callerNode": agent.node, "caller": agent.name])
    }

    fileprivate static func notForNetworks(_ pool: String, _ namespace: String, _ why: String) -> IPAMError {
        IPAMError(
            .permissionDenied, .namespaceNotAllowed,
            "pool \(pool) is not changed by what a network's configuration says to a pod of namespace \(namespace): \(why); "
                + "an operator changes it (holdfast pool update)",
            metadata: ["field": "pool", "pool": pool, "namespace": namespace])
    }

    fileprivate static func notForAgents(_ what: String, _ agent: NodeAgent) -> IPAMError {
        IPAMError(
            .permissionDenied, .roleMissing,
            "\(what) by an operator, and the caller is the agent of node \(agent.node); ask with an operator's credentials",
            metadata: ["caller": agent.name, "callerNode": agent.node, "roles": "agent"])
    }
}
