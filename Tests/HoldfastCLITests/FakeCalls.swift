import Addresses
import IPAMAPI
import IPAMModel
import Synchronization

@testable import holdfast

/// A server with these pools and bindings, that notes what it is asked to change.
final class FakeCalls: ServiceCalls {
    let pools: [DescribedPool]
    let bindings: [DescribedBinding]
    /// What every call throws.
    let refusal: IPAMError?
    /// How often an allocation is refused before: a node has a copy.
    let copies: Mutex<Int>
    /// Newest first.
    let history: [HistoryEntry]
    /// The pieces of what a backup sends.
    let backup: [[UInt8]]
    let restored = Mutex<[UInt8]>([])
    private let changes = Mutex<[String]>([])
    var noted: [String] { changes.withLock { $0 } }

    init(
        pools: [DescribedPool] = [], bindings: [DescribedBinding] = [], refusal: IPAMError? = nil, copies: Int = 0,
        history: [HistoryEntry] = [], backup: [[UInt8]] = []
    ) {
        self.pools = pools
        self.bindings = bindings
        self.refusal = refusal
        self.copies = Mutex(copies)
        self.history = history
        self.backup = backup
    }

    private func note(_ change: String) throws(IPAMError) {
        if let refusal { throw refusal }
        changes.withLock { $0.append(change) }
    }

    private var first: DescribedBinding {
        get throws(IPAMError) {
            guard let first = bindings.first else { throw IPAMError(.notFound, .bindingNotFound, "no binding") }
            return first
        }
    }

    func allocate(
        _ request: AllocateRequest, timeout: Duration
    ) async throws(IPAMError) -> (binding: DescribedBinding, created: Bool) {
        let isHeld = copies.withLock { copies in
            copies -= 1
            return copies >= 0
        }
        if isHeld { throw IPAMError(.unavailable, .copiesOutstanding, "node-a has a copy") }
        try note(
            "allocate \(request.owner.key) pool \(request.pool ?? "-") \(request.addresses.map(\.description)) "
                + "mac \(request.mac?.description ?? "-") attached \(request.attachment != nil)")
        return (try first, true)
    }

    func release(_ request: ReleaseRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding? {
        guard case .binding(let owner) = request else { throw IPAMError(.internalError, .invalidField, "scope") }
        try note("release \(owner.key)")
        return nil
    }

    func transfer(_ request: TransferRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        try note("transfer \(request.owner.key) \(request.migrationUID) \(request.phase)")
        return try first
    }

    func binding(of owner: Owner, timeout: Duration) async throws(IPAMError) -> DescribedBinding { try first }

    func binding(holding address: IPAddress, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        if let refusal { throw refusal }
        let holder = bindings.first { $0.binding.assignments.contains { $0.address == address } }
        guard let holder else { throw IPAMError(.notFound, .bindingNotFound, "\(address) is in no binding") }
        return holder
    }

    /// Two a page.
    func bindings(
        matching filter: BindingFilter, pageSize: Int, pageToken: String?, timeout: Duration
    ) async throws(IPAMError) -> BindingPage {
        if let refusal { throw refusal }
        let matching = bindings.filter { filter.matches($0.binding) }
        let start = pageToken.flatMap { Int($0) } ?? 0
        let end = min(start + 2, matching.count)
        return BindingPage(
            bindings: Array(matching[start..<end]), nextPageToken: end < matching.count ? "\(end)" : nil)
    }

    func history(_ listing: HistoryListing, timeout: Duration) async throws(IPAMError) -> HistoryPage {
        if let refusal { throw refusal }
        let matching = history.filter { entry in
            switch listing.subject {
            case .address(let address): entry.addresses.contains(address)
            case .object(let namespace, let name): entry.owner.namespace == namespace && entry.owner.name == name
            }
        }.filter { $0.overlaps(from: listing.from, through: listing.through) && $0.revision < listing.before ?? .max }
        // Two a page.
        return HistoryPage(
            entries: Array(matching.prefix(2)), before: matching.count > 2 ? matching[1].revision : nil)
    }

    func backup(withoutHistory: Bool, _ take: ([UInt8]) async throws -> Void) async throws {
        if let refusal { throw refusal }
        for piece in backup { try await take(piece) }
    }

    func restore(_ piece: RestorePiece, timeout: Duration) async throws(IPAMError) -> RestoreOutcome {
        if let refusal { throw refusal }
        let received = restored.withLock { restored in
            restored += piece.data
            return restored.count
        }
        guard piece.offset + UInt64(piece.data.count) == UInt64(received) else {
            throw IPAMError(.failedPrecondition, .restoreBroken, "another piece was expected")
        }
        var outcome = RestoreOutcome()
        if piece.finishes { (outcome.revision, outcome.bindings) = (7, 3) }
        return outcome
    }

    func watch(_ filter: BindingFilter) -> AsyncStream<BindingEvent> {
        let present = bindings.filter { filter.matches($0.binding) }
        return AsyncStream { continuation in
            if refusal != nil { return continuation.finish() }
            for binding in present {
                continuation.yield(BindingEvent(kind: .created, binding: binding, revision: 7))
            }
            continuation.yield(BindingEvent(kind: .synced, binding: nil, revision: 7))
            continuation.finish()
        }
    }

    func createPool(_ pool: Pool, timeout: Duration) async throws(IPAMError) -> DescribedPool {
        try note("create pool \(pool.name)")
        return DescribedPool(pool: pool)
    }

    func updatePool(_ pool: Pool, timeout: Duration) async throws(IPAMError) -> DescribedPool {
        try note("update pool \(pool.name)")
        return DescribedPool(pool: pool)
    }

    func pool(named name: String, timeout: Duration) async throws(IPAMError) -> DescribedPool {
        guard let pool = pools.first(where: { $0.pool.name == name }) else {
            throw IPAMError(.notFound, .poolNotFound, "there is no pool '\(name)'")
        }
        return pool
    }

    func pools(timeout: Duration) async throws(IPAMError) -> [DescribedPool] {
        if let refusal { throw refusal }
        return pools
    }

    func deletePool(named name: String, timeout: Duration) async throws(IPAMError) { try note("delete pool \(name)") }
}
