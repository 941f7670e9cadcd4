import Glibc

/// What one agent has for itself, held with flock(2) for as long as this object lives. The kernel lets go of it however the
/// process ends.
package final class AgentLock: Sendable {
    /// Why there is no lock: a sentence.
    package struct Refusal: Error, CustomStringConvertible { package let description: String }

    private let descriptor: CInt

    /// Of a socket, by the file `SOCKET.lock`, which stays: a second agent would take the socket from under the first.
    package convenience init(socket: String) throws(Refusal) {
        try self.init(path: socket + ".lock", O_RDWR | O_CREAT)
    }

    /// Of the folder with an agent's state, by the folder itself, which may be read-only or have no room for a file: two agents
    /// would write its files anew from under each other.
    package convenience init(stateDirectory: String) throws(Refusal) {
        try self.init(path: stateDirectory, O_RDONLY | O_DIRECTORY)
    }

    private init(path: String, _ flags: CInt) throws(Refusal) {
        let descriptor = unsafe open(path, flags | O_CLOEXEC, 0o600)
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
