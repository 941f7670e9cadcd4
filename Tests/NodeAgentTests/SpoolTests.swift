import Foundation
import IPAMModel
import TestLog
import Testing

@testable import NodeAgent

/// The spool's file, while much is to be told and while it cannot be written.
final class SpoolTests {
    private let log = RecordedLog()
    /// In memory: thousands of entries are made durable one by one.
    private let scratch = "/dev/shm/holdfast-test-\(UUID().uuidString.prefix(8).lowercased())"
    private var path: String { scratch + "/spool" }

    init() throws { try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: scratch) }

    private func open(limit: Int = 50_000) throws -> Spool { try Spool(path: path, limit: limit, log: log.logger) }

    private func entry(_ number: Int) -> Spool.Entry {
        .detach(AttachmentID(podUID: "p", containerID: "c\(number)"), network: "n/eth0")
    }

    private var attributes: [FileAttributeKey: Any] {
        get throws { try FileManager.default.attributesOfItem(atPath: path) }
    }

    @Test func `beyond its limit it takes nothing that it does not have, until something is told`() throws {
        let spool = try open(limit: 2)
        for number in [1, 2, 2] { try spool.add(entry(number)) }
        let error = #expect(throws: JournalError.self) { try spool.add(entry(3)) }
        #expect("\(try #require(error))".hasPrefix("\(path) has 2 entries"))
        #expect(spool.items.map(\.entry) == [entry(1), entry(2)])
        spool.finish(try #require(spool.items.first))
        try spool.add(entry(3))
        #expect(try open().items.map(\.entry) == [entry(2), entry(3)])
    }

    @Test func `what the disk has not confirmed is not taken`() throws {
        let spool = try Spool(
            path: path, log: log.logger,
            sync: { _ in
                errno = EIO
                return -1
            })
        let error = #expect(throws: JournalError.self) { try spool.add(entry(1)) }
        #expect("\(try #require(error))" == "\(path) cannot be made durable: Input/output error")
        #expect(try spool.isEmpty && open().isEmpty)
    }

    @Test func `the file is written anew where most of it says nothing any more, and not for every few lines`() throws {
        let spool = try open()
        for number in 0..<3_000 { try spool.add(entry(number)) }
        let items = spool.items
        func inode() throws -> Int? { try attributes[.systemFileNumber] as? Int }
        let first = try inode()
        for item in items.prefix(900) { spool.finish(item) }
        #expect(try inode() == first)
        #expect(try open().items == Array(items.dropFirst(900)))
        for item in items.dropFirst(900).prefix(200) { spool.finish(item) }
        #expect(try inode() != first)
        #expect(try open().items == Array(items.dropFirst(1_100)))
    }

    @Test func `what is told is out of the file also where no other file can be made`() throws {
        let spool = try open()
        try FileManager.default.createDirectory(atPath: path + ".new/full", withIntermediateDirectories: true)
        try spool.add(entry(1))
        spool.finish(try #require(spool.items.first))
        #expect(try open().isEmpty)
        #expect(try attributes[.size] as? Int == 0)
        #expect(log.lines.isEmpty, "\(log.lines)")
    }

    /// An agent that was upgraded and set back has another's lines, of which it can say nothing.
    @Test func `what a newer agent wrote stays for the next one, and none of its numbers is given again`() throws {
        var lines: [[UInt8]] = []
        let file = try JournalFile(path: path, log: log.logger, lines: &lines)
        let newer = [
            #"{"added":{"_0":{"number":1,"entry":{"recall":{"owner":"a"}}}}}"#,
            #"{"added":{"_0":{"number":7,"entry":{"recall":{"owner":"b"}},"addedAt":1}}}"#,
            #"{"moved":{"to":"c"}}"#,
        ].map { Array($0.utf8) }
        // The first was told.
        for line in newer + [Array(#"{"done":{"_0":1}}"#.utf8)] { try file.append(line, isDurable: true) }
        let spool = try open()
        #expect(spool.isEmpty)
        try spool.add(entry(0))
        #expect(spool.items.map(\.number) == [8])
        // So many that the file is written anew.
        for number in 1...600 {
            try spool.add(entry(number))
            for item in spool.items { spool.finish(item) }
        }
        lines = []
        _ = try JournalFile(path: path, log: log.logger, lines: &lines)
        #expect(lines.filter { newer.contains($0) } == Array(newer.dropFirst()))
        #expect(lines.count < 600)
        #expect(try open().isEmpty)
        #expect(
            log.lines.map { $0.hasPrefix("lines of the spool are a newer agent's") } == [true, true], "\(log.lines)")
    }

    @Test(.enabled(if: getuid() == 0, "mounting a file system needs root"))
    func `what cannot be taken out of the file is, once the disk takes it`() throws {
        try open().add(entry(1))
        try Executable.run(["mount", "--bind", scratch, scratch]).requireSuccess()
        var isMounted = true
        defer { if isMounted { _ = try? Executable.run(["umount", "-l", scratch]) } }
        try Executable.run(["mount", "-o", "remount,bind,ro", scratch]).requireSuccess()
        let spool = try open()
        spool.finish(try #require(spool.items.first))
        #expect(spool.isEmpty && !spool.settle())
        try Executable.run(["umount", "-l", scratch]).requireSuccess()
        isMounted = false
        #expect(try !open().isEmpty)
        #expect(spool.settle())
        #expect(try open().isEmpty)
        #expect(log.lines.count { $0.hasPrefix("the spool cannot be shortened") } == 1, "\(log.lines)")
    }
}
