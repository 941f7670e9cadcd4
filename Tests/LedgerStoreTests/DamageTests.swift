import Foundation
import GRDB
import Ledger
import StoreConformance
import Testing

@testable import LedgerStore

@Suite struct `A damaged ledger is an error, never an empty or another one` {
    @Test func `an empty file, with or without a log beside it`() throws {
        for log in [Data(), try Aged().log] {
            let scratch = try Scratch()
            let path = scratch.path("ledger.sqlite")
            try Data().write(to: URL(filePath: path))
            if !log.isEmpty { try log.write(to: URL(filePath: path + "-wal")) }
            try expectDamaged(path, saying: "0 bytes")
            if !log.isEmpty { #expect(try Data(contentsOf: URL(filePath: path + "-wal")) == log) }
        }
    }

    @Test func `no file, but a log of one`() throws {
        let scratch = try Scratch()
        let path = scratch.path("ledger.sqlite")
        try Aged().log.write(to: URL(filePath: path + "-wal"))
        try expectDamaged(path, saying: "ledger.sqlite-wal is there")
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test func `another kind of file`() throws {
        let scratch = try Scratch()
        let path = scratch.path("ledger.sqlite")
        for content in ["SQLite format 3", String(repeating: "pools:\n", count: 100)] {
            try content.write(toFile: path, atomically: false, encoding: .utf8)
            try expectDamaged(path, saying: "does not begin as a SQLite database")
            #expect(try String(contentsOfFile: path, encoding: .utf8) == content)
        }
    }

    @Test func `another program's database`() throws {
        let scratch = try Scratch()
        let path = scratch.path("ledger.sqlite")
        try DatabaseQueue(path: path).write { try $0.execute(sql: "CREATE TABLE bindings (record BLOB)") }
        try expectDamaged(path, saying: "not a Holdfast ledger", toDo: "Name another file")
    }

    @Test func `our mark on another schema`() throws {
        let scratch = try Scratch()
        let path = scratch.path("ledger.sqlite")
        try DatabaseQueue(path: path).write {
            try $0.execute(
                sql:
                    "PRAGMA application_id = \(SQLiteSchema.applicationID); PRAGMA user_version = 1; CREATE TABLE a (b)"
            )
        }
        try expectDamaged(path, saying: "no such table")
    }

    @Test func `a file cut short anywhere`() throws {
        let aged = try Aged()
        for eighth in 1..<8 {
            let scratch = try Scratch()
            let path = scratch.path("ledger.sqlite")
            try aged.file.prefix(aged.file.count * eighth / 8).write(to: URL(filePath: path))
            try expectDamaged(path, saying: "damaged")
        }
    }

    @Test(arguments: [UInt64.random(in: 0 ... .max), 1, 2])
    func `changed bytes anywhere: the same ledger or an error`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let aged = try Aged()
        var refusals = 0
        for _ in 0..<150 {
            let scratch = try Scratch()
            let path = scratch.path("ledger.sqlite")
            var file = aged.file
            let position = Int.random(in: 0..<file.count, using: &random)
            file[position] ^= UInt8.random(in: 1...255, using: &random)
            try file.write(to: URL(filePath: path))
            do {
                let store = try SQLiteStore(path: path)
                defer { store.close() }
                let difference = aged.model.difference(from: try store.load())
                #expect(difference == nil, "seed \(seed), byte \(position) of \(file.count)")
            } catch {
                refusals += 1
                #expect(error.code != .inUse && error.code != .full, "seed \(seed), byte \(position): \(error)")
            }
        }
        // About one in seven is: most bytes are of free space.
        #expect(refusals > 0, "seed \(seed)")
    }

    @Test func `a value changed by hand`() throws {
        for sql in [
            "UPDATE bindings SET record = zeroblob(length(record))", "DELETE FROM meta",
            "UPDATE meta SET record = x'01'",
        ] {
            let scratch = try Scratch()
            let path = scratch.path("ledger.sqlite")
            try Aged().file.write(to: URL(filePath: path))
            let other = try DatabaseQueue(path: path)
            try other.write { try $0.execute(sql: sql) }
            try other.close()
            try expectDamaged(path, saying: "damaged")
        }
    }

    @Test func `a newer schema names the way back`() throws {
        let scratch = try Scratch()
        let path = scratch.path("ledger.sqlite")
        try SQLiteStore(path: path).close()
        let other = try DatabaseQueue(path: path)
        try other.write { try $0.execute(sql: "PRAGMA user_version = 99") }
        try other.close()
        let error = try #require(throws: StoreError.self) { try SQLiteStore(path: path) }
        #expect(error.code == .newerSchema)
        #expect(error.message.contains("schema 99"))
    }

    private func expectDamaged(
        _ path: String, saying text: String, toDo: String = "give it the backup with `holdfast restore"
    ) throws {
        let error = try #require(throws: StoreError.self) { try SQLiteStore(path: path).load() }
        #expect(error.code == .damaged)
        #expect(error.message.contains(text), "\(error)")
        #expect(error.message.contains(path))
        #expect(error.message.contains(toDo), "\(error)")
    }
}

/// A ledger after a random history, as files and as a model of what is in them.
struct Aged {
    var model: Model
    /// Closed.
    var file: Data
    /// Of the ledger before it was closed.
    var log: Data

    init(seed: UInt64 = 7, batches: Int = 60) throws {
        let scratch = try Scratch()
        let path = scratch.path("ledger.sqlite")
        var random = SeededGenerator(seed: seed)
        var history = RandomHistory()
        let store = try SQLiteStore(path: path)
        for _ in 0..<batches {
            try store.commit(history.batch(using: &random), revision: history.model.revision)
        }
        model = history.model
        log = try Data(contentsOf: URL(filePath: path + "-wal"))
        store.close()
        file = try Data(contentsOf: URL(filePath: path))
    }
}
