import Synchronization
import Syscalls

/// The threads that take a listener's connections, each one at a time: one more than there are connections, up to a limit.
/// Connections beyond it wait in the kernel.
final class ConnectionThreads: Sendable {
    private static let limit = 256
    /// Those that wait for a connection although another does.
    private static let spare = 8
    /// For an answer that nobody reads.
    private static let patience = Duration.seconds(5)

    private struct State {
        var all = 0
        var idle = 0
        var isClosed = false
        var whenDone: CheckedContinuation<Void, Never>?
    }

    private let listener: UnixListener
    private let serve: @Sendable (borrowing UnixStream) -> Void
    private let state = Mutex(State())

    init(_ listener: consuming UnixListener, serve: @escaping @Sendable (borrowing UnixStream) -> Void) {
        self.listener = listener
        self.serve = serve
    }

    /// Throws where there is not even one thread to be had.
    func start() throws(SystemError) { try addThread() }

    /// Takes no more connections.
    func close() {
        state.withLock { $0.isClosed = true }
        listener.close()
    }

    /// Returns once no thread is left, and the connections that they had are served; false where nobody has called `close`.
    func finish() async -> Bool {
        await withCheckedContinuation { continuation in
            let isDone = state.withLock { state in
                if state.all > 0 { state.whenDone = continuation }
                return state.all == 0
            }
            if isDone { continuation.resume() }
        }
        return state.withLock { $0.isClosed }
    }

    private func addThread() throws(SystemError) {
        state.withLock {
            $0.all += 1
            $0.idle += 1
        }
        do throws(SystemError) {
            try SystemThread.detach { self.run() }
        } catch {
            end()
            throw error
        }
    }

    private func run() {
        while let connection = listener.accept(patience: Self.patience) {
            let isLast = state.withLock { state in
                state.idle -= 1
                return state.idle == 0 && state.all < Self.limit && !state.isClosed
            }
            // Without another thread the next connection waits until this one is served.
            if isLast { try? addThread() }
            serve(connection)
            let isSpare = state.withLock { state in
                state.idle += 1
                return state.idle > Self.spare
            }
            if isSpare { break }
        }
        end()
    }

    private func end() {
        let done = state.withLock { state in
            state.idle -= 1
            state.all -= 1
            return state.all == 0 ? state.whenDone.take() : nil
        }
        done?.resume()
    }
}
