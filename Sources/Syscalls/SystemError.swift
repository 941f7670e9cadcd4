import Glibc

/// A system call that failed, and on what.
package struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
    package var number: CInt
    package var action: String

    /// With `errno` as it is now.
    package init(_ action: String) {
        number = errno
        self.action = action
    }

    package var description: String { "cannot \(action): \(unsafe String(cString: strerror(number)))" }
}
