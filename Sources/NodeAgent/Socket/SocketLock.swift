import Glibc

/// `SOCKET.lock`, held with flock(2) for as long as this object lives: a second agent would take the socket from under
/// the first. The file stays; the kernel lets go of the lock however the process ends.
package final class SocketLock: Sendable {
    /// Why there is no lock: a sentence.
    package struct Refusal: Error, CustomStringConvertible { package let description: String }

    private let descriptor: CInt

    package init(socket: String) throws(Refusal) {
        let path = socket + ".lock"
        let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Refusal(description: "\(path): \(Self.systemError)") }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let reason = errno == EWOULDBLOCK ? "another agent runs here" : Self.systemError
            close(descriptor)
            throw Refusal(description: reason)
        }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    private static var systemError: String { unsafe String(cString: strerror(errno)) }
}
