import CInterpose
import Syscalls

/// How many connections the gRPC core takes in this process.
enum ConnectionLimit {
    /// Descriptors for all that is no such connection: the store, /metrics, the API server.
    private static let others = 256

    /// Takes at most `count`, and fewer where the process may not have as many descriptors, of which it gets all
    /// that it may.
    static func set(_ count: Int) {
        guard let most = DescriptorLimit.raise() else { return }
        // The others have the last ones: a listener that takes them all would leave none for the store.
        let wanted = min(count, .max - others) + others
        cinterpose_set_first_refused(CInt(clamping: min(wanted, most - min(others, most / 2))))
    }

    /// Connections that were refused since the process began.
    static var refused: UInt64 { UInt64(cinterpose_refused()) }
}
