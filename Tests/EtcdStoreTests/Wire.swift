import Foundation
import Synchronization

/// Stands between a client and one etcd member: what goes through can be held back, each way, and delivered late.
final class Wire: Sendable {
    enum Direction { case requests, answers }

    private struct State {
        /// What went in each way, delivered or not.
        var bytes: [Direction: [UInt8]] = [:]
        var held: [Direction: [(socket: Int32, bytes: [UInt8])]] = [:]
        var isCut = false
        var sockets: Set<Int32> = []
    }

    /// HOST:PORT for the client.
    let endpoint: String
    private let listener: Int32
    private let member: Int
    private let state = Mutex(State())

    /// `member`: the port of loopback that the member listens on.
    init(to member: Int) throws {
        let port = try freePort()
        endpoint = "127.0.0.1:\(port)"
        self.member = member
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard Self.withAddress(port, { bind(listener, $0, $1) }) == 0, listen(listener, 16) == 0 else {
            throw Failure("no wire: \(String(cString: strerror(errno)))")
        }
        Thread.detachNewThread { [self] in accept() }
    }

    /// For good.
    func close() {
        cut()
        shutdown(listener, Int32(SHUT_RDWR))
    }

    /// Breaks the connections, and all new ones, until it is mended.
    func cut() {
        state.withLock { state in
            state.isCut = true
            for socket in state.sockets { shutdown(socket, Int32(SHUT_RDWR)) }
        }
    }

    func mend() { state.withLock { $0.isCut = false } }

    /// From now on they come no further.
    func hold(_ direction: Direction) { state.withLock { $0.held[direction] = $0.held[direction] ?? [] } }

    /// Delivers what was held back, and holds no more.
    func release(_ direction: Direction) {
        state.withLock { state in
            for piece in state.held.removeValue(forKey: direction) ?? [] { Self.write(piece.bytes, to: piece.socket) }
        }
    }

    /// Delivers the piece that has `text` in it and what was held back before it; the rest stays.
    func deliver(_ direction: Direction, upTo text: String) {
        state.withLock { state in
            guard let held = state.held[direction],
                let last = held.firstIndex(where: { $0.bytes.firstRange(of: Array(text.utf8)) != nil })
            else { return }
            for piece in held[...last] { Self.write(piece.bytes, to: piece.socket) }
            state.held[direction] = Array(held[(last + 1)...])
        }
    }

    /// Whether it came to the wire after so many other bytes. gRPC's messages are not compressed.
    func has(_ bytes: [UInt8], in direction: Direction, after count: Int) -> Bool {
        state.withLock { $0.bytes[direction]?.dropFirst(count).firstRange(of: bytes) != nil }
    }

    func has(_ text: String, in direction: Direction, after count: Int) -> Bool {
        has(Array(text.utf8), in: direction, after: count)
    }

    /// How many bytes came to the wire.
    func count(_ direction: Direction) -> Int { state.withLock { $0.bytes[direction]?.count ?? 0 } }

    private func accept() {
        while true {
            let client = Glibc.accept(listener, nil, nil)
            if client < 0 { break }
            let server = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            _ = Self.withAddress(member) { connect(server, $0, $1) }
            let isCut = state.withLock { state in
                state.sockets.formUnion([client, server])
                return state.isCut
            }
            if isCut { for socket in [client, server] { shutdown(socket, Int32(SHUT_RDWR)) } }
            Thread.detachNewThread { [self] in carry(.requests, from: client, to: server) }
            Thread.detachNewThread { [self] in carry(.answers, from: server, to: client) }
        }
        Glibc.close(listener)
    }

    private func carry(_ direction: Direction, from source: Int32, to target: Int32) {
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = read(source, &buffer, buffer.count)
            if count <= 0 { break }
            let bytes = Array(buffer[..<count])
            state.withLock { state in
                state.bytes[direction, default: []] += bytes
                if state.held[direction]?.append((target, bytes)) == nil { Self.write(bytes, to: target) }
            }
        }
        // Not closed: a number that is given again would get what is held back.
        shutdown(source, Int32(SHUT_RDWR))
        shutdown(target, Int32(SHUT_RDWR))
    }

    private static func write(_ bytes: [UInt8], to socket: Int32) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if count <= 0 { return }
            rest = rest.dropFirst(count)
        }
    }

    private static func withAddress(_ port: Int, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
