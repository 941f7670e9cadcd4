package import Addresses
import CMessages
package import IPAMModel
package import RPC

extension AllocateRequest {
    package init(_ message: Wire.AllocateRequest) throws(IPAMError) {
        let (pool, mac) = unsafe (string(message.pool), string(message.mac))
        if unsafe message.pool_revision != 0, pool.isEmpty {
            throw Rules.invalid("pool_revision", "it is of the pool that `pool` names, and that is empty")
        }
        self.init(
            owner: try unsafe Owner(message.owner, "owner"),
            attachment: try unsafe Attachment.read(message.attachment, "attachment"),
            pool: pool.isEmpty ? nil : try Rules.poolName(pool, "pool"),
            poolRevision: unsafe message.pool_revision == 0 ? nil : message.pool_revision,
            mac: mac.isEmpty ? nil : try Rules.mac(mac, "mac"),
            keepsCopy: unsafe message.keeps_copy != 0)
        for (index, text) in unsafe strings(message.n_addresses, message.addresses).enumerated() {
            let address = try Rules.address(text, "addresses[\(index)]")
            guard !addresses.contains(where: { $0.family == address.family }) else {
                throw Rules.invalid(
                    "addresses[\(index)]",
                    "\(address) is a second \(address.family) address; a binding has one of each family")
            }
            addresses.append(address)
        }
    }

    package func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.AllocateRequest> {
        let message = unsafe arena.make(Wire.AllocateRequest.self)
        unsafe message.pointee.owner = owner.wire(in: arena)
        if let attachment { unsafe message.pointee.attachment = attachment.wire(in: arena) }
        if let pool { unsafe message.pointee.pool = arena.string(pool) }
        unsafe message.pointee.pool_revision = poolRevision ?? 0
        unsafe (message.pointee.n_addresses, message.pointee.addresses) = strings(addresses.map(\.description), arena)
        if let mac { unsafe message.pointee.mac = arena.string(mac) }
        unsafe message.pointee.keeps_copy = keepsCopy ? 1 : 0
        return unsafe message
    }
}

extension ReleaseRequest {
    package init(_ message: Wire.ReleaseRequest) throws(IPAMError) {
        // Also what a scope has no use for must make sense: a field that is silently ignored hides a mistake.
        let attachment = try unsafe Attachment.readGone(message.attachment, "attachment")
        switch unsafe message.scope {
        case HOLDFAST__IPAM__V1__RELEASE_SCOPE__RELEASE_SCOPE_BINDING:
            self = .binding(try unsafe Owner(message.owner, "owner"))
        case HOLDFAST__IPAM__V1__RELEASE_SCOPE__RELEASE_SCOPE_ATTACHMENT:
            guard let id = attachment?.id else {
                throw Rules.invalid("attachment", "is needed with RELEASE_SCOPE_ATTACHMENT")
            }
            guard let owner = unsafe message.owner?.pointee else { throw Rules.invalid("owner", "is needed") }
            let network = try unsafe Rules.identifier(string(owner.network), "owner.network")
            if unsafe string(owner.name).isEmpty {
                guard !id.containerID.isEmpty else {
                    throw Rules.invalid("attachment.container_id", "is needed where the owner is not named")
                }
                self = .attachment(id, owner: nil, network: network)
            } else {
                guard !id.containerID.isEmpty || !id.podUID.isEmpty else {
                    throw Rules.invalid(
                        "attachment.container_id", "is needed (or pod_uid): it tells this pod from another")
                }
                self = .attachment(id, owner: try unsafe Owner(message.owner, "owner"), network: network)
            }
        default:
            throw Rules.invalid(
                "scope", "give RELEASE_SCOPE_ATTACHMENT (a pod is gone) or RELEASE_SCOPE_BINDING (its owner is)")
        }
    }

