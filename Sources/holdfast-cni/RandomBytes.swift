#if hasFeature(Embedded)

    import CLinux
    import Syscalls

    /// Embedded Swift seeds its hash tables with this function of the C library, which musl does not have.
    @c(arc4random_buf)
    func fillWithRandomBytes(_ buffer: UnsafeMutableRawPointer, _ count: Int) {
        var filled = 0
        while filled < count {
            let more = unsafe getrandom(buffer + filled, count - filled, 0)
            // No kernel since 3.17 refuses this; the plugin does not hang on an older one.
            guard more >= 0 || errorNumber == EINTR else { return }
            filled += max(0, more)
        }
    }

#endif
