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
    /// How often an allocation, or a COMMIT to another owner, is refused before: a node has a copy.
    let copies: Mutex<Int>
    /// Networks of which no binding can be given to another, and pools that cannot be updated.
    let stuck: Set<String>
    /// What an allocation finds or makes of the binding that there is.
    let allocated: DescribedBinding?
    /// Newest first.
    let history: [HistoryEntry]
    /// The pieces of what a backup sends.
    let backup: [[UInt8]]
    let restored = Mutex<[UInt8]>([])
    /// What watches send before they break off; the one after them ends when it has sent what there is.
    let watches = Mutex<[[BindingEvent]]>([])
    /// How often a page token is refused before one is taken: another server leads.
    let lostPages = Mutex(0)
    /// Names of VMs whose bindings change each time when they have been listed.
    let changedSince: Set<String>
    private let changes = Mutex<[String]>([])
    var noted: [String] { changes.withLock { $0 } }

    init(
        pools: [DescribedPool] = [], bindings: [DescribedBinding] = [], refusal: IPAMError? = nil, copies: Int = 0,
        stuck: Set<String> = [], allocated: DescribedBinding? = nil,
        history: [HistoryEntry] = [], backup: [[UInt8]] = [], changedSince: Set<String> = []
    ) {
        self.pools = pools
        self.bindings = bindings
        self.refusal = refusal
        self.copies = Mutex(copies)
        self.stuck = stuck
        self.allocated = allocated
        self.history = history
        self.backup = backup
        self.changedSince = changedSince
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
        try askCopies()
        try note(
            "allocate \(request.owner.key) pool \(request.pool ?? "-") \(request.addresses.map(\.description)) "
                + "mac \(request.mac?.description ?? "-") attached \(request.attachment != nil)")
        if let allocated { return (allocated, false) }
        return (try first, true)
    }

    private func askCopies() throws(IPAMError) {
        let isHeld = copies.withLock { copies in
            copies -= 1
            return copies >= 0
        }
        if isHeld { throw IPAMError(.unavailable, .copiesOutstanding, "node-a has a copy") }
    }

    func release(_ request: ReleaseRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding? {
        switch request {
        case .binding(let owner): try note("release \(owner.key)")
        case .attachment(_, let owner, let network): try note("detach \(owner?.name ?? "-") (\(network))")
        }
        return nil
    }

    func transfer(_ request: TransferRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        if request.migrationUID.hasPrefix("by-hand-") { return try give(request) }
        try note("transfer \(request.owner.key) \(request.migrationUID) \(request.phase)")
        return try first
    }

    private func give(_ request: TransferRequest) throws(IPAMError) -> DescribedBinding {
        guard var binding = bindings.first(where: { $0.binding.owner.key == request.owner.key }) else {
            throw IPAMError(.notFound, .bindingNotFound, "no binding")
        }
        switch request.phase {
        case .prepare: try note("prepare \(request.owner.network)")
        case .commit(let owner):
            try askCopies()
            if stuck.contains(request.owner.network) {
                throw IPAMError(.failedPrecondition, .namespaceNotAllowed, "it may not")
            }
            try note("commit \(request.owner.network)")
            binding.binding.owner = owner ?? binding.binding.owner
        case .abort: try note("abort \(request.owner.network)")
        }
        return binding
    }

    func binding(of owner: Owner, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        if let refusal { throw refusal }
        let held = bindings.first { $0.binding.owner.key == owner.key }
        guard var held else { throw IPAMError(.notFound, .bindingNotFound, "\(owner.key) has no binding") }
        if changedSince.contains(owner.name) { held.binding.revision += 1 }
        return held
    }

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
        let isLost =
            pageToken != nil
            && lostPages.withLock { lost in
                lost -= 1
                return lost >= 0
            }
        if isLost { throw IPAMError(.invalidArgument, .invalidField, "no token", metadata: ["field": "page_token"]) }
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

    func watch(_ filter: BindingFilter) -> AsyncThrowingStream<BindingEvent, any Error> {
        let present = bindings.filter { filter.matches($0.binding) }
        let broken = watches.withLock { $0.isEmpty ? nil : $0.removeFirst() }
        return AsyncThrowingStream { continuation in
            if let refusal { return continuation.finish(throwing: refusal) }
            if let broken {
                for event in broken { continuation.yield(event) }
                return continuation.finish(throwing: IPAMError(.unavailable, .noAnswer, "it broke off"))
            }
            for binding in present {
                continuation.yield(BindingEvent(kind: .created, binding: binding, revision: 7))
            }
            continuation.yield(BindingEvent(kind: .synced, binding: nil, revision: 7))
            continuation.finish()
        }
    }

    func createPool(_ pool: Pool, timeout: Duration) async throws(IPAMError) -> DescribedPool {
        try note("create pool \(pool.name)" + (pool.revision == 0 ? "" : " on \(pool.revision)"))
        return DescribedPool(pool: pool)
    }

    func updatePool(
        _ pool: Pool, for namespace: String?, timeout: Duration
    ) async throws(IPAMError) -> DescribedPool {
        try note("update pool \(pool.name)" + (pool.revision == 0 ? "" : " on \(pool.revision)"))
        if stuck.contains(pool.name) { throw IPAMError(.aborted, .poolChanged, "it was changed") }
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
