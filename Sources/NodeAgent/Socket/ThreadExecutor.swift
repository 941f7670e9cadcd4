import Dispatch
import Synchronization

/// Runs one task on the thread that waits for it: the way to the shared pool of threads and back is spared, and a task that
/// waits for a disk holds up no other.
final class ThreadExecutor: TaskExecutor {
    private let jobs = Mutex<[UnownedJob]>([])
    /// Counts what `jobs` holds.
    private let wake = DispatchSemaphore(value: 0)

    /// What `operation` returns. Blocks the thread until then.
    static func run<Value: Sendable>(_ operation: @escaping @Sendable () async -> Value) -> Value {
        let executor = ThreadExecutor()
        let outcome = Outcome<Value>()
        let task = Task(executorPreference: executor) {
            let value = await operation()
            outcome.value.withLock { $0 = value }
        }
        defer { withExtendedLifetime(task) {} }
        while true {
            if let value = outcome.value.withLock({ $0 }) { return value }
            executor.runNext()
        }
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        jobs.withLock { $0.append(job) }
        wake.signal()
    }

    private func runNext() {
        wake.wait()
        let job = jobs.withLock { $0.removeFirst() }
        unsafe job.runSynchronously(on: asUnownedTaskExecutor())
    }

    private final class Outcome<Value: Sendable>: Sendable { let value = Mutex<Value?>(nil) }
}
