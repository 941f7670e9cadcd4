import CLinux

/// A file descriptor that is closed with its owner's life, the process's own streams excepted.
@usableFromInline
package struct FileDescriptor: ~Copyable, Sendable {
    package let number: Int32

    package init(_ number: Int32) { self.number = number }

    deinit { if number > STDERR_FILENO { close(number) } }

    /// All bytes to the end; nil where reading fails.
    package func readAll() -> [UInt8]? {
        var bytes: [UInt8] = []
        while true {
            guard let chunk = read() else { return nil }
            if chunk.isEmpty { return bytes }
            bytes += chunk
        }
    }

    /// The next bytes, none at the end; nil where reading fails.
    package func read() -> [UInt8]? {
        while true {
            var count = 0
            let chunk = unsafe [UInt8](unsafeUninitializedCapacity: 4096) { buffer, initialized in
                count = unsafe CLinux.read(number, buffer.baseAddress, buffer.count)
                initialized = max(0, count)
            }
            if count >= 0 { return chunk }
            if errorNumber != EINTR { return nil }
        }
    }

    /// False where writing fails.
    package func writeAll(_ bytes: [UInt8]) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe CLinux.write(number, $0.baseAddress, $0.count) }
            if count < 0, errorNumber == EINTR { continue }
            guard count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }
}

/// What errno says.
package func systemError() -> String { unsafe String(cString: strerror(errorNumber)) }
