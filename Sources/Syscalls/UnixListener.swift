import CLinux

/// A unix socket that takes connections, on as many threads as want one.
package struct UnixListener: ~Copyable, Sendable {
    /// How many wait in the kernel while all threads are busy; more wait in connect(2).
    private static let backlog: Int32 = 512

    private let descriptor: FileDescriptor

    /// Takes the place of what is at `path`: that nobody answers there any more is for the caller to know.
    package init(path: String) throws(StreamError) {
        descriptor = FileDescriptor(unix_stream_socket())
        guard descriptor.number >= 0 else { throw .system }
        guard unsafe unlink(path) == 0 || errorNumber == ENOENT else { throw .system }
        let number = descriptor.number
        let isBound = try unsafe sockaddr_un.with(path: path) { unsafe bind(number, $0, $1) == 0 }
        guard isBound, listen(number, Self.backlog) == 0 else { throw .system }
    }

    /// The next connection; nil once the listener is closed. `patience` is the connection's, for sending.
    package func accept(patience: Duration) -> UnixStream? {
        while true {
            let number = accept_unix_stream(descriptor.number)
            if number >= 0 {
                if let stream = try? UnixStream(FileDescriptor(number), patience: patience) { return stream }
                continue
            }
            switch errorNumber {
            case EINTR, ECONNABORTED: continue
            case EINVAL, EBADF: return nil
            // Out of descriptors or memory, or what nobody has thought of: whoever connects waits until it is over.
            default: usleep(100_000)
            }
        }
    }

    /// Ends every `accept`, also those that will be called.
    package func close() { shutdown(descriptor.number, Int32(SHUT_RDWR)) }
}
