// The plugin needs few.
#if !hasFeature(Embedded)

    import CLinux

    /// How many file descriptors this process may have (RLIMIT_NOFILE of setrlimit(2)).
    package enum DescriptorLimit {
        /// Raises the soft limit to the hard one: that of 1024 is for programs that use select(2). Returns what it is then, nil
        /// where the kernel does not tell.
        @discardableResult
        package static func raise() -> Int? {
            var limit = rlimit()
            guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return nil }
            limit.rlim_cur = limit.rlim_max
            _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            return Int(clamping: limit.rlim_cur)
        }
    }

#endif