    package func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.ReleaseRequest> {
        let message = unsafe arena.make(Wire.ReleaseRequest.self)
        switch self {
        case .binding(let owner):
            unsafe message.pointee.scope = HOLDFAST__IPAM__V1__RELEASE_SCOPE__RELEASE_SCOPE_BINDING
            unsafe message.pointee.owner = owner.wire(in: arena)
        case .attachment(let id, let owner, let network):
            unsafe message.pointee.scope = HOLDFAST__IPAM__V1__RELEASE_SCOPE__RELEASE_SCOPE_ATTACHMENT
            unsafe message.pointee.owner = owner?.wire(in: arena) ?? arena.make(Wire.Owner.self)
            unsafe message.pointee.owner.pointee.network = arena.string(network)
            unsafe message.pointee.attachment = arena.make(Wire.Attachment.self)
            unsafe message.pointee.attachment.pointee.pod_uid = arena.string(id.podUID)
            unsafe message.pointee.attachment.pointee.container_id = arena.string(id.containerID)
        }
        return unsafe message
    }
}

extension TransferRequest {
    package init(_ message: Wire.TransferRequest) throws(IPAMError) {
        let owner = try unsafe Owner(message.owner, "owner")
        let uid = try unsafe Rules.identifier(string(message.migration_uid), limit: 128, "migration_uid")
        guard !uid.isEmpty else {
            throw Rules.invalid("migration_uid", "is needed: it tells one migration from another")
        }
        // Also what a phase has no use for must make sense.
        let target = try unsafe Attachment.read(message.target, "target")
        let targetOwner = unsafe message.target_owner == nil ? nil : try Owner(message.target_owner, "target_owner")
        let phase: TransferPhase
        switch unsafe message.phase {
        case HOLDFAST__IPAM__V1__TRANSFER_PHASE__TRANSFER_PHASE_PREPARE:
            guard let target else {
                throw Rules.invalid("target", "is needed with TRANSFER_PHASE_PREPARE")
            }
            phase = .prepare(target: target, targetOwner: targetOwner)
        case HOLDFAST__IPAM__V1__TRANSFER_PHASE__TRANSFER_PHASE_COMMIT:
            phase = .commit(targetOwner: targetOwner)
        case HOLDFAST__IPAM__V1__TRANSFER_PHASE__TRANSFER_PHASE_ABORT:
            phase = .abort
        default:
            throw Rules.invalid(
                "phase", "give TRANSFER_PHASE_PREPARE, TRANSFER_PHASE_COMMIT or TRANSFER_PHASE_ABORT")
        }
        self.init(owner: owner, migrationUID: uid, phase: phase, keepsCopy: unsafe message.keeps_copy != 0)
    }

    package func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.TransferRequest> {
        let message = unsafe arena.make(Wire.TransferRequest.self)
        unsafe message.pointee.owner = owner.wire(in: arena)
        unsafe message.pointee.migration_uid = arena.string(migrationUID)
        unsafe message.pointee.keeps_copy = keepsCopy ? 1 : 0
        switch phase {
        case .prepare(let target, let targetOwner):
            unsafe message.pointee.phase = HOLDFAST__IPAM__V1__TRANSFER_PHASE__TRANSFER_PHASE_PREPARE
            unsafe message.pointee.target = target.wire(in: arena)
            if let targetOwner { unsafe message.pointee.target_owner = targetOwner.wire(in: arena) }
        case .commit(let targetOwner):
            unsafe message.pointee.phase = HOLDFAST__IPAM__V1__TRANSFER_PHASE__TRANSFER_PHASE_COMMIT
            if let targetOwner { unsafe message.pointee.target_owner = targetOwner.wire(in: arena) }
        case .abort:
            unsafe message.pointee.phase = HOLDFAST__IPAM__V1__TRANSFER_PHASE__TRANSFER_PHASE_ABORT
        }
        return unsafe message
    }
}

