import CLinux

/// A system call that failed, and on what.
package struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
    package var number: CInt
    package var action: String

    /// With `errno` as it is now.
    package init(_ action: String) {
        number = errorNumber
        self.action = action
    }

    package var description: String { "cannot \(action): \(unsafe String(cString: strerror(number)))" }
}

/// What C calls errno: the number of the last call that failed on this thread.
package var errorNumber: CInt {
    get { unsafe __errno_location().pointee }
    set { unsafe __errno_location().pointee = newValue }
}
