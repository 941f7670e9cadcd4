import Dispatch

/// Whether a call is let in, and as whose: decided before its message is read.
package enum Admission<Caller: Sendable>: Sendable {
    case admitted(Caller)
    case refused(RPCStatus)
    /// It takes time to find out.
    case pending(@Sendable () async throws(RPCStatus) -> Caller)
}

extension ServerCall {
    /// Goes on with `answer` where the call is let in, at once or in a task of its own; else ends it.
    func admit<Caller: Sendable>(
        _ admission: Admission<Caller>, _ answer: @escaping @Sendable (ServerCall, Caller) -> Void
    ) {
        switch admission {
        case .admitted(let caller): answer(self, caller)
        case .refused(let status): finish(.failure(status))
        case .pending(let decision):
            Task {
                do throws(RPCStatus) {
                    let caller = try await decision()
                    // The answer may block, as for a commit, and tasks must not.
                    DispatchQueue.blocking.async { answer(self, caller) }
                } catch {
                    finish(.failure(error))
                }
            }
        }
    }
}