/// What GetBinding looks for.
package enum BindingQuery: Hashable, Sendable {
    case owner(Owner)
    case address(IPAddress)

    package init(_ message: Wire.GetBindingRequest) throws(IPAMError) {
        switch unsafe message.by_case {
        case HOLDFAST__IPAM__V1__GET_BINDING_REQUEST__BY_OWNER:
            self = .owner(try unsafe Owner(message.owner, "owner"))
        case HOLDFAST__IPAM__V1__GET_BINDING_REQUEST__BY_ADDRESS:
            self = .address(try unsafe Rules.address(string(message.address), "address"))
        default:
            throw Rules.invalid("owner", "give an owner or an address")
        }
    }

    package func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.GetBindingRequest> {
        let message = unsafe arena.make(Wire.GetBindingRequest.self)
        switch self {
        case .owner(let owner):
            unsafe message.pointee.by_case = HOLDFAST__IPAM__V1__GET_BINDING_REQUEST__BY_OWNER
            unsafe message.pointee.owner = owner.wire(in: arena)
        case .address(let address):
            unsafe message.pointee.by_case = HOLDFAST__IPAM__V1__GET_BINDING_REQUEST__BY_ADDRESS
            unsafe message.pointee.address = arena.string(address)
        }
        return unsafe message
    }
}

extension BindingFilter {
    fileprivate init(
        pool: String, namespace: String, name: String, node: String, state: Holdfast__Ipam__V1__BindingState
    ) throws(IPAMError) {
        self.init(
            pool: pool.isEmpty ? nil : try Rules.poolName(pool, "pool"),
            namespace: namespace.isEmpty ? nil : try Rules.namespace(namespace, "namespace"),
            name: name.isEmpty ? nil : try Rules.objectName(name, "name"),
            node: node.isEmpty ? nil : try Rules.objectName(node, "node"))
        guard state != HOLDFAST__IPAM__V1__BINDING_STATE__BINDING_STATE_UNSPECIFIED else { return }
        guard let known = UInt8(exactly: state.rawValue).flatMap(BindingState.init(rawValue:)) else {
            throw Rules.invalid("state", "\(state.rawValue) is no binding state")
        }
        self.state = known
    }

    package init(_ message: Wire.WatchBindingsRequest) throws(IPAMError) {
        try unsafe self.init(
            pool: string(message.pool), namespace: string(message.namespace_), name: string(message.name),
            node: string(message.node), state: message.state)
    }

    package func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.WatchBindingsRequest> {
        let message = unsafe arena.make(Wire.WatchBindingsRequest.self)
        unsafe message.pointee.pool = arena.string(pool ?? "")
        unsafe message.pointee.namespace_ = arena.string(namespace ?? "")
        unsafe message.pointee.name = arena.string(name ?? "")
        unsafe message.pointee.node = arena.string(node ?? "")
        unsafe message.pointee.state = Holdfast__Ipam__V1__BindingState(rawValue: UInt32(state?.rawValue ?? 0))
        return unsafe message
    }
}

/// A filter and where to go on.
package struct BindingListing: Hashable, Sendable {
    package var filter: BindingFilter
    /// As granted on the server; 0 from a client that leaves it to the server.
    package var pageSize: Int
    package var pageToken: String?

    package init(filter: BindingFilter, pageSize: Int, pageToken: String?) {
        self.filter = filter
        self.pageSize = pageSize
        self.pageToken = pageToken
    }

    package init(_ message: Wire.ListBindingsRequest) throws(IPAMError) {
        let token = try unsafe Rules.identifier(string(message.page_token), "page_token")
        self.init(
            filter: try unsafe BindingFilter(
                pool: string(message.pool), namespace: string(message.namespace_), name: string(message.name),
                node: string(message.node), state: message.state),
            pageSize: unsafe PageSize.granted(Int(message.page_size)),
            pageToken: token.isEmpty ? nil : token)
    }

    package func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.ListBindingsRequest> {
        let message = unsafe arena.make(Wire.ListBindingsRequest.self)
        unsafe message.pointee.pool = arena.string(filter.pool ?? "")
        unsafe message.pointee.namespace_ = arena.string(filter.namespace ?? "")
        unsafe message.pointee.name = arena.string(filter.name ?? "")
        unsafe message.pointee.node = arena.string(filter.node ?? "")
        unsafe message.pointee.state = Holdfast__Ipam__V1__BindingState(rawValue: UInt32(filter.state?.rawValue ?? 0))
        unsafe message.pointee.page_size = UInt32(clamping: pageSize)
        unsafe message.pointee.page_token = arena.string(pageToken ?? "")
        return unsafe message
    }
}
