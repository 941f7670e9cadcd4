/// Calls a second, of `calls` in all with `inFlight` at a time, each next one as soon as one is answered.
///
/// The tasks run on the threads that bring their answers: what a client costs beside the servers that share its machine is
/// part of what it measures, and the way through the shared pool of threads is half of that.
package func rate(
    of calls: Int, inFlight: Int, _ call: @escaping @Sendable () async throws -> Void
) async throws -> Double {
    let each = calls / inFlight
    let elapsed = try await ContinuousClock().measure {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<inFlight {
                group.addTask(executorPreference: ReadyExecutor.shared) { for _ in 0..<each { try await call() } }
            }
            try await group.waitForAll()
        }
    }
    return Double(each * inFlight) / (elapsed / .seconds(1))
}

package func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

/// Runs a job at once, on the thread that makes it ready.
private final class ReadyExecutor: TaskExecutor {
    static let shared = ReadyExecutor()

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        unsafe job.runSynchronously(on: asUnownedTaskExecutor())
    }
}
