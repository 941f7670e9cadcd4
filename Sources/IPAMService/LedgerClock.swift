package import IPAMModel
import Synchronization

/// The wall clock when the process started, carried on by the monotonic clock: it never goes back, neither when an
/// operator sets the machine's clock nor below the newest time that the store holds.
package struct LedgerClock: Sendable {
    private let origin: Timestamp
    private let started: ContinuousClock.Instant

    /// `wallClock` is read in this moment; `newest` is the latest time in the store.
    package init(wallClock: Timestamp, notBefore newest: Timestamp = Timestamp(nanoseconds: 0)) {
        origin = max(wallClock, newest)
        started = .now
    }

    /// This clock, carried on from no earlier than `newest`: that may take long to find out, so the time is read after it.
    func carriedOn(notBefore newest: Timestamp) -> LedgerClock { LedgerClock(wallClock: now(), notBefore: newest) }

    package func now() -> Timestamp {
        let elapsed = (ContinuousClock.now - started).components
        let nanoseconds = elapsed.seconds * 1_000_000_000 + elapsed.attoseconds / 1_000_000_000
        return origin.advanced(by: Delay(nanoseconds: nanoseconds))
    }
}
