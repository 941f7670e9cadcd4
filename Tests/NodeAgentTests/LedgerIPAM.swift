import Addresses
import IPAMAPI
import IPAMModel
import Ledger
import Synchronization
import Testing

/// The service as the agent calls it: the real rules, in memory, without server and store.
///
/// Pool `vms`, the default, gives 10.16.0.11 first; pool `other` has both families.
final class LedgerIPAM: IPAMCalls, CopyCalls {
    enum Call: Equatable {
        case allocate(AllocateRequest)
        case release(ReleaseRequest)
        case transfer(TransferRequest)
        case list(BindingFilter)
        case renew(RenewCopiesRequest)
        case pool(Command)
    }

    fileprivate struct State {
        var ledger = Ledger()
        var now = Timestamp(seconds: 1_800_000_000)
        var freed: [IPAddress: FreedAddress] = [:]
        var calls: [Call] = []
        /// How long each call about one owner was given.
        var timeouts: [Duration] = []
        var poolReads = 0
        /// Thrown by every call while it is set.
        var failure: IPAMError?
        /// Transfers and allocations of owners of this name are refused.
        var refusedName: String?
        /// Called when a call has been served, before its answer arrives.
        var beforeAnswer: (@Sendable () -> Void)?
    }

    private let state = Mutex(State())

