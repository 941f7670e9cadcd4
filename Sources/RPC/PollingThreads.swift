import CGRPC
import Glibc
import Synchronization
import Syscalls

/// The threads that take what comes to a server: one polls, and does all the work that comes of it; the other stands by, and
/// polls in its place as soon as it has been blocked for longer than a moment.
///
/// Two that poll at the same time wake each other for every call, and fight for the core's locks and the processor.
/// Measured on two processors that are shared with the client, 64 Allocates in flight: 43 us of CPU a call against 31.
@safe final class PollingThreads: Sendable {
    private let queue: CompletionQueue
    private let moment: Duration
    /// Changed by the thread that polls, each time that it begins what may block (then odd) and has come to its end; and by the
    /// other, when that takes its place.
    private let turn = Atomic<UInt>(0)
    /// Whether who stands by is to be woken when something begins that may block.
    private let isAsleep = Atomic(false)
    private let wake = Bell()
    /// What was put off, first to last: of the thread that polls, whichever that is.
    private let putOff = Mutex<[@Sendable () -> Void]>([])
    private let isAtEnd = Atomic(false)
    private let running = Atomic(2)
    private let ended = Latch()

    /// `moment`: see `RPCServer.Configuration`.
    init(_ queue: CompletionQueue, moment: Duration) {
        self.queue = queue
        self.moment = moment
    }

    /// Real threads: they block, where the cooperative pool's must not.
    func start() {
        for index in 0..<2 {
            let run: @Sendable () -> Void = { [self] in
                unsafe cgrpc_set_thread_name("rpc-server-\(index)")
                PollingThread.withCurrent(PollingThread(of: self, polls: index == 0)) { serve($0) }
                if running.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 { ended.open() }
            }
            do throws(SystemError) { try SystemThread.detach(run) } catch { preconditionFailure("\(error)") }
        }
    }

    /// Returns when the queue has come to its end.
    func wait() async { await ended.wait() }

    private func serve(_ thread: PollingThread) {
        while thread.polls || standBy() {
            if !thread.polls { thread.takeTurn() }
            guard thread.poll(queue) else { break }
        }
        isAtEnd.store(true, ordering: .sequentiallyConsistent)
        wake.ring()
    }

    /// Returns true once the caller is to poll, false at the end.
    private func standBy() -> Bool {
        while !isAtEnd.load(ordering: .sequentiallyConsistent) {
            let seen = turn.load(ordering: .sequentiallyConsistent)
            let isRung = wake.wait(moment)
            if isRung || turn.load(ordering: .sequentiallyConsistent) != seen { continue }
            if mayBeBlocked(seen) {
                if advance(from: seen) { return true }
            } else {
                // Nothing has begun in this moment: who polls waits for calls.
                isAsleep.store(true, ordering: .sequentiallyConsistent)
                if turn.load(ordering: .sequentiallyConsistent) == seen,
                    !isAtEnd.load(ordering: .sequentiallyConsistent)
                {
                    // Not for ever: where the process had no descriptor for a bell, nobody can ring.
                    _ = wake.wait(.seconds(10))
                }
                isAsleep.store(false, ordering: .sequentiallyConsistent)
            }
        }
        return false
    }

    private func mayBeBlocked(_ turn: UInt) -> Bool { turn % 2 == 1 }

    /// From the thread that polls, when it begins what may block.
    fileprivate func begin() -> UInt {
        let begun = turn.wrappingAdd(1, ordering: .sequentiallyConsistent).newValue
        if isAsleep.load(ordering: .sequentiallyConsistent) { wake.ring() }
        return begun
    }

    fileprivate func putOff(_ body: @escaping @Sendable () -> Void) { putOff.withLock { $0.append(body) } }

    /// Returns true where there was something.
    fileprivate func doFirstPutOff() -> Bool {
        guard let body = putOff.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) else { return false }
        body()
        return true
    }

    fileprivate var hasPutOff: Bool { putOff.withLock { !$0.isEmpty } }

    /// Ends what began, or takes the place of who began it. False where the other has been faster.
    fileprivate func advance(from begun: UInt) -> Bool {
        turn.compareExchange(expected: begun, desired: begun &+ 1, ordering: .sequentiallyConsistent).exchanged
    }
}

/// What a thread that calls are taken on may be asked for, by whoever works on it.
package final class PollingThread {
    /// So many calls at most are taken before what was put off is done.
    private static let mostCalls = 256

    private let threads: PollingThreads
    fileprivate private(set) var polls: Bool
    private var isBlocked = false
    private var callsSince = 0

    fileprivate init(of threads: PollingThreads, polls: Bool) {
        self.threads = threads
        self.polls = polls
    }

    /// What was put off has waited for long.
    fileprivate func takeTurn() {
        polls = true
        callsSince = Self.mostCalls
    }

    /// Runs `body` once the thread that polls has taken all calls that have come; at once where this one takes none.
    package static func afterCalls(_ body: @escaping @Sendable () -> Void) {
        if let thread = current, thread.takesCalls { thread.threads.putOff(body) } else { body() }
    }

    /// Whether this thread is one of those that take calls in turn.
    package static var isCurrent: Bool { current != nil }

    /// Whether calls are taken on this thread: then nobody takes any while it works.
    package static var takesCalls: Bool { current?.takesCalls ?? false }
    private var takesCalls: Bool { polls && !isBlocked }

    /// Runs `body`, which may block: if it does so for long, calls are taken on another thread, which then does what was put off
    /// as well. Else that comes next, before any further call.
    package static func blocking<Value, Failure: Error>(
        _ body: () throws(Failure) -> Value
    ) throws(Failure) -> Value {
        guard let thread = current, thread.takesCalls else { return try body() }
        thread.isBlocked = true
        let begun = thread.threads.begin()
        defer {
            thread.polls = thread.threads.advance(from: begun)
            thread.isBlocked = false
            thread.callsSince = Self.mostCalls
        }
        return try body()
    }

    /// Takes one event, or does what was put off; false at the end of the queue.
    fileprivate func poll(_ queue: CompletionQueue) -> Bool {
        if !threads.hasPutOff {
            callsSince = 0
            return queue.poll() != .end
        }
        var polled = CompletionQueue.Polled.nothing
        if callsSince < Self.mostCalls {
            callsSince += 1
            polled = queue.poll(until: gpr_time_0(GPR_CLOCK_MONOTONIC))
            // Once it says so without a look, where something has ended between two polls (kicked_without_poller in the core's
            // ev_epoll1_linux.cc).
            if polled == .nothing { polled = queue.poll(until: gpr_time_0(GPR_CLOCK_MONOTONIC)) }
        }
        // One may have blocked, and the rest is the other's then.
        if polled != .event { while polls, threads.doFirstPutOff() {} }
        return polled != .end
    }

    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        unsafe pthread_key_create(&key, nil)
        return key
    }()

    private static var current: PollingThread? {
        unsafe pthread_getspecific(key).map { unsafe Unmanaged.fromOpaque($0).takeUnretainedValue() }
    }

    fileprivate static func withCurrent(_ thread: PollingThread, _ body: (PollingThread) -> Void) {
        unsafe pthread_setspecific(key, Unmanaged.passUnretained(thread).toOpaque())
        body(thread)
        pthread_setspecific(key, nil)
    }
}
