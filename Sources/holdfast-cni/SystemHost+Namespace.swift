import CLinux
import CNI
import Syscalls

extension SystemHost {
    /// Longer than any delegate takes, and shorter than runtimes wait.
    private static let claimTimeout = Duration.seconds(10)

    /// The lock is flock(2) on the namespace's own file, which the kernel lets go of however this process ends. A delegate
    /// does not inherit it.
    func claim(_ interface: String, in netns: String, mustBeNew: Bool) throws(CNIError) {
        let namespace = unsafe open_existing(netns, O_RDONLY | O_CLOEXEC)
        guard namespace >= 0 else {
            throw CNIError(.invalidEnvironment, "CNI_NETNS \"\(netns)\" cannot be opened: \(systemError())")
        }
        let deadline = Deadline.after(Self.claimTimeout)
        while flock(namespace, LOCK_EX | LOCK_NB) != 0 {
            guard errorNumber == EWOULDBLOCK || errorNumber == EINTR, deadline.remaining > .zero else {
                throw CNIError(
                    .tryAgainLater, "another call of holdfast-cni has \(netns): \(systemError())",
                    details: "a runtime makes one call at a time for a container; see whether a plugin hangs")
            }
            usleep(5000)
        }
        // `namespace` stays open on purpose: closing it would let go of the lock.
        guard mustBeNew, try Self.exists(interface, in: namespace, at: netns) else { return }
        throw CNIError(
            .interfaceExists, "the pod has an interface \(interface) already",
            details: "the ADD before was not followed by a DEL; nothing was changed")
    }

    private static func exists(
        _ interface: String, in namespace: CInt, at path: String
    ) throws(CNIError) -> Bool {
        try visit(namespace, at: path) { unsafe if_nametoindex(interface) != 0 }
    }

    func silence(_ interface: String, in netns: String) throws(CNIError) {
        let namespace = FileDescriptor(unsafe open_existing(netns, O_RDONLY | O_CLOEXEC))
        guard namespace.number >= 0 else { return Self.warn(of: interface, "\(netns): \(systemError())") }
        do throws(CNIError) {
            if let failure = try Self.drop(interface, in: namespace.number, at: netns) {
                Self.warn(of: interface, "nf_tables: \(failure)")
            }
        } catch {
            guard error.code == .invalidEnvironment else { throw error }
            Self.warn(of: interface, error.message)
        }
    }

    /// Nil where it is done; else why not.
    private static func drop(
        _ interface: String, in namespace: CInt, at netns: String
    ) throws(CNIError) -> String? {
        try visit(namespace, at: netns) {
            let socket = FileDescriptor(netfilter_socket())
            guard socket.number >= 0 else { return systemError() }
            let table = "holdfast-\(interface)"
            // NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT; NF_ARP_IN, NF_ARP_OUT.
            let batches = [
                NetfilterBatch(.inet, table: table, droppingAt: [.incoming(1), .outgoing(3)], of: interface),
                NetfilterBatch(.arp, table: table, droppingAt: [.incoming(0), .outgoing(1)], of: interface),
            ]
            for batch in batches {
                guard socket.writeAll(batch.bytes), Self.isDone(socket) else { return systemError() }
            }
            // What a plugin sends by a packet socket passes no hook but that of the device (NF_NETDEV_EGRESS), which Linux has
            // since 5.16, and where the device is there already.
            if unsafe if_nametoindex(interface) != 0 {
                let egress = NetfilterBatch(
                    .netdev, table: table, droppingAt: [.outgoing(1, of: interface)], of: interface)
                _ = socket.writeAll(egress.bytes) && Self.isDone(socket)
            }
            return nil
        }
    }

    private static func warn(of interface: String, _ failure: String) {
        let text = "holdfast-cni: \(interface) cannot be kept silent until the guest comes: \(failure)\n"
        _ = FileDescriptor(STDERR_FILENO).writeAll(Array(text.utf8))
    }

    /// Whether all that was asked for was done; errno says what was not.
    private static func isDone(_ socket: borrowing FileDescriptor) -> Bool {
        var code: CInt = 0
        while true {
            // The kernel answers at once, a message for each: `struct nlmsghdr` and NLMSG_ERROR's code, 0 for success.
            guard let answer = socket.read() else { return errorNumber == EAGAIN && code == 0 }
            var rest = answer[...]
            while rest.count >= 20 {
                let length = Int(UInt32(native: rest))
                code = CInt(truncatingIfNeeded: UInt32(native: rest.dropFirst(16)))
                if code != 0 {
                    errorNumber = -code
                    return false
                }
                guard length >= 20 else { break }
                rest = rest.dropFirst(length)
            }
        }
    }

    /// What `body` finds inside the namespace.
    private static func visit<Result>(
        _ namespace: CInt, at path: String, _ body: () -> Result
    ) throws(CNIError) -> Result {
        let home = FileDescriptor(unsafe open_existing("/proc/self/ns/net", O_RDONLY | O_CLOEXEC))
        guard home.number >= 0, setns(namespace, CLONE_NEWNET) == 0 else {
            throw CNIError(.invalidEnvironment, "CNI_NETNS \"\(path)\" cannot be entered: \(systemError())")
        }
        let result = body()
        guard setns(home.number, CLONE_NEWNET) == 0 else {
            throw CNIError(.ioFailure, "this process cannot leave \(path): \(systemError())")
        }
        return result
    }
}

extension UInt32 {
    /// The first four bytes, as the kernel writes a number.
    fileprivate init(native bytes: ArraySlice<UInt8>) {
        self = unsafe bytes.withUnsafeBytes { unsafe $0.loadUnaligned(as: UInt32.self) }
    }
}
