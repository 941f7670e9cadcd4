package import Addresses
package import IPAMAPI
package import IPAMModel
import Ledger

/// The service as a client in the same process calls it. Nothing times out: an answer comes with its commit.
extension Writer: IPAMCalls {
    package func allocate(
        _ request: AllocateRequest, timeout: Duration
    ) async throws(IPAMError) -> (binding: DescribedBinding, created: Bool) {
        guard case .binding(let binding?, let created) = try await submit(.allocate(request)) else {
            throw .noBinding
        }
        return (binding, created)
    }

    package func release(_ request: ReleaseRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding? {
        guard case .binding(let binding, _) = try await submit(.release(request)) else { throw .noBinding }
        return binding
    }

    package func transfer(_ request: TransferRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        guard case .binding(let binding?, _) = try await submit(.transfer(request)) else { throw .noBinding }
        return binding
    }

    package func binding(of owner: Owner, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        try binding(.owner(owner))
    }

    package func binding(holding address: IPAddress, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        try binding(.address(address))
    }

    package func bindings(
        matching filter: BindingFilter, pageSize: Int, pageToken: String?, timeout: Duration
    ) async throws(IPAMError) -> BindingPage {
        try page(BindingListing(filter: filter, pageSize: PageSize.granted(pageSize), pageToken: pageToken))
    }
}

extension IPAMError {
    fileprivate static let noBinding = IPAMError(.internalError, .ledgerInconsistent, "an answer without a binding")
}
