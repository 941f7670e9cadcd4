import Glibc
import IPAMModel
package import Logging
import Synchronization

/// Why a file of the agent's state cannot be written or read: a sentence that names it.
package struct JournalError: Error, Hashable, Sendable, CustomStringConvertible {
    package var description: String

    init(_ description: String) { self.description = description }

    init(_ action: String, _ path: String) {
        description = "\(path) \(action): \(unsafe String(cString: strerror(errno)))"
    }
}

/// A file of lines, each with a checksum, that only grows until it is written anew.
///
/// However a process ends in the midst of it, what was appended before is there: a last line that was cut short is dropped
/// at the next opening, and damaged ones in between go into a file beside it (`NAME.damaged`) and into the log.
package final class JournalFile: Sendable {
    package let path: String
    private let sync: @Sendable (CInt) -> CInt
    private let state: Mutex<State>

    private struct State: ~Copyable {
        /// Below zero where there is no file yet.
        var descriptor: CInt
        var length: Int64
        /// Whether the folder is known to have the file after a power cut.
        var isInFolder = false
        /// Whether the disk takes what is appended, and nothing stands behind `length`, as far as is known.
        var isWritable = true

        deinit { close(descriptor) }
    }

    /// Opens the file, or makes it for its owner alone; `lines` is what is in it. On a disk that is full or read-only it has what
    /// can be read, and each `append` tries anew. `sync`: puts a descriptor's file, or folder, on disk, as fsync(2) does.
    package init(
        path: String, log: Logger, lines: inout [[UInt8]], sync: @escaping @Sendable (CInt) -> CInt = { fsync($0) }
    ) throws(JournalError) {
        self.path = path
        self.sync = sync
        var descriptor = Self.open(path)
        let isWritable = descriptor >= 0
        if !isWritable {
            let failure = JournalError("cannot be opened", path)
            guard [EROFS, ENOSPC, EDQUOT].contains(errno) else { throw failure }
            log.error("the agent's state cannot be written; trying on", metadata: ["error": "\(failure)"])
            descriptor = unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 || errno == ENOENT else { throw failure }
        }
        state = Mutex(State(descriptor: descriptor, length: 0, isWritable: isWritable))
        let content = try Self.content(of: descriptor, path)
        var damaged: [UInt8] = []
        for line in content.whole.split(separator: UInt8(ascii: "\n")) {
            if let payload = Self.payload(of: line) {
                lines.append(payload)
            } else {
                damaged += line + [UInt8(ascii: "\n")]
            }
        }
        state.withLock { $0.length = Int64(content.whole.count) }
        if content.isCutShort {
            log.notice("a line that an ending agent had not finished is dropped", metadata: ["file": "\(path)"])
        }
        if !damaged.isEmpty {
            log.error(
                "lines of the agent's state were damaged and have no effect; they are kept aside",
                metadata: ["file": "\(path)", "kept": "\(path).damaged"])
        }
        guard content.isCutShort || !damaged.isEmpty else { return }
        do throws(JournalError) {
            if !damaged.isEmpty { try keep(damaged, at: path + ".damaged") }
            try replace(with: lines, isDurable: true)
        } catch {
            // The next agent finds them again.
            log.error("the agent's state cannot be written anew", metadata: ["error": "\(error)"])
            state.withLock { $0.isWritable = false }
        }
    }

    private static func open(_ path: String) -> CInt {
        unsafe Glibc.open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    }

    /// Appends a line; with `isDurable` it is on disk when this returns, else it outlives the process only. Throws where
    /// nothing was appended.
    package func append(_ payload: [UInt8], isDurable: Bool) throws(JournalError) {
        let line = Self.line(payload)
        try state.withLock { state throws(JournalError) in
            if !state.isWritable { try Self.reopen(&state, path) }
            do throws(JournalError) {
                try Self.write(line, to: state.descriptor, path)
                if isDurable {
                    try synchronize(state.descriptor, path)
                    try synchronizeFolder(&state)
                }
                state.length += Int64(line.count)
            } catch {
                // Half a line would damage the next one.
                if ftruncate(state.descriptor, off_t(state.length)) != 0 { state.isWritable = false }
                throw error
            }
        }
    }

    /// Puts these lines in the place of all: a reader sees either the old file or the new.
    package func replace(with payloads: [[UInt8]], isDurable: Bool) throws(JournalError) {
        let content = payloads.flatMap(Self.line)
        let temporary = path + ".new"
        try state.withLock { state throws(JournalError) in
            unsafe unlink(temporary)
            let descriptor = unsafe Glibc.open(temporary, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0o600)
            guard descriptor >= 0 else { throw JournalError("cannot be made", temporary) }
            do throws(JournalError) {
                try Self.write(content, to: descriptor, temporary)
                if isDurable { try synchronize(descriptor, temporary) }
                guard unsafe rename(temporary, path) == 0 else { throw JournalError("cannot be renamed", temporary) }
            } catch {
                close(descriptor)
                unsafe unlink(temporary)
                throw error
            }
            close(state.descriptor)
            (state.descriptor, state.length, state.isWritable) = (descriptor, Int64(content.count), true)
            state.isInFolder = false
            if isDurable { try synchronizeFolder(&state) }
        }
    }

    /// Leaves no line, in place: for this a full disk has room. On disk when it returns.
    package func empty() throws(JournalError) {
        try state.withLock { state throws(JournalError) in
            if !state.isWritable { try Self.reopen(&state, path) }
            guard ftruncate(state.descriptor, 0) == 0 else { throw JournalError("cannot be emptied", path) }
            state.length = 0
            try synchronize(state.descriptor, path)
        }
    }

    private static func reopen(_ state: inout State, _ path: String) throws(JournalError) {
        let descriptor = open(path)
        guard descriptor >= 0 else { throw JournalError("cannot be opened", path) }
        // Half a line of before would damage the next one; and what is shorter is another file.
        guard lseek(descriptor, 0, SEEK_END) >= state.length, ftruncate(descriptor, off_t(state.length)) == 0 else {
            let failure = JournalError("cannot be written", path)
            close(descriptor)
            throw failure
        }
        close(state.descriptor)
        (state.descriptor, state.isWritable, state.isInFolder) = (descriptor, true, false)
    }

    private static func content(
        of descriptor: CInt, _ path: String
    ) throws(JournalError) -> (whole: ArraySlice<UInt8>, isCutShort: Bool) {
        var content: [UInt8] = []
        if descriptor < 0 { return ([], false) }
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = unsafe pread(descriptor, &chunk, chunk.count, off_t(content.count))
            guard count >= 0 else { throw JournalError("cannot be read", path) }
            if count == 0 { break }
            content += chunk.prefix(count)
        }
        let end = content.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
        return (content[..<end], end < content.count)
    }

    private func keep(_ bytes: [UInt8], at path: String) throws(JournalError) {
        let descriptor = unsafe Glibc.open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw JournalError("cannot be made", path) }
        defer { close(descriptor) }
        try Self.write(bytes, to: descriptor, path)
        try synchronize(descriptor, path)
    }

    private static func write(_ bytes: [UInt8], to descriptor: CInt, _ path: String) throws(JournalError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw JournalError("cannot be written", path) }
            rest = rest.dropFirst(count)
        }
    }

    private func synchronize(_ descriptor: CInt, _ path: String) throws(JournalError) {
        guard sync(descriptor) == 0 else { throw JournalError("cannot be made durable", path) }
    }

    private func synchronizeFolder(_ state: inout State) throws(JournalError) {
        if state.isInFolder { return }
        let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        let descriptor = unsafe Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw JournalError("cannot be opened", folder) }
        defer { close(descriptor) }
        try synchronize(descriptor, folder)
        state.isInFolder = true
    }

    /// "<sixteen hexadecimal digits> <payload>\n". The payload has no line break: JSON on one line.
    private static func line(_ payload: [UInt8]) -> [UInt8] {
        Array("\(FNV1a(payload.span).hexadecimal) ".utf8) + payload + [UInt8(ascii: "\n")]
    }

    private static func payload(of line: ArraySlice<UInt8>) -> [UInt8]? {
        guard line.count > 17, let sum = UInt64(String(decoding: line.prefix(16), as: UTF8.self), radix: 16) else {
            return nil
        }
        let payload = line.dropFirst(17)
        return FNV1a(payload.span).value == sum ? Array(payload) : nil
    }
}
