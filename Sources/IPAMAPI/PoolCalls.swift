package import IPAMModel

/// The Pools service as its clients call it. Every call throws `IPAMError`, as `IPAMCalls` do.
package protocol PoolCalls: Sendable {
    func createPool(_ pool: Pool, timeout: Duration) async throws(IPAMError) -> DescribedPool
    /// `namespace`: whose network's configuration says so; nil: an operator does.
    func updatePool(
        _ pool: Pool, for namespace: String?, timeout: Duration
    ) async throws(IPAMError) -> DescribedPool
    func pool(named name: String, timeout: Duration) async throws(IPAMError) -> DescribedPool
    func pools(timeout: Duration) async throws(IPAMError) -> [DescribedPool]
    /// A pool that does not exist is deleted already.
    func deletePool(named name: String, timeout: Duration) async throws(IPAMError)
}
