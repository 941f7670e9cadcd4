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

    /// Looks from inside the namespace, and comes back.
    private static func exists(
        _ interface: String, in namespace: CInt, at path: String
    ) throws(CNIError) -> Bool {
        let home = FileDescriptor(unsafe open_existing("/proc/self/ns/net", O_RDONLY | O_CLOEXEC))
        guard home.number >= 0, setns(namespace, CLONE_NEWNET) == 0 else {
            throw CNIError(.invalidEnvironment, "CNI_NETNS \"\(path)\" cannot be entered: \(systemError())")
        }
        let exists = unsafe if_nametoindex(interface) != 0
        guard setns(home.number, CLONE_NEWNET) == 0 else {
            throw CNIError(.ioFailure, "this process cannot leave \(path): \(systemError())")
        }
        return exists
    }
}
