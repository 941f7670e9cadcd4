import CInterpose
import Glibc

/// How many connections the gRPC core takes in this process.
enum ConnectionLimit {
    /// Descriptors for all that is no such connection: the store, /metrics, the API server.
    private static let others = 256

    /// Takes at most `count`, and fewer where the process may not have as many descriptors. The soft limit of 1024 is for
    /// programs that use select: it is raised.
    static func set(_ count: Int) {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        let most = Int(clamping: limit.rlim_cur)
        // The others have the last ones: a listener that takes them all would leave none for the store.
        let wanted = min(count, .max - others) + others
        cinterpose_set_first_refused(CInt(clamping: min(wanted, most - min(others, most / 2))))
    }

    /// Connections that were refused since the process began.
    static var refused: UInt64 { UInt64(cinterpose_refused()) }
}
