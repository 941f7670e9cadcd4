import CLinux
import CNI
import Syscalls

extension SystemHost {
    /// Standard error is this process's own: a plugin's log lines go where the runtime looks for them.
    func run(
        _ executable: String, environment: [String: String], input: JSON
    ) throws(CNIError) -> ProcessOutcome {
        func failure(_ number: Int32) -> CNIError {
            CNIError(.delegateFailure, "cannot run \(executable): \(unsafe String(cString: strerror(number)))")
        }
        guard let toProcess = Pipe(), let fromProcess = Pipe() else { throw failure(errorNumber) }
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_adddup2(&actions, toProcess.reader.number, STDIN_FILENO)
        unsafe posix_spawn_file_actions_adddup2(&actions, fromProcess.writer.number, STDOUT_FILENO)
        var arguments = unsafe [strdup(executable), nil]
        var variables = unsafe environment.map { unsafe strdup("\($0.key)=\($0.value)") } + [nil]
        defer { unsafe (arguments + variables).forEach { unsafe free($0) } }
        var process: pid_t = 0
        let result = unsafe spawn_with_sigpipe(&process, executable, &actions, &arguments, &variables)
        guard result == 0 else { throw failure(result) }
        // Written before anything is read: a plugin reads all of its input before it prints.
        toProcess.keepingWriter().send(Array("\(input)".utf8))
        let output = fromProcess.keepingReader().readAll() ?? []
        var status: Int32 = 0
        while unsafe waitpid(process, &status, 0) < 0 { guard errorNumber == EINTR else { throw failure(errorNumber) } }
        let signal = status & 0x7f
        return ProcessOutcome(status: Int(signal == 0 ? status >> 8 & 0xff : 128 + signal), output: output)
    }
}

/// The two ends of a pipe, neither inherited by a child unless given to it.
private struct Pipe: ~Copyable {
    let reader: FileDescriptor
    let writer: FileDescriptor

    /// Nil where the process has no descriptors left.
    init?() {
        var ends: [Int32] = [-1, -1]
        guard unsafe pipe2(&ends, O_CLOEXEC) == 0 else { return nil }
        reader = FileDescriptor(ends[0])
        writer = FileDescriptor(ends[1])
    }

    consuming func keepingReader() -> FileDescriptor { reader }
    consuming func keepingWriter() -> FileDescriptor { writer }
}

extension FileDescriptor {
    /// Writes, then closes. A reader that does not want it all shows by how it ends.
    fileprivate consuming func send(_ bytes: [UInt8]) { _ = writeAll(bytes) }
}
