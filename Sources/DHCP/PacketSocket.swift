import Addresses
import Glibc
package import Syscalls

/// A raw socket on one interface (packet(7)), in the network namespace of the thread that made it. Never blocks.
package final class PacketSocket: Sendable {
    package let descriptor: CInt

    /// Not on an interface yet: it gets nothing. Fails without CAP_NET_RAW.
    package init() throws(SystemError) {
        descriptor = socket(AF_PACKET, CInt(SOCK_RAW.rawValue) | O_CLOEXEC | O_NONBLOCK, 0)
        guard descriptor >= 0 else { throw SystemError("open a packet socket") }
    }

    deinit { close(descriptor) }

    /// From now on it gets what the filter lets through of that interface, of other stations too: each frame as it comes
    /// in, before a bridge takes it.
    package func listen(on interface: Int32, filter: PacketFilter) throws(SystemError) {
        let attached = unsafe filter.instructions.withUnsafeBufferPointer { instructions in
            var program = unsafe FilterProgram(
                count: UInt16(instructions.count), instructions: instructions.baseAddress)
            let size = unsafe socklen_t(MemoryLayout<FilterProgram>.size)
            return unsafe setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &program, size)
        }
        guard attached == 0 else { throw SystemError("attach a packet filter") }
        // With no other protocol than "all" is a frame seen that a bridge takes.
        try bind(to: interface, protocolNumber: 3)
    }

    /// From now on it sends on that interface, and still gets nothing.
    package func speak(on interface: Int32) throws(SystemError) { try bind(to: interface, protocolNumber: 0) }

    /// The kernel's `struct sock_fprog`.
    @unsafe private struct FilterProgram {
        var count: UInt16
        var instructions: UnsafePointer<PacketFilter.Instruction>?
    }

    private func bind(to interface: Int32, protocolNumber: UInt16) throws(SystemError) {
        // `struct sockaddr_ll`: family, protocol in network order, interface; the rest is not looked at.
        var address: [UInt8] = []
        unsafe withUnsafeBytes(of: UInt16(AF_PACKET)) { address += unsafe Array($0) }
        address.append(bigEndian: protocolNumber)
        unsafe withUnsafeBytes(of: interface) { address += unsafe Array($0) }
        address = address.padded(to: 20)
        let result = unsafe address.withUnsafeBytes { bytes in
            unsafe bytes.withMemoryRebound(to: sockaddr.self) {
                unsafe Glibc.bind(descriptor, $0.baseAddress, socklen_t(bytes.count))
            }
        }
        guard result == 0 else { throw SystemError("bind a packet socket to interface \(interface)") }
    }

    /// Whether the namespace's interface of this name has an IPv4 address (netdevice(7), SIOCGIFADDR).
    package func hasIPv4Address(onInterface name: String) -> Bool {
        // `struct ifreq`: 16 bytes for the name, then what is asked for.
        var request = Array(name.utf8.prefix(15)).padded(to: 40)
        return unsafe request.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return false }
            return unsafe ioctl(descriptor, UInt(SIOCGIFADDR), base) == 0
        }
    }

    /// The next frame; nil where none waits, or the interface is gone or down.
    package func receive() -> [UInt8]? {
        var count = 0
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: 2048) { buffer, initialized in
            count = unsafe recv(descriptor, buffer.baseAddress, buffer.count, 0)
            initialized = max(0, count)
        }
        return count > 0 ? bytes : nil
    }

    /// False where the kernel does not take it now: the interface is down, or its queue full.
    package func send(_ frame: EthernetFrame) -> Bool {
        let bytes = frame.bytes
        return unsafe bytes.withUnsafeBytes { unsafe Glibc.send(descriptor, $0.baseAddress, $0.count, 0) }
            == bytes.count
    }
}
