package import CLinux

/// A connection over a unix socket (unix(7)). Every wait ends at a deadline.
package struct UnixStream: ~Copyable, Sendable {
    private let descriptor: FileDescriptor

    /// Waits for a listener that has too many connections waiting for at most `patience`, in whole seconds.
    package init(connectingTo path: String, patience: Duration) throws(StreamError) {
        descriptor = FileDescriptor(unix_stream_socket())
        guard descriptor.number >= 0 else { throw .system }
        try limitSending(to: patience)
        let number = descriptor.number
        let isConnected = try unsafe sockaddr_un.with(path: path) { unsafe connect(number, $0, $1) == 0 }
        guard isConnected else { throw .system }
    }

    /// One that a listener has accepted.
    init(_ descriptor: consuming FileDescriptor, patience: Duration) throws(StreamError) {
        self.descriptor = descriptor
        try limitSending(to: patience)
    }

    private func limitSending(to patience: Duration) throws(StreamError) {
        var limit = timeval(tv_sec: max(1, Int(patience.components.seconds)), tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        guard unsafe setsockopt(descriptor.number, SOL_SOCKET, SO_SNDTIMEO, &limit, size) == 0 else { throw .system }
    }

    /// All of them; throws when the other side has not read for as long as this side is patient, or is gone.
    package func send(_ bytes: [UInt8]) throws(StreamError) {
        let number = descriptor.number
        var rest = bytes[...]
        while !rest.isEmpty {
            // No SIGPIPE: that the other side is gone must not end the process.
            let count = unsafe rest.withUnsafeBytes {
                unsafe CLinux.send(number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count < 0, errorNumber == EINTR { continue }
            guard count > 0 else { throw .system }
            rest = rest.dropFirst(count)
        }
    }

    /// The next bytes; none at the end. Throws at the deadline.
    package func receive(by deadline: Deadline) throws(StreamError) -> [UInt8] {
        while true {
            let left = deadline.remaining.components
            let milliseconds = left.seconds * 1000 + left.attoseconds / 1_000_000_000_000_000
            guard milliseconds > 0 else { throw .late }
            var request = pollfd(fd: descriptor.number, events: Int16(POLLIN), revents: 0)
            let ready = unsafe poll(&request, 1, Int32(clamping: milliseconds))
            if ready > 0 {
                guard let chunk = descriptor.read() else { throw .system }
                return chunk
            }
            if ready < 0, errorNumber != EINTR { throw .system }
        }
    }
}

/// Why a connection failed: words that go on after "it does not answer: ".
package struct StreamError: Error, Hashable, Sendable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }

    package static let late = StreamError("no answer in time")

    /// What errno says.
    static var system: StreamError { StreamError(systemError()) }
}

extension sockaddr_un {
    /// Calls `body` with the address of `path` in the kernel's form.
    package static func with<Value>(
        path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Value
    ) throws(StreamError) -> Value {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let capacity = MemoryLayout.size(ofValue: address.sun_path)
        guard path.utf8.count < capacity else { throw StreamError("the path has more than \(capacity - 1) bytes") }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
        return unsafe withUnsafePointer(to: address) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }
}
