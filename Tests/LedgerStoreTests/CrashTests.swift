import Foundation
import GRDB
import Ledger
import StoreConformance
import Testing

@testable import LedgerStore

@Suite struct `After a crash` {
    @Test(arguments: [UInt64.random(in: 0 ... .max), 1, 2], [false, true])
    func `everything committed is there, from the files as they lay`(seed: UInt64, reservesLog: Bool) throws {
        var random = SeededGenerator(seed: seed)
        var history = RandomHistory()
        let scratch = try Scratch()
        let path = scratch.path("ledger.sqlite")
        let store = try SQLiteStore(path: path)
        defer { store.close() }
        if reservesLog { store.reserveLog() }
        for batch in 0..<80 {
            try store.commit(history.batch(using: &random), revision: history.model.revision)
            switch Int.random(in: 0..<12, using: &random) {
            case 0: try store.database.writeWithoutTransaction { _ = try $0.checkpoint(.passive) }
            case 1...4:
                let copy = try copy(of: path, to: scratch.path("copy-\(batch).sqlite"))
                let reopened = try SQLiteStore(path: copy)
                defer { reopened.close() }
                #expect(history.model.difference(from: try reopened.load()) == nil, "seed \(seed), batch \(batch)")
            default: break
            }
        }
    }

    @Test func `commits write over a reserved log, and do not lengthen it`() throws {
        let scratch = try Scratch()
        let path = scratch.path("ledger.sqlite")
        func length() throws -> Int { try Data(contentsOf: URL(filePath: path + "-wal")).count }
        let store = try SQLiteStore(path: path)
        defer { store.close() }
        var history = RandomHistory()
        var random = SeededGenerator(seed: 1)
        try store.commit(history.batch(using: &random), revision: history.model.revision)
        store.reserveLog()
        let reserved = try length()
        #expect(reserved > 16_000_000)
        for _ in 0..<20 { try store.commit(history.batch(using: &random), revision: history.model.revision) }
        store.reserveLog()
        #expect(try length() == reserved)
        #expect(history.model.difference(from: try store.load()) == nil)
    }

    /// A crash may cut the log anywhere after the last fsync: what is left is one whole commit or another.
    @Test(arguments: [UInt64.random(in: 0 ... .max), 1])
    func `a log cut short gives the ledger after one of the commits`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var history = RandomHistory()
        var models = [history.model.revision: history.model]
        let scratch = try Scratch()
        let path = scratch.path("ledger.sqlite")
        let store = try SQLiteStore(path: path)
        for _ in 0..<30 {
            try store.commit(history.batch(using: &random), revision: history.model.revision)
            models[history.model.revision] = history.model
        }
        let log = try Data(contentsOf: URL(filePath: path + "-wal"))
        var revisions: Set<UInt64> = []
        for cut in 0..<40 {
            let copy = try copy(of: path, to: scratch.path("cut-\(cut).sqlite"))
            let length = Int.random(in: 0...log.count, using: &random)
            try log.prefix(length).write(to: URL(filePath: copy + "-wal"))
            let reopened = try SQLiteStore(path: copy)
            defer { reopened.close() }
            let found = try reopened.load()
            let model = try #require(models[found.revision], "seed \(seed), log of \(length) bytes")
            #expect(model.difference(from: found) == nil, "seed \(seed), log of \(length) bytes")
            revisions.insert(found.revision)
        }
        #expect(revisions.count > 3)
        store.close()
    }

    /// Unlike a log cut short, this takes back commits that callers were told of: all but the last two are found missing.
    @Test(arguments: [UInt64.random(in: 0 ... .max), 1])
    func `a log with a changed byte gives the whole ledger or an error`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var history = RandomHistory()
        var models: [Model] = []
        let scratch = try Scratch()
        let path = scratch.path("ledger.sqlite")
        let store = try SQLiteStore(path: path)
        defer { store.close() }
        for _ in 0..<30 {
            try store.commit(history.batch(using: &random), revision: history.model.revision)
            models.append(history.model)
        }
        let log = try Data(contentsOf: URL(filePath: path + "-wal"))
        var refusals = 0
        for position in [0, 8, 17, 30] + (0..<60).map({ _ in Int.random(in: 0..<log.count, using: &random) }) {
            let copy = try copy(of: path, to: scratch.path("changed-\(UUID()).sqlite"))
            var log = log
            log[position] ^= UInt8.random(in: 1...255, using: &random)
            try log.write(to: URL(filePath: copy + "-wal"))
            do {
                let reopened = try SQLiteStore(path: copy)
                defer { reopened.close() }
                let found = try reopened.load()
                #expect(
                    models.suffix(3).contains { $0.difference(from: found) == nil },
                    "seed \(seed), byte \(position) of \(log.count): revision \(found.revision)")
            } catch {
                refusals += 1
                #expect(error.code == .damaged)
            }
        }
        #expect(refusals > 30)
    }

    @Test func `half a beginning is begun again`() throws {
        let scratch = try Scratch()
        let path = scratch.path("ledger.sqlite")
        for name in [".new", ".new-wal", ".new-shm"] { try Data("half".utf8).write(to: URL(filePath: path + name)) }
        let store = try SQLiteStore(path: path)
        defer { store.close() }
        #expect(Model().difference(from: try store.load()) == nil)
    }

    private func copy(of path: String, to copy: String) throws -> String {
        for suffix in ["", "-wal"] { try FileManager.default.copyItem(atPath: path + suffix, toPath: copy + suffix) }
        return copy
    }
}
