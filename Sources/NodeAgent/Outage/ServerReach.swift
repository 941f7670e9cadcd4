package import Addresses
package import IPAMAPI
package import IPAMModel
import Synchronization

/// Whether the server answers, by the last call that came to an end.
package final class ServerReach: Sendable {
    private let away = Mutex(false)

    package init() {}

    package var isAway: Bool { away.withLock { $0 } }

    fileprivate func note<Value>(_ result: Result<Value, IPAMError>) {
        let isAway = if case .failure(let error) = result { error.isSilence } else { false }
        away.withLock { $0 = isAway }
    }
}

extension IPAMError {
    /// Whether the server did not say anything, or could not do anything now, whatever it was asked.
    var isSilence: Bool { code == .unavailable && reason != .copiesOutstanding }
}

/// The service, seen through every call of this agent.
package struct ObservedIPAM<Base: IPAMCalls & CopyCalls>: IPAMCalls, CopyCalls {
    private let base: Base
    private let reach: ServerReach

    package init(_ base: Base, reach: ServerReach) {
        self.base = base
        self.reach = reach
    }

    private func observed<Value>(
        _ call: () async throws(IPAMError) -> Value
    ) async throws(IPAMError) -> Value {
        let result: Result<Value, IPAMError>
        do throws(IPAMError) {
            result = .success(try await call())
        } catch {
            result = .failure(error)
        }
        // A call that this agent gave up says nothing of the server.
        if !Task.isCancelled { reach.note(result) }
        return try result.get()
    }

    package func allocate(
        _ request: AllocateRequest, timeout: Duration
    ) async throws(IPAMError) -> (binding: DescribedBinding, created: Bool) {
        try await observed { () throws(IPAMError) in try await base.allocate(request, timeout: timeout) }
    }

    package func release(_ request: ReleaseRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding? {
        try await observed { () throws(IPAMError) in try await base.release(request, timeout: timeout) }
    }

    package func transfer(_ request: TransferRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        try await observed { () throws(IPAMError) in try await base.transfer(request, timeout: timeout) }
    }

    package func binding(of owner: Owner, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        try await observed { () throws(IPAMError) in try await base.binding(of: owner, timeout: timeout) }
    }

    package func binding(holding address: IPAddress, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        try await observed { () throws(IPAMError) in try await base.binding(holding: address, timeout: timeout) }
    }

    package func bindings(
        matching filter: BindingFilter, pageSize: Int, pageToken: String?, timeout: Duration
    ) async throws(IPAMError) -> BindingPage {
        try await observed { () throws(IPAMError) in
            try await base.bindings(matching: filter, pageSize: pageSize, pageToken: pageToken, timeout: timeout)
        }
    }

    package func renewCopies(
        _ request: RenewCopiesRequest, timeout: Duration
    ) async throws(IPAMError) -> [RenewedCopy] {
        try await observed { () throws(IPAMError) in try await base.renewCopies(request, timeout: timeout) }
    }
}

extension ObservedIPAM: PoolCalls where Base: PoolCalls {
    package func createPool(_ pool: Pool, timeout: Duration) async throws(IPAMError) -> DescribedPool {
        try await observed { () throws(IPAMError) in try await base.createPool(pool, timeout: timeout) }
    }

    package func updatePool(
        _ pool: Pool, for namespace: String?, timeout: Duration
    ) async throws(IPAMError) -> DescribedPool {
        try await observed { () throws(IPAMError) in
            try await base.updatePool(pool, for: namespace, timeout: timeout)
        }
    }

    package func pool(named name: String, timeout: Duration) async throws(IPAMError) -> DescribedPool {
        try await observed { () throws(IPAMError) in try await base.pool(named: name, timeout: timeout) }
    }

    package func pools(timeout: Duration) async throws(IPAMError) -> [DescribedPool] {
        try await observed { () throws(IPAMError) in try await base.pools(timeout: timeout) }
    }

    package func deletePool(named name: String, timeout: Duration) async throws(IPAMError) {
        try await observed { () throws(IPAMError) in try await base.deletePool(named: name, timeout: timeout) }
    }
}
