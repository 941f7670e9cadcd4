import CLinux
import Glibc
package import Syscalls

/// The kernel's network namespaces, entered by threads (setns(2)).
package enum NetworkNamespace {

    /// What one look at a path shows.
    package enum Sight: Hashable, Sendable {
        /// A namespace, and what tells it from a later one at the same path.
        case there(UInt64)
        case gone
        /// Nothing that could be told: its directory is not there, or what is at the path is no namespace, as where the
        /// host's mounts do not come through.
        case unseen
    }

    package static func look(at path: String) -> Sight {
        var (info, own) = (stat(), stat())
        if unsafe stat(path, &info) == 0 {
            // All namespaces are files of one kernel-internal file system.
            guard unsafe stat("/proc/self/ns/net", &own) == 0, info.st_dev == own.st_dev else { return .unseen }
            return .there(UInt64(info.st_ino))
        }
        guard errno == ENOENT, let slash = path.lastIndex(of: "/") else { return .unseen }
        // A process that has ended has no directory any more (proc(5)).
        let directory = path.hasPrefix("/proc/") ? "/proc" : String(path[..<slash])
        return unsafe stat(directory, &info) == 0 ? .gone : .unseen
    }

    /// What tells the namespace at `path` from another one that stands there later; nil where none is to be seen.
    package static func identity(at path: String) -> UInt64? {
        if case .there(let identity) = look(at: path) { identity } else { nil }
    }

    /// Runs `body` in the namespace at `path`, on a thread that is made for it and ends with it, as no other thread of the
    /// process may find itself elsewhere. A socket that `body` opens stays in the namespace, whoever uses it.
    ///
    /// Blocks for as long as `body` runs. Fails where there is no such namespace or the process may not enter it
    /// (CAP_SYS_ADMIN).
    package static func inside<Value: Sendable>(
        _ path: String, _ body: @escaping @Sendable () throws(SystemError) -> Value
    ) throws(SystemError) -> Value {
        let visit = Visit<Value>()
        let thread = try SystemThread { visit.outcome = enter(path, body) }
        thread.join()
        switch visit.outcome {
        case .success(let value): return value
        case .failure(let error): throw error
        case nil: throw SystemError("enter \(path)")
        }
    }

    private static func enter<Value>(
        _ path: String, _ body: () throws(SystemError) -> Value
    ) -> Result<Value, SystemError> {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return .failure(SystemError("open the network namespace \(path)")) }
        defer { close(descriptor) }
        guard setns(descriptor, CLONE_NEWNET) == 0 else {
            return .failure(SystemError("enter the network namespace \(path)"))
        }
        do {
            return .success(try body())
        } catch {
            return .failure(error)
        }
    }

    /// Unchecked: written by the thread, read after its end.
    private final class Visit<Value>: @unchecked Sendable { var outcome: Result<Value, SystemError>? }
}
