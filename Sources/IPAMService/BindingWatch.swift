import IPAMAPI
import IPAMModel
import Ledger

/// One WatchBindings call: the present state, SYNCED, then what changes, seen through a filter.
struct BindingWatch: ~Copyable {
    /// Bindings read from the ledger at a time while the present state is sent.
    static let pageSize = 256

    private let writer: Writer
    private let filter: BindingFilter
    private let id: Int
    private let events: AsyncStream<LedgerEvent>
    private let revision: UInt64
    /// What the watcher has been sent and not seen freed, with its revision: decides CREATED, UPDATED, FREED or nothing.
    private var known: [OwnerKey: UInt64] = [:]
    /// How many of them the hub knows of.
    private var counted = 0

    /// Throws RESOURCE_EXHAUSTED where there are too many.
    init(
        _ filter: BindingFilter, by caller: Caller, writer: Writer, cutOff: @escaping @Sendable (IPAMError) -> Void
    ) throws(IPAMError) {
        // Subscribed before the first page is read: a change is in a page, or among the events, or in both.
        let begun = writer.read { [watches = writer.watches] ledger, _ in
            watches.subscribe(by: caller) { cutOff(.watchTooSlow) }.map { ($0.id, $0.events, ledger.committedRevision) }
        }
        guard let begun else {
            throw IPAMError(
                .resourceExhausted, .overloaded,
                "\(WatchHub.mostWatchers) watches are open on this server, or \(WatchHub.mostOfCaller) of this caller: try again"
            )
        }
        (id, events, revision) = begun
        self.writer = writer
        self.filter = filter
    }

    deinit {
        writer.watches.unsubscribe(id)
        writer.watches.remember(-counted)
    }

    /// Returns when the caller's task is cancelled; throws what `send` throws, UNAVAILABLE when the server stops or
    /// no longer leads, ABORTED when the watcher is too slow, and RESOURCE_EXHAUSTED where all watches remember too much.
    mutating func run<Failure: Error>(
        failure: (IPAMError) -> Failure, send: (BindingEvent) async throws(Failure) -> Void
    ) async throws(Failure) {
        var token: String?
        repeat {
            let page: BindingPage
            do throws(IPAMError) {
                page = try writer.page(BindingListing(filter: filter, pageSize: Self.pageSize, pageToken: token))
            } catch {
                // The token is of a ledger that this server no longer serves: so are the events.
                throw failure(error.reason == .invalidField ? ending : error)
            }
            for binding in page.bindings {
                known[binding.binding.owner.key] = binding.binding.revision
                try await send(BindingEvent(kind: .created, binding: binding, revision: binding.binding.revision))
            }
            do throws(IPAMError) { try count() } catch { throw failure(error) }
            token = page.nextPageToken
        } while token != nil
        try await send(BindingEvent(kind: .synced, binding: nil, revision: revision))

        for await event in events {
            if let event = seen(event) { try await send(event) }
            do throws(IPAMError) { try count() } catch { throw failure(error) }
        }
        if !Task.isCancelled || writer.watches.isClosed { throw failure(ending) }
    }

    private mutating func count() throws(IPAMError) {
        let more = known.count - counted
        counted = known.count
        if !writer.watches.remember(more) { throw .tooManyRemembered }
    }

    /// Why there are no more events.
    private var ending: IPAMError {
        if writer.watches.isClosed { return .shuttingDown }
        do throws(IPAMError) { try writer.checkIsCurrent() } catch { return error }
        return .watchTooSlow
    }

    private mutating func seen(_ event: LedgerEvent) -> BindingEvent? {
        let binding =
            switch event {
            case .put(let binding), .removed(let binding): binding
            }
        let (key, revision) = (binding.binding.owner.key, binding.binding.revision)
        let before = known[key]
        if let before, before >= revision { return nil }
        if case .put = event, filter.matches(binding.binding) {
            known[key] = revision
            return BindingEvent(kind: before == nil ? .created : .updated, binding: binding, revision: revision)
        }
        guard before != nil else { return nil }
        known[key] = nil
        return BindingEvent(kind: .freed, binding: binding, revision: revision)
    }
}

extension IPAMError {
    fileprivate static let tooManyRemembered = IPAMError(
        .resourceExhausted, .overloaded,
        "the watches on this server are of \(WatchHub.mostRemembered) bindings already: watch fewer, or try again")

    fileprivate static let watchTooSlow = IPAMError(
        .aborted, .watchTooSlow, "this watch fell too far behind: start it again for the present state")
}
