// The plugin has one thread.
#if !hasFeature(Embedded)

    import CLinux
    import Glibc

    /// By what a thread sleeps until somebody rings, or it was long enough.
    ///
    /// The time is that of the monotonic clock. libdispatch's semaphores wait by the wall clock on Linux: after it was set back by
    /// an hour, they would wait for an hour longer, and a lease would be lost.
    package final class Bell: Sendable {
        private let descriptor = eventfd(0, O_CLOEXEC | O_NONBLOCK)

        package init() {}

        deinit { close(descriptor) }

        package func ring() { eventfd_write(descriptor, 1) }

        /// Whether somebody has rung, now or before. Without a descriptor nobody can, and it only sleeps.
        package func wait(_ longest: Duration) -> Bool {
            var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            let milliseconds = min(max(0, longest / .milliseconds(1)), Double(CInt.max))
            guard unsafe poll(&request, 1, CInt(milliseconds)) > 0 else { return false }
            var rung = eventfd_t()
            return unsafe eventfd_read(descriptor, &rung) == 0
        }
    }

#endif
