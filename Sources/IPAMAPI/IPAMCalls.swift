package import Addresses
package import IPAMModel

/// A binding with what its pool adds to it.
package struct DescribedBinding: Hashable, Sendable {
    package var binding: Binding
    package var routes: [Route]
    package var dns: DNS?
    /// For how long after it sent its request a node that keeps copies may use this one; nil: not at all.
    package var copyValidFor: Delay?

    package init(binding: Binding, routes: [Route] = [], dns: DNS? = nil, copyValidFor: Delay? = nil) {
        self.binding = binding
        self.routes = routes
        self.dns = dns
        self.copyValidFor = copyValidFor
    }
}

/// A pool with how much of it is in use.
package struct DescribedPool: Hashable, Sendable {
    package var pool: Pool
    package var usage: [PrefixUsage]

    package init(pool: Pool, usage: [PrefixUsage] = []) {
        self.pool = pool
        self.usage = usage
    }
}

package struct BindingPage: Hashable, Sendable {
    package var bindings: [DescribedBinding]
    /// Nil on the last page.
    package var nextPageToken: String?
    /// The ledger's revision when the page was read.
    package var revision: UInt64

    package init(bindings: [DescribedBinding], nextPageToken: String? = nil, revision: UInt64 = 0) {
        self.bindings = bindings
        self.nextPageToken = nextPageToken
        self.revision = revision
    }
}

package struct BindingEvent: Hashable, Sendable {
    package enum Kind: UInt8, Hashable, Sendable { case created = 1, updated, freed, synced }
    package var kind: Kind
    /// Nil for `synced` only.
    package var binding: DescribedBinding?
    package var revision: UInt64

    package init(kind: Kind, binding: DescribedBinding?, revision: UInt64) {
        self.kind = kind
        self.binding = binding
        self.revision = revision
    }
}

/// The IPAM service as its clients call it. Every call throws `IPAMError`; `unavailable` where the server cannot be
/// reached or `timeout` passes, and then the call may or may not have had its effect: repeat it.
package protocol IPAMCalls: Sendable {
    func allocate(_ request: AllocateRequest, timeout: Duration) async throws(IPAMError) -> (
        binding: DescribedBinding, created: Bool
    )
    /// Nil once freed.
    func release(_ request: ReleaseRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding?
    func transfer(_ request: TransferRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding
    func binding(of owner: Owner, timeout: Duration) async throws(IPAMError) -> DescribedBinding
    func binding(holding address: IPAddress, timeout: Duration) async throws(IPAMError) -> DescribedBinding
    /// `pageSize` 0: the server's choice.
    func bindings(
        matching filter: BindingFilter, pageSize: Int, pageToken: String?, timeout: Duration
    ) async throws(IPAMError) -> BindingPage
}

extension IPAMCalls {
    /// All pages. Begins again, twice at most, where another ledger is served than that of the page before.
    package func allBindings(
        matching filter: BindingFilter, timeout: Duration
    ) async throws(IPAMError) -> [DescribedBinding] {
        var all: [DescribedBinding] = []
        var token: String?
        var attempts = 1
        while true {
            do throws(IPAMError) {
                let page = try await bindings(matching: filter, pageSize: 1000, pageToken: token, timeout: timeout)
                all += page.bindings
                guard let next = page.nextPageToken else { return all }
                token = next
            } catch {
                // A token of a ledger that a server loaded is refused once it has another.
                guard token != nil, error.metadata["field"] == "page_token", attempts < 3 else { throw error }
                (all, token) = ([], nil)
                attempts += 1
            }
        }
    }
}
