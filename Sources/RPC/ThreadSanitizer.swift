#if THREAD_SANITIZED

    import CGRPC
    import Glibc

    // Only in the build of scripts/sanitize: what the thread sanitizer must be told, so that what it reports is a race.

    /// In this target; others, which are not looked at, have Synchronization's.
    typealias Mutex = VisibleMutex

    /// Stands in for Synchronization's Mutex, whose locking the sanitizer does not see on Linux: it would call all that is
    /// under one a race. A POSIX mutex it knows.
    /// Unchecked: the value is only touched under the lock.
    @safe package struct VisibleMutex<Value: ~Copyable>: ~Copyable, @unchecked Sendable {
        private let lock: UnsafeMutablePointer<pthread_mutex_t>
        private let value: UnsafeMutablePointer<Value>

        package init(_ initial: consuming sending Value) {
            unsafe lock = .allocate(capacity: 1)
            unsafe lock.initialize(to: pthread_mutex_t())
            unsafe pthread_mutex_init(lock, nil)
            unsafe value = .allocate(capacity: 1)
            unsafe value.initialize(to: initial)
        }

        deinit {
            unsafe pthread_mutex_destroy(lock)
            unsafe lock.deallocate()
            unsafe value.deinitialize(count: 1)
            unsafe value.deallocate()
        }

        package func withLock<Result: ~Copyable, E>(
            _ body: (inout sending Value) throws(E) -> sending Result
        ) throws(E) -> sending Result {
            unsafe pthread_mutex_lock(lock)
            defer { unsafe pthread_mutex_unlock(lock) }
            return unsafe try body(&value.pointee)
        }
    }

    /// What is handed from thread to thread where the sanitizer does not see it: a tag by the core, a message by a
    /// continuation that was resumed before anybody waited for it.
    enum Handover {
        static func give(_ address: UnsafeMutableRawPointer) { unsafe __tsan_release(address) }
        static func take(_ address: UnsafeMutableRawPointer) { unsafe __tsan_acquire(address) }
    }

#endif
