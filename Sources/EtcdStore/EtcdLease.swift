import Dispatch
import Foundation
import RPC
import Synchronization
import Syscalls

/// The lease that a leader's key hangs on, renewed by a thread of its own for as long as etcd answers.
///
/// It counts as held for its time from when the last renewal was sent: etcd counts from when that came, so here it always
/// ends first. The clock is one that goes on while the process, or the machine, stands still.
///
/// That etcd renews it is not enough: before 3.4.31 and 3.5.13 a member that hangs on its disk goes on renewing leases that
/// the others have let end (etcd issue 15247). So the leader's key is read after each renewal, which only a majority answers.
final class EtcdLease: Sendable {
    private struct State {
        var end: ContinuousClock.Instant
        var isGivenUp = false
    }

    let id: Int64
    private let length: Duration
    private let client: EtcdClient
    private let state: Mutex<State>
    /// Signalled once, when the lease is held no longer.
    private let lost = DispatchSemaphore(value: 0)
    private let wake = Bell()

    init(_ client: EtcdClient, id: Int64, length: Duration, since granted: ContinuousClock.Instant) {
        self.client = client
        self.id = id
        self.length = length
        state = Mutex(State(end: granted + length))
    }

    var isHeld: Bool { state.withLock { !$0.isGivenUp && ContinuousClock.now < $0.end } }

    /// How long one call may take, so that there is time to ask another member before the lease ends.
    var patience: Duration { length / 4 }

    /// Between attempts.
    func pause() { _ = wake.wait(.milliseconds(50)) }

    /// Renews it from now on, for as long as `isInForce`, which throws where that is not known.
    func keep(while isInForce: @escaping @Sendable () throws -> Bool = { true }) {
        let thread = Thread { [self] in
            while isHeld {
                let sent = ContinuousClock.now
                do {
                    guard try client.keepAlive(lease: id, timeout: patience) > 0 && isInForce(), extend(from: sent)
                    else { break }
                    _ = wake.wait(length / 4)
                } catch {
                    pause()
                }
            }
            state.withLock { $0.isGivenUp = true }
            // So that another server need not wait for the end of it; where that fails, it does.
            try? client.revoke(lease: id, timeout: patience)
            lost.signal()
        }
        thread.name = "etcd-lease"
        thread.start()
    }

    /// False where it has ended meanwhile, whatever etcd says: who was told so must be right.
    private func extend(from sent: ContinuousClock.Instant) -> Bool {
        state.withLock { state in
            guard !state.isGivenUp, ContinuousClock.now < state.end else { return false }
            state.end = max(state.end, sent + length)
            return true
        }
    }

    /// Ends it.
    func giveUp() {
        state.withLock { $0.isGivenUp = true }
        wake.ring()
    }

    /// Returns once it is given up or lost, and etcd knows or cannot be told.
    func waitUntilLost() {
        lost.wait()
        lost.signal()
    }
}
