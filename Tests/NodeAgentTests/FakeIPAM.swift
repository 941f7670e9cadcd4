import Addresses
import IPAMAPI
import IPAMModel
import Synchronization

/// The service as the agent sees it, in memory: one pool 10.16.0.0/16, and DESIGN's state table in short.
final class FakeIPAM: IPAMCalls {
    enum Call: Equatable {
        case allocate(AllocateRequest)
        case release(ReleaseRequest)
        case transfer(TransferRequest)
        case list(BindingFilter)
    }

    private struct State {
        var bindings: [OwnerKey: Binding] = [:]
        var lastAddress: UInt128 = 0x0a10_000a
        var calls: [Call] = []
        /// Thrown by every call while it is set.
        var failure: IPAMError?
        /// Transfers of owners of this name are refused.
        var refusedName: String?
    }

    private let state = Mutex(State())
    private let dns = DNS(nameservers: [IPAddress(family: .ipv4, bits: 0x0a10_0002)], search: ["vm.example"])

    var calls: [Call] { state.withLock { $0.calls } }
    var bindings: [Binding] { state.withLock { Array($0.bindings.values) } }
    func binding(of key: OwnerKey) -> Binding? { state.withLock { $0.bindings[key] } }
    func fail(with error: IPAMError?) { state.withLock { $0.failure = error } }
    func refuse(ownersNamed name: String?) { state.withLock { $0.refusedName = name } }
    func put(_ binding: Binding) { state.withLock { $0.bindings[binding.owner.key] = binding } }

    private func serve<Value>(
        _ call: Call, _ body: (inout State) throws(IPAMError) -> Value
    ) throws(IPAMError) -> Value {
        let result: Result<Value, IPAMError> = state.withLock { state in
            state.calls.append(call)
            if let failure = state.failure { return .failure(failure) }
            do throws(IPAMError) {
                return .success(try body(&state))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    private func described(_ binding: Binding) -> DescribedBinding {
        let routes = IPPrefix("192.168.0.0/16").map { [Route(destination: $0)] } ?? []
        return DescribedBinding(binding: binding, routes: routes, dns: dns)
    }

    func allocate(
        _ request: AllocateRequest, timeout: Duration
    ) async throws(IPAMError) -> (binding: DescribedBinding, created: Bool) {
        let (binding, created) = try serve(.allocate(request)) { (state) throws(IPAMError) -> (Binding, Bool) in
            if var binding = state.bindings[request.owner.key] {
                binding.owner.uid = request.owner.uid
                binding.active = request.attachment
                (binding.target, binding.migrationUID) = (nil, "")
                state.bindings[request.owner.key] = binding
                return (binding, false)
            }
            for address in request.addresses {
                if let holder = state.bindings.values.first(where: { $0.assignments.contains { $0.address == address } }
                ) {
                    throw IPAMError(
                        .alreadyExists, .addressTaken, "\(address) belongs to \(holder.owner.key)",
                        metadata: ["holder": "\(holder.owner.key)"])
                }
            }
            state.lastAddress += request.addresses.isEmpty ? 1 : 0
            let addresses =
                request.addresses.isEmpty ? [IPAddress(family: .ipv4, bits: state.lastAddress)] : request.addresses
            let binding = Binding(
                owner: request.owner, pool: request.pool ?? "vm-net",
                assignments: addresses.map {
                    $0.family == .ipv4
                        ? Assignment(
                            address: $0, prefixLength: 16, gateway: IPAddress(family: .ipv4, bits: 0x0a10_0001))
                        : Assignment(address: $0, prefixLength: 64, gateway: IPAddress("fd00::1"))
                },
                mac: request.mac ?? MACAddress(bits: 0x0200_0000_0000 | UInt64(addresses[0].bits & 0xffff_ffff)),
                active: request.attachment, revision: 1, createdAt: Timestamp(seconds: 0),
                updatedAt: Timestamp(seconds: 0))
            state.bindings[request.owner.key] = binding
            return (binding, true)
        }
        return (described(binding), created)
    }

    func release(_ request: ReleaseRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding? {
        try serve(.release(request)) { (state) throws(IPAMError) -> Binding? in
            switch request {
            case .binding(let owner):
                if state.bindings[owner.key]?.owner.isAnotherObject(than: owner.uid) == false {
                    state.bindings[owner.key] = nil
                }
                return state.bindings[owner.key]
            case .attachment(let id, _, let network):
                for (key, var binding) in state.bindings where key.network == network {
                    if binding.target?.containerID == id.containerID {
                        (binding.target, binding.migrationUID) = (nil, "")
                    } else if binding.active?.containerID == id.containerID {
                        (binding.active, binding.target, binding.migrationUID) = (binding.target, nil, "")
                    } else {
                        continue
                    }
                    state.bindings[key] = binding.active == nil && key.kind == .pod ? nil : binding
                    return state.bindings[key]
                }
                return nil
            }
        }.map(described)
    }

    func transfer(_ request: TransferRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        let binding = try serve(.transfer(request)) { (state) throws(IPAMError) -> Binding in
            if state.refusedName == request.owner.name { throw IPAMError(.permissionDenied, .noAnswer, "refused") }
            guard var binding = state.bindings[request.owner.key] else {
                throw IPAMError(.notFound, .bindingNotFound, "\(request.owner.key) has no binding")
            }
            switch request.phase {
            case .prepare(let target):
                (binding.target, binding.migrationUID) = (target, request.migrationUID)
            case .commit, .abort:
                let outcome: MigrationOutcome = request.phase == .abort ? .aborted : .committed
                if binding.endedMigration == EndedMigration(uid: request.migrationUID, outcome: outcome) { break }
                guard binding.migrationUID == request.migrationUID else {
                    throw IPAMError(.failedPrecondition, .migrationUnknown, "no such migration")
                }
                if outcome == .committed { binding.active = binding.target }
                (binding.target, binding.migrationUID) = (nil, "")
                binding.endedMigration = EndedMigration(uid: request.migrationUID, outcome: outcome)
            }
            state.bindings[request.owner.key] = binding
            return binding
        }
        return described(binding)
    }

    func binding(of owner: Owner, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        guard let binding = binding(of: owner.key) else {
            throw IPAMError(.notFound, .bindingNotFound, "\(owner.key) has no binding")
        }
        return described(binding)
    }

    func binding(holding address: IPAddress, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        guard let binding = bindings.first(where: { $0.assignments.contains { $0.address == address } }) else {
            throw IPAMError(.notFound, .bindingNotFound, "\(address) is free")
        }
        return described(binding)
    }

    func bindings(
        matching filter: BindingFilter, pageSize: Int, pageToken: String?, timeout: Duration
    ) async throws(IPAMError) -> BindingPage {
        let all = try serve(.list(filter)) { (state) throws(IPAMError) -> [Binding] in
            state.bindings.values.filter(filter.matches).sorted { "\($0.owner.key)" < "\($1.owner.key)" }
        }
        // One on each page, so that paging is needed.
        let index = pageToken.flatMap { Int($0) } ?? 0
        return BindingPage(
            bindings: all.dropFirst(index).prefix(1).map(described),
            nextPageToken: index + 1 < all.count ? String(index + 1) : nil)
    }
}
