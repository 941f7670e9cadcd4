package import IPAMAPI
package import IPAMModel
import Ledger
import Synchronization

/// A committed change of a binding. Indirect: every watcher's buffer holds a reference to the same one.
package indirect enum LedgerEvent: Sendable {
    case put(DescribedBinding)
    /// The binding as it was, with the revision of its freeing.
    case removed(DescribedBinding)

    /// Nil for changes of anything but bindings.
    init?(_ change: Change, in ledger: borrowing Ledger) {
        switch change {
        case .putBinding(let binding): self = .put(ledger.described(binding))
        case .removeBinding(let binding): self = .removed(ledger.described(binding))
        case .putFreed, .removeFreed, .putPool, .removePool, .putHistory, .removeHistory: return nil
        }
    }
}

/// Hands every committed change to whoever watches. A watcher that falls too far behind is cut off, so that it costs
/// the writer nothing.
package final class WatchHub: Sendable {
    /// Events that wait for a watcher at most.
    package static let bufferedEvents = 16_384
    package static let mostWatchers = 256
    /// Bindings that all watches together remember at most, of those that they have sent: some 130 bytes each.
    static let mostRemembered = 4 << 20
    /// Of one caller that may not do everything anyway.
    static let mostOfCaller = 32

    private struct Watcher: Sendable {
        let events: AsyncStream<LedgerEvent>.Continuation
        let cutOff: @Sendable () -> Void
        let caller: Caller
    }

    private struct State: Sendable {
        var nextID = 0
        var watchers: [Int: Watcher] = [:]
        var isClosed = false
    }

    private let state = Mutex(State())
    private let remembered = Atomic(0)

    /// Counts so many more, or fewer, that a watch remembers. False where they are too many now.
    @discardableResult
    func remember(_ more: Int) -> Bool {
        remembered.wrappingAdd(more, ordering: .relaxed).newValue <= Self.mostRemembered || more <= 0
    }

    /// Every event published after this call, in order. The stream ends when the watcher is too slow or leaves, and when
    /// the hub is closed. `cutOff` is called for one that is too slow, which may be stuck in sending to its client. Nil
    /// where there are too many already, or too many of the caller's.
    package func subscribe(
        by caller: Caller, cutOff: @escaping @Sendable () -> Void
    ) -> (id: Int, events: AsyncStream<LedgerEvent>)? {
        let (events, continuation) = AsyncStream.makeStream(
            of: LedgerEvent.self, bufferingPolicy: .bufferingOldest(Self.bufferedEvents))
        let id = state.withLock { state -> Int? in
            if state.watchers.count >= Self.mostWatchers { return nil }
            if caller.roles != .any {
                let own = state.watchers.values.count { $0.caller.name == caller.name && $0.caller.node == caller.node }
                if own >= Self.mostOfCaller { return nil }
            }
            state.nextID += 1
            if state.isClosed {
                continuation.finish()
            } else {
                state.watchers[state.nextID] = Watcher(events: continuation, cutOff: cutOff, caller: caller)
            }
            return state.nextID
        }
        return id.map { ($0, events) }
    }

    package func unsubscribe(_ id: Int) {
        state.withLock { $0.watchers.removeValue(forKey: id) }?.events.finish()
    }

    /// Ends every watch, also those that begin later: the server stops, and a watch would hold it up.
    package func close() {
        state.withLock { state in
            state.isClosed = true
            for watcher in state.watchers.values { watcher.events.finish() }
            state.watchers = [:]
        }
    }

    /// Ends every watch that there is now.
    package func endAll() {
        state.withLock { state in
            for watcher in state.watchers.values { watcher.events.finish() }
            state.watchers = [:]
        }
    }

    package var isClosed: Bool { state.withLock(\.isClosed) }

    /// `events` is asked for only where somebody watches.
    func publish(_ events: () -> [LedgerEvent]) {
        state.withLock { state in
            guard !state.watchers.isEmpty else { return }
            for event in events() {
                for (id, watcher) in state.watchers {
                    guard case .dropped = watcher.events.yield(event) else { continue }
                    watcher.events.finish()
                    watcher.cutOff()
                    state.watchers[id] = nil
                }
            }
        }
    }
}
