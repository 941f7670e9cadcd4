package import IPAMAPI
import Ledger
import Synchronization

/// A committed change of a binding.
package enum LedgerEvent: Sendable {
    case put(DescribedBinding)
    /// The binding as it was, with the revision of its freeing.
    case removed(DescribedBinding)

    /// Nil for changes of pools and freed addresses.
    init?(_ change: Change, in ledger: borrowing Ledger) {
        switch change {
        case .putBinding(let binding): self = .put(ledger.described(binding))
        case .removeBinding(let binding): self = .removed(ledger.described(binding))
        case .putFreed, .removeFreed, .putPool, .removePool: return nil
        }
    }
}

/// Hands every committed batch to whoever watches. A watcher that falls too far behind is cut off, so that it costs
/// the writer nothing.
package final class WatchHub: Sendable {
    /// Batches that wait for a watcher at most.
    package static let bufferedBatches = 4096

    private struct State: Sendable {
        var nextID = 0
        var watchers: [Int: AsyncStream<[LedgerEvent]>.Continuation] = [:]
    }

    private let state = Mutex(State())

    /// Every batch published after this call, in order. The stream ends when the watcher is too slow or leaves.
    package func subscribe() -> (id: Int, events: AsyncStream<[LedgerEvent]>) {
        let (events, continuation) = AsyncStream.makeStream(
            of: [LedgerEvent].self, bufferingPolicy: .bufferingOldest(Self.bufferedBatches))
        let id = state.withLock { state in
            state.nextID += 1
            state.watchers[state.nextID] = continuation
            return state.nextID
        }
        return (id, events)
    }

    package func unsubscribe(_ id: Int) {
        state.withLock { $0.watchers.removeValue(forKey: id) }?.finish()
    }

    /// `events` is asked for only where somebody watches.
    func publish(_ events: () -> [LedgerEvent]) {
        state.withLock { state in
            guard !state.watchers.isEmpty else { return }
            let events = events()
            guard !events.isEmpty else { return }
            for (id, watcher) in state.watchers {
                if case .dropped = watcher.yield(events) {
                    watcher.finish()
                    state.watchers[id] = nil
                }
            }
        }
    }
}
