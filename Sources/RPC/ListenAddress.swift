import Addresses
import CGRPC
import Glibc
import Syscalls

/// An address to listen on: `host:port`, `[v6]:port` or `unix:/path`.
struct ListenAddress: Sendable {
    let text: String

    var unixPath: String? { text.hasPrefix("unix:") ? String(text.dropFirst(5)) : nil }

    private var place: HostPort? { unixPath == nil ? HostPort(text) : nil }

    /// The address with the port that the core chose.
    func bound(to port: CInt) -> String {
        place.map { "\(HostPort(host: $0.host, port: UInt16(port)))" } ?? text
    }

    /// The core takes a socket file away from whoever listens on it, so it is asked before: a file that nobody answers
    /// on was left by a server that died, and may go.
    func check() throws(RPCError) {
        guard let path = unixPath else {
            // The core would take one of its own choice.
            if place == nil { throw .bind(address: text, reason: "the address is no HOST:PORT") }
            return
        }
        var status = stat()
        guard unsafe lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw .bind(address: text, reason: "the file exists and is not a socket")
        }
        // Not blocking: where the backlog of a server that hangs is full, connect would wait for it for ever.
        let socket = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0)
        defer { close(socket) }
        let connected: CInt
        do throws(StreamError) {
            connected = unsafe try sockaddr_un.with(path: path) { unsafe connect(socket, $0, $1) }
        } catch { throw .bind(address: text, reason: "\(error)") }
        if connected == 0 || errno == EAGAIN { throw .bind(address: text, reason: "another server listens on it") }
        if errno != ECONNREFUSED { throw unsafe .bind(address: text, reason: String(cString: strerror(errno))) }
    }

    /// The core says only that it failed: tries again in its place, to learn why.
    func reasonOfFailure(_ credentials: ServerCredentials) -> String {
        let reason = unixPath.map(Self.unixReason) ?? tcpReason()
        if let reason { return reason }
        if case .rotating = credentials { return "the TLS certificate or key cannot be used" }
        return "the address cannot be used"
    }

    private func tcpReason() -> String? {
        guard let place else { return "the address is no HOST:PORT" }
        var hints = unsafe addrinfo()
        unsafe hints.ai_flags = AI_PASSIVE
        unsafe hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        let failure = unsafe getaddrinfo(place.host, String(place.port), &hints, &found)
        guard failure == 0, let info = unsafe found else { return unsafe String(cString: gai_strerror(failure)) }
        defer { unsafe freeaddrinfo(found) }
        return unsafe Self.bindReason(info.pointee.ai_family, info.pointee.ai_addr, info.pointee.ai_addrlen)
    }

    private static func unixReason(_ path: String) -> String? {
        do throws(StreamError) {
            let reason = try unsafe sockaddr_un.with(path: path) { unsafe bindReason(AF_UNIX, $0, $1) }
            if reason == nil { unsafe unlink(path) }
            return reason
        } catch { return "\(error)" }
    }

    private static func bindReason(
        _ family: CInt, _ address: UnsafePointer<sockaddr>?, _ length: socklen_t
    ) -> String? {
        let socket = socket(family, CInt(SOCK_STREAM.rawValue), 0)
        guard socket >= 0 else { return unsafe String(cString: strerror(errno)) }
        defer { close(socket) }
        var on: CInt = 1
        unsafe setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<CInt>.size))
        return unsafe bind(socket, address, length) == 0 ? nil : String(cString: strerror(errno))
    }
}
