import CNI
import Glibc

/// Why the agent gave no answer.
struct ConnectionError: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) { self.description = description }
}

/// One HTTP/1.1 exchange with the agent over its unix socket (RFC 9112), ended by the agent's closing.
struct AgentConnection: ~Copyable {
    private let descriptor: FileDescriptor
    private let deadline: ContinuousClock.Instant

    init(socket path: String, deadline: ContinuousClock.Instant) throws(ConnectionError) {
        self.deadline = deadline
        descriptor = FileDescriptor(Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0))
        guard descriptor.number >= 0 else { throw ConnectionError(systemError()) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let capacity = MemoryLayout.size(ofValue: address.sun_path)
        guard path.utf8.count < capacity else { throw ConnectionError("the path has more than \(capacity - 1) bytes") }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
        let number = descriptor.number
        // Bounds connecting to an agent that takes no more connections, and writing to one that does not read.
        var patience = timeval(tv_sec: max(1, Int((deadline - .now).components.seconds)), tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        guard unsafe setsockopt(number, SOL_SOCKET, SO_SNDTIMEO, &patience, size) == 0 else {
            throw ConnectionError(systemError())
        }
        let result = unsafe withUnsafePointer(to: address) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0 else { throw ConnectionError(systemError()) }
    }

    consuming func post(_ path: String, body: [UInt8]) throws(ConnectionError) -> AgentReply {
        let head =
            "POST \(path) HTTP/1.1\r\nHost: holdfast-agent\r\nContent-Type: application/json\r\n"
            + "Content-Length: \(body.count)\r\nConnection: close\r\n\r\n"
        guard descriptor.writeAll(Array(head.utf8) + body) else { throw ConnectionError(systemError()) }
        var bytes: [UInt8] = []
        while true {
            try waitForAnswer()
            guard let chunk = descriptor.read() else { throw ConnectionError(systemError()) }
            if chunk.isEmpty { return try Self.reply(bytes) }
            bytes += chunk
        }
    }

    /// Throws at the deadline.
    private func waitForAnswer() throws(ConnectionError) {
        while true {
            let left = (deadline - ContinuousClock.now).components
            let milliseconds = left.seconds * 1000 + left.attoseconds / 1_000_000_000_000_000
            guard milliseconds > 0 else { throw ConnectionError("no answer in time") }
            var request = pollfd(fd: descriptor.number, events: Int16(POLLIN), revents: 0)
            let ready = unsafe poll(&request, 1, Int32(clamping: milliseconds))
            if ready > 0 { return }
            if ready < 0, errno != EINTR { throw ConnectionError(systemError()) }
        }
    }

    /// The agent sends a length with every body: nothing else is understood.
    private static func reply(_ bytes: [UInt8]) throws(ConnectionError) -> AgentReply {
        guard let end = bytes.firstRange(of: Array("\r\n\r\n".utf8)) else {
            throw ConnectionError("it closed the connection before an answer")
        }
        let lines = String(decoding: bytes[..<end.lowerBound], as: UTF8.self).split(separator: "\r\n")
        let words = lines.first?.split(separator: " ") ?? []
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
            throw ConnectionError("it does not speak HTTP")
        }
        let length = lines.dropFirst().compactMap { line -> Int? in
            let field = line.split(separator: ":", maxSplits: 1)
            guard field.count == 2, field[0].lowercased() == "content-length" else { return nil }
            return Int(field[1].drop { $0 == " " })
        }.first
        guard length == bytes.count - end.upperBound else { throw ConnectionError("its answer was cut off") }
        return AgentReply(status: status, body: Array(bytes[end.upperBound...]))
    }
}
