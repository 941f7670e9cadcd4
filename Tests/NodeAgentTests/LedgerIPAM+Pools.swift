import IPAMAPI
import IPAMModel
import Ledger

extension LedgerIPAM: PoolCalls {
    func createPool(_ pool: Pool, timeout: Duration) async throws(IPAMError) -> DescribedPool {
        try changed(.createPool(pool))
    }

    func updatePool(
        _ pool: Pool, for namespace: String?, timeout: Duration
    ) async throws(IPAMError) -> DescribedPool {
        try changed(.updatePool(pool, for: namespace))
    }

    private func changed(_ command: Command) throws(IPAMError) -> DescribedPool {
        guard case .pool(let pool) = try serve(.pool(command), command) else {
            throw IPAMError(.internalError, .noAnswer, "no pool")
        }
        return DescribedPool(pool: pool)
    }

    func pool(named name: String, timeout: Duration) async throws(IPAMError) -> DescribedPool {
        notePoolRead()
        guard let pool = try read({ ledger, _ in ledger.pool(named: name) }) else {
            throw IPAMError(.notFound, .poolNotFound, "there is no pool \(name)")
        }
        return DescribedPool(pool: pool, usage: try read { ledger, now in ledger.usage(ofPool: name, at: now) })
    }

    func pools(timeout: Duration) async throws(IPAMError) -> [DescribedPool] {
        notePoolRead()
        return try read { ledger, now in
            ledger.pools.map { DescribedPool(pool: $0, usage: ledger.usage(ofPool: $0.name, at: now)) }
        }
    }

    func deletePool(named name: String, timeout: Duration) async throws(IPAMError) {
        _ = try apply(.deletePool(name: name))
    }
}
