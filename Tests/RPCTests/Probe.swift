import Glibc
import RPC
import Synchronization

#if THREAD_SANITIZED
    typealias Mutex = RPC.VisibleMutex
#endif

/// What handlers report, and tests wait for.
final class Probe: Sendable {
    private let counts = Mutex<[String: Int]>([:])
    private let gathered = Mutex<[@Sendable () -> Void]>([])
    private let kept = Mutex<(@Sendable () -> Void)?>(nil)

    func add(_ event: String, count: Int = 1) { counts.withLock { $0[event, default: 0] += count } }
    func count(_ event: String) -> Int { counts.withLock { $0[event, default: 0] } }

    /// Remembers what the test will do later; what was kept before is let go.
    func keep(_ action: (@Sendable () -> Void)?) { kept.withLock { $0 = action } }
    func doWhatIsKept() { kept.withLock { $0 }?() }

    /// Remembers it beside what was gathered before.
    func gather(_ action: @escaping @Sendable () -> Void) { gathered.withLock { $0.append(action) } }
    func takeGathered() -> [@Sendable () -> Void] {
        gathered.withLock { gathered in
            defer { gathered = [] }
            return gathered
        }
    }

    /// Waits as handlers should not: by the thread.
    func block(until event: String) {
        let deadline = ContinuousClock.now + .seconds(30)
        while count(event) == 0, ContinuousClock.now < deadline { usleep(1000) }
    }

    /// False when it did not happen in time.
    func wait(for event: String, count: Int = 1) async -> Bool {
        await eventually { self.count(event) >= count }
    }
}

/// Asks again and again until it is so, for a time that only a fault lets pass.
func eventually(_ condition: () async -> Bool) async -> Bool {
    let deadline = ContinuousClock.now + .seconds(30)
    while ContinuousClock.now < deadline {
        if await condition() { return true }
        do { try await Task.sleep(for: .milliseconds(5)) } catch { return false }
    }
    return false
}