    init() throws {
        func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }
        func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }
        let pools = [
            Pool(
                name: "vms",
                prefixes: [
                    PoolPrefix(
                        prefix: try prefix("10.16.0.0/16"), gateway: try address("10.16.0.1"),
                        excluded: [AddressRange(from: try address("10.16.0.2"), through: try address("10.16.0.10"))])
                ], routes: [Route(destination: try prefix("192.168.0.0/16"))],
                dns: DNS(nameservers: [try address("10.16.0.2")], search: ["vm.example"]), isDefault: true),
            Pool(
                name: "other",
                prefixes: [
                    PoolPrefix(prefix: try prefix("10.17.0.0/16"), gateway: try address("10.17.0.1")),
                    PoolPrefix(prefix: try prefix("fd00::/64"), gateway: try address("fd00::1")),
                ]),
        ]
        for pool in pools { _ = try apply(.createPool(pool)) }
    }

    var timeouts: [Duration] { state.withLock { $0.timeouts } }
    /// How often pools were asked for, with their usage.
    var poolReads: Int { state.withLock { $0.poolReads } }
    func notePoolRead() { state.withLock { $0.poolReads += 1 } }
    var calls: [Call] { state.withLock { $0.calls } }
    var bindings: [Binding] {
        state.withLock { (try? $0.ledger.bindings(matching: BindingFilter(), after: nil, limit: 100).bindings) ?? [] }
    }
    func pool(named name: String) -> Pool? { state.withLock { $0.ledger.pool(named: name) } }
    func binding(of key: OwnerKey) -> Binding? { state.withLock { $0.ledger.binding(of: key) } }
    func fail(with error: IPAMError?) { state.withLock { $0.failure = error } }
    func beforeAnswer(_ body: (@Sendable () -> Void)?) { state.withLock { $0.beforeAnswer = body } }
    func advance(by delay: Delay) { state.withLock { $0.now = $0.now.advanced(by: delay) } }
    func refuse(ownersNamed name: String?) { state.withLock { $0.refusedName = name } }

    /// The server starts anew from what it has made durable.
    func restart() throws {
        try state.withLock { state in
            let old = state.ledger
            let bindings = try old.bindings(matching: BindingFilter(), after: nil, limit: .max).bindings
            state.ledger = try Ledger(
                Snapshot(
                    revision: old.committedRevision, pools: old.pools, bindings: bindings,
                    freed: Array(state.freed.values)))
        }
    }

    /// A change that no agent asked for.
    @discardableResult
    func apply(_ command: Command) throws(IPAMError) -> Outcome { try locked { $0.apply(command) }.get() }

    /// Throws as a call does while the service fails.
    func read<Value: Sendable>(_ body: (borrowing Ledger, Timestamp) -> Value) throws(IPAMError) -> Value {
        try locked { state -> Result<Value, IPAMError> in
            if let failure = state.failure { return .failure(failure) }
            return .success(body(state.ledger, state.now))
        }.get()
    }

    private func locked<Value>(_ body: (inout State) -> Value) -> Value where Value: Sendable {
        state.withLock { body(&$0) }
    }

    func serve(_ call: Call, _ command: Command) throws(IPAMError) -> Outcome {
        try locked { state -> Result<Outcome, IPAMError> in
            state.calls.append(call)
            if let failure = state.failure { return .failure(failure) }
            let name: String? =
                switch command {
                case .transfer(let request): request.owner.name
                case .allocate(let request): request.owner.name
                default: nil
                }
            if let name, name == state.refusedName {
                return .failure(IPAMError(.permissionDenied, .noAnswer, "refused"))
            }
            return state.apply(command)
        }.get()
    }

    private func described(_ binding: Binding) -> DescribedBinding { described(binding, keptBy: nil) }

    private func described(_ binding: Binding, keptBy node: String?) -> DescribedBinding {
        let pool = state.withLock { $0.ledger.pool(named: binding.pool) }
        let validity = state.withLock { state in
            node.flatMap { state.ledger.grantedCopy(of: binding, to: $0, at: state.now) }
        }
        state.withLock(\.beforeAnswer)?()
        return DescribedBinding(
            binding: binding, routes: pool?.routes ?? [], dns: pool?.dns, copyValidFor: validity)
    }

    func renewCopies(_ request: RenewCopiesRequest, timeout: Duration) async throws(IPAMError) -> [RenewedCopy] {
        guard case .copiesRenewed(let standings) = try serve(.renew(request), .renewCopies(request)) else {
            throw .unexpected
        }
        state.withLock(\.beforeAnswer)?()
        return standings.map {
            RenewedCopy(validFor: $0.validFor, binding: $0.binding.map(described), ticket: $0.ticket)
        }
    }

    func allocate(
        _ request: AllocateRequest, timeout: Duration
    ) async throws(IPAMError) -> (binding: DescribedBinding, created: Bool) {
        state.withLock { $0.timeouts.append(timeout) }
        guard case .allocated(let binding, let created) = try serve(.allocate(request), .allocate(request)) else {
            throw .unexpected
        }
        return (described(binding, keptBy: Command.allocate(request).copyKeeper), created)
    }

    func release(_ request: ReleaseRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding? {
        guard case .released(let binding) = try serve(.release(request), .release(request)) else { throw .unexpected }
        return binding.map(described)
    }

    func transfer(_ request: TransferRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        state.withLock { $0.timeouts.append(timeout) }
        guard case .transferred(let binding) = try serve(.transfer(request), .transfer(request)) else {
            throw .unexpected
        }
        return described(binding, keptBy: Command.transfer(request).copyKeeper)
    }

    func binding(of owner: Owner, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        state.withLock { $0.timeouts.append(timeout) }
        guard let binding = binding(of: owner.key) else { throw .unexpected }
        if binding.owner.isAnotherObject(than: owner.uid) { throw .anotherObjects(binding, than: owner) }
        return described(binding)
    }

    func binding(holding address: IPAddress, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        guard let binding = state.withLock({ $0.ledger.binding(holding: address) }) else { throw .unexpected }
        return described(binding)
    }

    func bindings(
        matching filter: BindingFilter, pageSize: Int, pageToken: String?, timeout: Duration
    ) async throws(IPAMError) -> BindingPage {
        // One on each page, so that paging is needed.
        let (bindings, token) = try locked { state -> Result<([Binding], String?), IPAMError> in
            state.calls.append(.list(filter))
            if let failure = state.failure { return .failure(failure) }
            do throws(IPAMError) {
                let page = try state.ledger.bindings(matching: filter, after: pageToken, limit: 1)
                return .success((page.bindings, page.token))
            } catch {
                return .failure(error)
            }
        }.get()
        return BindingPage(bindings: bindings.map(described), nextPageToken: token)
    }
}

extension LedgerIPAM.State {
    /// One second after the change before.
    fileprivate mutating func apply(_ command: Command) -> Result<Outcome, IPAMError> {
        now = now.advanced(by: .seconds(1))
        do throws(IPAMError) {
            let outcome = try ledger.apply(command, at: now)
            for change in ledger.pending {
                switch change {
                case .putFreed(let address): freed[address.address] = address
                case .removeFreed(let address): freed[address] = nil
                default: break
                }
            }
            ledger.commit()
            return .success(outcome)
        } catch {
            ledger.rollback()
            return .failure(error)
        }
    }
}

extension IPAMError {
    fileprivate static var unexpected: IPAMError { IPAMError(.notFound, .bindingNotFound, "no such binding") }
}
