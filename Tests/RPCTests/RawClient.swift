import Glibc

/// Just enough HTTP/2 to start a call and then behave as no gRPC library does.
final class RawClient {
    private var socket: CInt

    struct Failure: Error { var what: String }

    /// `address` is `127.0.0.1:port`.
    init(_ address: String, saysHello: Bool = true) throws {
        guard let colon = address.lastIndex(of: ":"), let port = UInt16(address[address.index(after: colon)...]) else {
            throw Failure(what: "address \(address)")
        }
        socket = Glibc.socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = port.bigEndian
        name.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let status = unsafe withUnsafePointer(to: &name) { name in
            unsafe name.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else { throw Failure(what: "connect: \(errno)") }
        // What is sent is there at once, as of every gRPC library.
        var yes: CInt = 1
        unsafe setsockopt(socket, CInt(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<CInt>.size))
        guard saysHello else { return }
        try write(Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + frame(type: 4, flags: 0, stream: 0, []))
    }

    deinit { close() }

    /// Sends a whole unary request. The answer stays in the socket.
    func call(
        _ path: String, message: [UInt8], compression: String? = nil, stream: UInt8 = 1, isLast: Bool = true
    ) throws {
        var fields = [
            (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost"),
            ("content-type", "application/grpc"), ("te", "trailers"),
        ]
        if let compression { fields.append(("grpc-encoding", compression)) }
        // RFC 7541, 6.2.2: literal header field without indexing, new name.
        let headers = fields.flatMap { field -> [UInt8] in
            [0, UInt8(field.0.utf8.count)] + Array(field.0.utf8) + [UInt8(field.1.utf8.count)] + Array(field.1.utf8)
        }
        let length = UInt32(message.count)
        let prefix: [UInt8] =
            [compression == nil ? 0 : 1] + (0..<4).map { UInt8(truncatingIfNeeded: length >> (24 - 8 * $0)) }
        try write(
            frame(type: 1, flags: 4, stream: stream, headers)
                + frame(type: 0, flags: isLast ? 1 : 0, stream: stream, prefix + message))
    }

    /// Whether the server sends this text within some seconds.
    func reads(_ text: String) throws -> Bool {
        var limit = timeval(tv_sec: 20, tv_usec: 0)
        unsafe setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var all: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = unsafe chunk.withUnsafeMutableBytes { unsafe recv(socket, $0.baseAddress, $0.count, 0) }
            guard count > 0 else { return false }
            all += chunk[..<count]
            if String(decoding: all, as: UTF8.self).contains(text) { return true }
        }
    }

    /// What the server has sent and nothing has read.
    func arrived() -> String {
        var bytes = [UInt8](repeating: 0, count: 16_384)
        let count = unsafe bytes.withUnsafeMutableBytes {
            unsafe recv(socket, $0.baseAddress, $0.count, CInt(MSG_PEEK) | CInt(MSG_DONTWAIT))
        }
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }

    /// Whether the server closes the connection within some seconds.
    func isClosedByServer() -> Bool {
        var limit = timeval(tv_sec: 30, tv_usec: 0)
        unsafe setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = unsafe chunk.withUnsafeMutableBytes { unsafe recv(socket, $0.baseAddress, $0.count, 0) }
            if count <= 0 { return count == 0 || errno == ECONNRESET }
        }
    }

    func close() {
        if socket >= 0 { Glibc.close(socket) }
        socket = -1
    }

    private func frame(type: UInt8, flags: UInt8, stream: UInt8, _ payload: [UInt8]) -> [UInt8] {
        let count = payload.count
        return [UInt8(count >> 16), UInt8(count >> 8 & 255), UInt8(count & 255), type, flags, 0, 0, 0, stream] + payload
    }

    private func write(_ bytes: [UInt8]) throws {
        let sent = unsafe bytes.withUnsafeBytes { unsafe send(socket, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
        guard sent == bytes.count else { throw Failure(what: "send: \(errno)") }
    }
}
