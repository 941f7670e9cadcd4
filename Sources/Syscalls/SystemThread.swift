// The plugin has one thread.
#if !hasFeature(Embedded)

    import CLinux

    /// A POSIX thread.
    package struct SystemThread: Sendable {
        private let thread: pthread_t

        package init(_ body: @escaping @Sendable () -> Void) throws(SystemError) {
            var thread = pthread_t()
            let box = unsafe Unmanaged.passRetained(Body(body))
            let result = unsafe pthread_create(
                &thread, nil,
                { argument in
                    if let argument = unsafe argument {
                        unsafe Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run()
                    }
                    return nil
                }, box.toOpaque())
            guard result == 0 else {
                unsafe box.release()
                errorNumber = result
                throw SystemError("start a thread")
            }
            self.thread = thread
        }

        /// Starts one that nobody waits for.
        package static func detach(_ body: @escaping @Sendable () -> Void) throws(SystemError) {
            pthread_detach(try SystemThread(body).thread)
        }

        /// Waits for its end; once for each thread.
        package func join() { pthread_join(thread, nil) }

        private final class Body: Sendable {
            let run: @Sendable () -> Void
            init(_ run: @escaping @Sendable () -> Void) { self.run = run }
        }
    }

#endif
