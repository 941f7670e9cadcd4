import CGRPC
import Glibc
import Synchronization
import Syscalls

/// What the core calls back: the tag of an operation is the completion itself, retained once, with the number of the
/// operation in the low bits of its address. So no table and no lock stand between a tag and what it is for.
/// Unchecked: a class that is inherited from cannot be checked; each subclass says why it is safe.
package class Completion: @unchecked Sendable {
    /// Called once for every tag that was given to the core, on a thread of the queue's.
    func completed(_ operation: Int, success: Bool) { preconditionFailure("a completion says what it does") }

    /// The tag to start an operation (0...7) with. Retains the completion until the tag comes back, or is taken back.
    final func tag(_ operation: Int) -> UnsafeMutableRawPointer {
        let tag = unsafe Unmanaged.passRetained(self).toOpaque() + operation
        #if THREAD_SANITIZED
            unsafe Handover.give(tag)
        #endif
        return unsafe tag
    }

    /// For an operation that could not be started: its tag will not come back.
    final func takeBack() { unsafe Unmanaged.passUnretained(self).release() }

    fileprivate static func deliver(_ tag: UnsafeMutableRawPointer, success: Bool) {
        #if THREAD_SANITIZED
            unsafe Handover.take(tag)
        #endif
        let address = UInt(bitPattern: tag)
        let operation = Int(address & 7)
        unsafe Unmanaged<Completion>.fromOpaque(tag - operation).takeRetainedValue().completed(
            operation, success: success)
    }
}

/// A completion queue of the core.
///
/// Nothing may be started on it after `shutdown`: the core ends the process then. Whoever uses it counts what it has
/// open and shuts it when that is nothing.
/// Unchecked: the core synchronises the queue itself, and the pointer never changes.
@safe final class CompletionQueue: @unchecked Sendable {
    enum Polled { case event, nothing, end }

    let raw: OpaquePointer

    init() {
        RPCRuntime.start()
        unsafe raw = unsafe grpc_completion_queue_create_for_next(nil)
    }

    /// Takes one event, if one comes before `deadline`. Blocks.
    func poll(until deadline: gpr_timespec = gpr_inf_future(GPR_CLOCK_MONOTONIC)) -> Polled {
        let event = unsafe grpc_completion_queue_next(raw, deadline, nil)
        switch unsafe event.type {
        case GRPC_QUEUE_SHUTDOWN: return .end
        case GRPC_OP_COMPLETE:
            if let tag = unsafe event.tag { unsafe Completion.deliver(tag, success: event.success != 0) }
            return .event
        default: return .nothing
        }
    }

    func shutdown() { unsafe grpc_completion_queue_shutdown(raw) }

    /// Only after its end has been polled, or where it was never used.
    func destroy() { unsafe grpc_completion_queue_destroy(raw) }
}

/// The core, made ready once and kept until the process ends.
enum RPCRuntime {
    private static let started: Void = {
        // A write to a connection that the peer has closed is an error to the core, not a signal.
        signal(SIGPIPE, SIG_IGN)
        grpc_init()
    }()

    static func start() { _ = started }
}

/// Opens once; who waits is let go then, and who comes later does not wait.
final class Latch: Sendable {
    private enum State {
        case closed(waiting: [CheckedContinuation<Void, Never>])
        case open
    }

    private let state = Mutex(State.closed(waiting: []))

    func open() {
        let waiting = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            guard case .closed(let waiting) = state else { return [] }
            state = .open
            return waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    func wait() async {
        await withCheckedContinuation { continuation in
            let isOpen = state.withLock { state in
                guard case .closed(var waiting) = state else { return true }
                waiting.append(continuation)
                state = .closed(waiting: waiting)
                return false
            }
            if isOpen { continuation.resume() }
        }
    }
}
