import Foundation
import Glibc

/// `PATH.lock`, held with flock(2) for as long as this object lives: two servers never have one ledger.
///
/// Not SQLite's own exclusive mode: that would lock out people who look with `sqlite3` while the server runs. The file
/// stays when the lock is gone; the kernel lets go of the lock however the process ends.
final class StoreLock: Sendable {
    private let descriptor: CInt

    /// Throws `.inUse` with the holder's process, or `.unwritable`.
    init(forStoreAt path: String) throws(StoreError) {
        let lockPath = path + ".lock"
        let descriptor = unsafe open(lockPath, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw .unwritable(path, found: Self.reason("open \(lockPath)")) }
        // Who may open it may hold it, and so keep every server out.
        fchmod(descriptor, 0o600)
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let isHeld = errno == EWOULDBLOCK
            let reason = Self.reason("lock \(lockPath)")
            close(descriptor)
            guard isHeld else { throw .unwritable(path, found: reason) }
            let holder = (try? String(contentsOfFile: lockPath, encoding: .utf8))?
                .trimmingCharacters(in: .whitespacesAndNewlines)
            throw .inUse(path, by: holder.flatMap { $0.isEmpty ? nil : $0 } ?? "another process")
        }
        self.descriptor = descriptor
        // Who holds it is a help for people; that it is held is what counts.
        let holder = "process \(getpid()) on \(ProcessInfo.processInfo.hostName)\n"
        _ = ftruncate(descriptor, 0)
        _ = unsafe pwrite(descriptor, holder, holder.utf8.count, 0)
    }

    deinit { close(descriptor) }

    private static func reason(_ action: String) -> String {
        unsafe "cannot \(action): \(String(cString: strerror(errno)))"
    }
}
