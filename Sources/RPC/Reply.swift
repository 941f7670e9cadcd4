import CInterpose
import Synchronization

/// The answer that a unary call waits for. Any thread may give it, once; a second answer is ignored, and a reply that is
/// let go of without one answers INTERNAL, so that no client waits for a lost call.
package final class Reply<Output: Sendable>: Sendable {
    private let call: ServerCall
    private let encode: @Sendable (Output) -> OutgoingMessage
    private let answered = Atomic(false)

    init(_ call: ServerCall, _ encode: @escaping @Sendable (Output) -> OutgoingMessage) {
        self.call = call
        self.encode = encode
    }

    deinit {
        if !answered.load(ordering: .relaxed) {
            call.finish(.failure(RPCStatus(.internalError, "the call was dropped without an answer")))
        }
    }

    package func succeed(_ output: Output) {
        guard !answered.exchange(true, ordering: .relaxed) else { return }
        call.finish(.success(encode(output)))
    }

    package func fail(_ status: RPCStatus) {
        guard !answered.exchange(true, ordering: .relaxed) else { return }
        call.finish(.failure(status))
    }
}

/// Of many replies that one thread gives.
package enum Replies {
    /// Runs `give`, whose replies to one client share packets. It replies, and waits for nothing.
    package static func together(_ give: () -> Void) {
        let hasBegun = cinterpose_begin_replies()
        give()
        if hasBegun { cinterpose_end_replies() }
    }

    /// What `give` has replied so far leaves, and what else it replies leaves by itself: before it waits after all.
    package static func letGo() { cinterpose_end_replies() }
}
