import CLinux
import Glibc
import Synchronization
package import Syscalls

/// Tells of the interfaces in the network namespace of the thread that made it, and of every change. Never blocks.
package final class LinkSocket: Sendable {
    package let descriptor: CInt
    /// Whether the kernel has lost messages, and has not taken the question for all since.
    private let lacksSome = Mutex(false)

    package init() throws(SystemError) {
        descriptor = socket(AF_NETLINK, CInt(SOCK_RAW.rawValue) | O_CLOEXEC | O_NONBLOCK, 0)
        guard descriptor >= 0 else { throw SystemError("open a netlink socket") }
        // `struct sockaddr_nl`: family, padding, port (the kernel's choice), groups: RTMGRP_LINK.
        let address: [UInt32] = [UInt32(AF_NETLINK), 0, 1]
        let result = unsafe address.withUnsafeBytes { bytes in
            unsafe bytes.withMemoryRebound(to: sockaddr.self) {
                unsafe Glibc.bind(descriptor, $0.baseAddress, socklen_t(bytes.count))
            }
        }
        guard result == 0 else { throw SystemError("listen to the network's links") }
    }

    deinit { close(descriptor) }

    /// Asks for all links: their messages come like those of changes.
    package func requestAll() throws(SystemError) {
        // `struct nlmsghdr`: length 32, RTM_GETLINK with NLM_F_REQUEST | NLM_F_DUMP, sequence and port 0;
        // `struct ifinfomsg`: all zero.
        let request: [UInt32] = [32, 18 | 0x301 << 16, 0, 0, 0, 0, 0, 0]
        let sent = unsafe request.withUnsafeBytes { unsafe send(descriptor, $0.baseAddress, $0.count, 0) }
        guard sent == 32 else { throw SystemError("ask for the network's links") }
    }

    /// What waits to be read, into `table`; of very much a part, and the descriptor stays readable. Where the kernel has lost
    /// messages all is asked for anew, at the next look where it does not take the question now.
    package func read(into table: inout LinkTable) {
        if lacksSome.withLock({ $0 }) { askAnew() }
        // Bounded: who changes links without end must not keep others waiting.
        for _ in 0..<32 {
            var count = 0
            let bytes = unsafe [UInt8](unsafeUninitializedCapacity: 1 << 15) { buffer, initialized in
                count = unsafe recv(descriptor, buffer.baseAddress, buffer.count, 0)
                initialized = max(0, count)
            }
            if count > 0 {
                // Its answer to an earlier question was under way.
                if !table.take(bytes) { lacksSome.withLock { $0 = true } }
            } else if count < 0, errno == ENOBUFS {
                table = LinkTable()
                askAnew()
            } else if count == 0 || errno != EINTR {
                return
            }
        }
    }
}

extension LinkSocket {
    private func askAnew() {
        let isAsked = (try? requestAll()) != nil
        lacksSome.withLock { $0 = !isAsked }
    }
}

/// Lets a thread sleep until one of several descriptors has something to read, or another thread wakes it.
package final class Waiting: Sendable {
    private let bell: CInt

    package init() throws(SystemError) {
        bell = eventfd(0, O_CLOEXEC | O_NONBLOCK)
        guard bell >= 0 else { throw SystemError("open an event counter") }
    }

    deinit { close(bell) }

    package func wake() {
        var one: UInt64 = 1
        _ = unsafe write(bell, &one, 8)
    }

    /// Those that have something to read, none after `milliseconds` or once woken.
    package func wait(for descriptors: [CInt], milliseconds: CInt) -> [CInt] {
        var requests = ([bell] + descriptors).map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        guard unsafe poll(&requests, nfds_t(requests.count), milliseconds) > 0 else { return [] }
        var count: UInt64 = 0
        if requests[0].revents != 0 { _ = unsafe read(bell, &count, 8) }
        return requests.dropFirst().filter { $0.revents != 0 }.map(\.fd)
    }
}
