import Glibc
import Testing

/// Both ends of a connection over the loopback interface.
final class LoopbackConnection {
    let near, far: CInt

    init() throws {
        let listener = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        defer { Glibc.close(listener) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let near = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        var status: [CInt] = []
        unsafe withUnsafeMutablePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                status.append(unsafe bind(listener, address, length))
                status.append(listen(listener, 1))
                status.append(unsafe getsockname(listener, address, &length))
                status.append(unsafe connect(near, address, length))
            }
        }
        self.near = near
        try #require(status.allSatisfy { $0 == 0 })
        far = accept(listener, nil, nil)
        var yes: CInt = 1
        unsafe setsockopt(near, CInt(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<CInt>.size))
        try #require(far >= 0)
    }

    deinit {
        Glibc.close(near)
        Glibc.close(far)
    }

    /// As libgrpc does.
    func send(_ byte: UInt8) {
        var byte = byte
        unsafe withUnsafeMutablePointer(to: &byte) { base in
            var part = iovec(iov_base: base, iov_len: 1)
            unsafe withUnsafeMutablePointer(to: &part) { part in
                var message = msghdr()
                unsafe message.msg_iov = unsafe part
                unsafe message.msg_iovlen = 1
                #expect(unsafe sendmsg(near, &message, CInt(MSG_NOSIGNAL)) == 1)
            }
        }
    }

    /// What has arrived.
    func arrived() -> [UInt8] {
        unsafe [UInt8](unsafeUninitializedCapacity: 100) { bytes, count in
            count = max(0, unsafe recv(far, bytes.baseAddress, bytes.count, CInt(MSG_PEEK) | CInt(MSG_DONTWAIT)))
        }
    }
}
