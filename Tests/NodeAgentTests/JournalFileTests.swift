import Foundation
import NodeAgent
import Synchronization
import TestLog
import Testing

/// What a file of the agent's state holds after whatever may happen to it.
final class JournalFileTests {
    private let log = RecordedLog()
    private let scratch = "/tmp/holdfast-test-\(UUID().uuidString.prefix(8).lowercased())"
    private var path: String { scratch + "/journal" }

    init() throws { try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: scratch) }

    private func open() throws -> (file: JournalFile, lines: [String]) {
        var lines: [[UInt8]] = []
        let file = try JournalFile(path: path, log: log.logger, lines: &lines)
        return (file, lines.map { String(decoding: $0, as: UTF8.self) })
    }

    private func write(_ lines: [String]) throws {
        let file = try open().file
        for line in lines { try file.append(Array(line.utf8), isDurable: true) }
    }

    private func change(_ body: (inout Data) -> Void) throws {
        var data = try Data(contentsOf: URL(filePath: path))
        body(&data)
        try data.write(to: URL(filePath: path))
    }

    @Test func `what was appended is there at the next opening, for its owner's eyes alone`() throws {
        try write(["a", "b"])
        try write(["c"])
        #expect(try open().lines == ["a", "b", "c"])
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        #expect(attributes[.posixPermissions] as? Int == 0o600)
    }

    @Test func `a last line that was cut short anywhere is dropped, and what is appended then is whole`() throws {
        try write(["first", "second"])
        let whole = try Data(contentsOf: URL(filePath: path))
        let start = whole.count / 2
        for length in start + 1..<whole.count {
            try whole.prefix(length).write(to: URL(filePath: path))
            #expect(try open().lines == ["first"], "\(length)")
            try write(["third"])
            #expect(try open().lines == ["first", "third"], "\(length)")
        }
        #expect(log.lines.isEmpty)
    }

    @Test func `a damaged line in between is kept aside and reported, and the others count`() throws {
        try write(["first", "second", "third"])
        try change { $0[$0.count / 2] ^= 1 }
        let (_, lines) = try open()
        #expect(lines == ["first", "third"])
        #expect(log.lines.count == 1 && log.lines[0].contains("damaged"), "\(log.lines)")
        #expect(try String(contentsOfFile: path + ".damaged", encoding: .utf8).hasSuffix("\n"))
        #expect(try open().lines == ["first", "third"])
        #expect(log.lines.count == 1)
    }

    @Test func `a replacement that was not finished changes nothing`() throws {
        try write(["a"])
        try Data("half".utf8).write(to: URL(filePath: path + ".new"))
        let (file, lines) = try open()
        #expect(lines == ["a"])
        try file.replace(with: [Array("b".utf8)], isDurable: true)
        try file.append(Array("c".utf8), isDurable: false)
        #expect(try open().lines == ["b", "c"])
    }

    /// A file that no folder has would not be there after a power cut.
    @Test func `nothing is said to be on disk before the folder is`() throws {
        let file = try open().file
        try FileManager.default.removeItem(atPath: scratch)
        #expect(throws: JournalError.self) { try file.append(Array("a".utf8), isDurable: true) }
        try file.append(Array("b".utf8), isDurable: false)
    }

    /// Notes what is put on disk, until it breaks.
    private final class Disk: Sendable {
        private let state = Mutex<(synced: [String], isBroken: Bool)>(([], false))
        /// What was put on it since it was asked for last.
        var synced: [String] {
            state.withLock { state in
                defer { state.synced = [] }
                return state.synced
            }
        }
        func setBroken(_ isBroken: Bool) { state.withLock { $0.isBroken = isBroken } }

        func sync(_ descriptor: CInt) -> CInt {
            let path = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(descriptor)")
            return state.withLock { state in
                state.synced.append(path ?? "")
                errno = EIO
                return state.isBroken ? -1 : 0
            }
        }
    }

    @Test func `what is to be on disk was put there before it is said, and what a power cut may undo is not`() throws {
        let disk = Disk()
        var lines: [[UInt8]] = []
        let file = try JournalFile(path: path, log: log.logger, lines: &lines, sync: disk.sync)
        func append(_ line: String, isDurable: Bool = true) throws {
            try file.append(Array(line.utf8), isDurable: isDurable)
        }
        func replace(with line: String, isDurable: Bool = true) throws {
            try file.replace(with: [Array(line.utf8)], isDurable: isDurable)
        }
        try append("a", isDurable: false)
        #expect(disk.synced.isEmpty)
        try append("b")
        #expect(disk.synced == [path, scratch])
        try append("c")
        #expect(disk.synced == [path])
        try replace(with: "d", isDurable: false)
        #expect(disk.synced.isEmpty)
        try replace(with: "e")
        #expect(disk.synced == [path + ".new", scratch])

        disk.setBroken(true)
        let error = #expect(throws: JournalError.self) { try append("f") }
        #expect("\(try #require(error))" == "\(path) cannot be made durable: Input/output error")
        #expect(throws: JournalError.self) { try replace(with: "g") }
        #expect(try open().lines == ["e"])
        #expect(throws: JournalError.self) { try file.empty() }
        disk.setBroken(false)
        _ = disk.synced
        try file.empty()
        #expect(disk.synced == [path])
    }

    @Test func `an error names the file and the reason`() throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        #expect {
            _ = try open()
        } throws: {
            "\($0)" == "\(path) cannot be opened: Is a directory"
        }
    }
}
