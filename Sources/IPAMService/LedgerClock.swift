package import IPAMModel

/// The wall clock when the process started, carried on by the monotonic clock: it never goes back, neither when an
/// operator sets the machine's clock nor below the newest time that the store holds.
package struct LedgerClock: Sendable {
    private let origin: Timestamp
    private let earliestOrigin: Timestamp
    private let started: ContinuousClock.Instant

    /// `wallClock` is read in this moment; `newest` is the latest time in the store.
    package init(wallClock: Timestamp, notBefore newest: Timestamp = Timestamp(nanoseconds: 0)) {
        self.init(wallClock, earliest: wallClock, newest)
    }

    private init(_ now: Timestamp, earliest: Timestamp, _ newest: Timestamp) {
        origin = max(now, newest)
        // An empty ledger says nothing of the time.
        earliestOrigin = newest.nanoseconds > 0 ? min(earliest, newest) : earliest
        started = .now
    }

    /// This clock, carried on from no earlier than `newest`: that may take long to find out, so the time is read after it.
    func carriedOn(notBefore newest: Timestamp) -> LedgerClock {
        LedgerClock(now(), earliest: earliest(), newest)
    }

    package func now() -> Timestamp { origin.advanced(by: elapsed) }

    /// What the wall clock and each ledger's newest time, when it was begun with, agree has come: one that is ahead does not
    /// bring it forward. It is behind by as long as nothing had changed before.
    func earliest() -> Timestamp { earliestOrigin.advanced(by: elapsed) }

    private var elapsed: Delay {
        let elapsed = (ContinuousClock.now - started).components
        return Delay(nanoseconds: elapsed.seconds * 1_000_000_000 + elapsed.attoseconds / 1_000_000_000)
    }
}
