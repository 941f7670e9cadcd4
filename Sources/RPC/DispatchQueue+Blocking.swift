package import Dispatch

extension DispatchQueue {
    /// A queue for one thing that may block: a new one each time, which gets a thread of its own, of 255 that libdispatch makes
    /// at most. Those of `global()` are on Linux the threads that tasks run on, about as few as there are processors.
    package static var blocking: DispatchQueue { DispatchQueue(label: "holdfast.blocking") }
}

/// Runs what blocks on a thread that may.
package func blocking<Value: Sendable, Failure: Error>(
    _ body: @escaping @Sendable () throws(Failure) -> Value
) async throws(Failure) -> Value {
    let result: Result<Value, Failure> = await withCheckedContinuation { continuation in
        DispatchQueue.blocking.async {
            continuation.resume(returning: Result { () throws(Failure) in try body() })
        }
    }
    return try result.get()
}
