import Addresses
import Foundation
import GRDB
import Glibc
import IPAMModel
import Ledger
import StoreConformance
import Testing

@testable import LedgerStore

@Suite struct `Opening and writing a ledger` {
    @Test func `one process has it, and the next is told which`() throws {
        let scratch = try Scratch()
        let path = scratch.path("ledger.sqlite")
        let alias = scratch.path("alias.sqlite")
        let store = try SQLiteStore(path: path)
        try FileManager.default.createSymbolicLink(atPath: alias, withDestinationPath: path)
        for name in [path, alias] {
            let error = try #require(throws: StoreError.self) { try SQLiteStore(path: name) }
            #expect(error.code == .inUse)
            #expect(error.message.contains("process \(getpid())"))
        }
        store.close()
        try SQLiteStore(path: path).close()
    }

    @Test func `a folder that is not there is an error that names it`() throws {
        let scratch = try Scratch()
        try Data().write(to: URL(filePath: scratch.path("file")))
        for path in [scratch.path("missing/ledger.sqlite"), scratch.path("file/ledger.sqlite")] {
            let error = try #require(throws: StoreError.self) { try SQLiteStore(path: path) }
            #expect(error.code == .unwritable)
            #expect(error.message.contains(path))
        }
    }

    @Test(.disabled(if: geteuid() == 0, "root writes everywhere"))
    func `a folder that may not be written`() throws {
        let scratch = try Scratch()
        try FileManager.default.setAttributes([.posixPermissions: 0o555], ofItemAtPath: scratch.folder.path)
        let error = try #require(throws: StoreError.self) { try SQLiteStore(path: scratch.path("ledger.sqlite")) }
        #expect(error.code == .unwritable)
    }

    @Test func `a full disk fails the commit, whole, and the store goes on`() throws {
        let scratch = try Scratch()
        let store = try SQLiteStore(path: scratch.path("ledger.sqlite"))
        defer { store.close() }
        try store.commit([.putBinding(Example.binding(owner: 0, address: 0))], revision: 1)
        var model = Model()
        model.apply(.putBinding(Example.binding(owner: 0, address: 0)))
        model.revision = 1

        let pages = try store.database.read { try Int.fetchOne($0, sql: "PRAGMA page_count") ?? 0 }
        try setPageLimit(pages + 2, of: store)
        let many = (1...500).map { Change.putBinding(Example.binding(owner: $0, address: $0)) }
        let error = try #require(throws: StoreError.self) { try store.commit(many, revision: 2) }
        #expect(error.code == .full)
        #expect(model.difference(from: try store.load()) == nil)

        try setPageLimit(1_000_000, of: store)
        try store.commit(many, revision: 2)
        for change in many { model.apply(change) }
        model.revision = 2
        #expect(model.difference(from: try store.load()) == nil)
    }

    @Test func `another program that writes for long fails the commit, and the store goes on`() throws {
        let scratch = try Scratch()
        let path = scratch.path("ledger.sqlite")
        let store = try SQLiteStore(path: path)
        defer { store.close() }
        let change = Change.putBinding(Example.binding(owner: 0, address: 0))
        try store.commit([], revision: 1)
        let other = try DatabaseQueue(path: path)
        try other.writeWithoutTransaction { db in
            try db.inTransaction(.immediate) {
                // Callers would wait for it a second time.
                #expect(ContinuousClock().measure { store.getReady() } < .seconds(4))
                let error = try #require(throws: StoreError.self) { try store.commit([change], revision: 2) }
                #expect(error.code == .inUse)
                return .rollback
            }
        }
        try other.close()
        try store.commit([change], revision: 2)
        var model = Model()
        model.apply(change)
        model.revision = 2
        #expect(model.difference(from: try store.load()) == nil)
    }

    @Test func `an empty text is kept as one`() throws {
        let scratch = try Scratch()
        let store = try SQLiteStore(path: scratch.path("ledger.sqlite"))
        defer { store.close() }
        var binding = Example.binding(owner: 0, address: 0)
        binding.owner.namespace = ""
        try store.commit([.putBinding(binding)], revision: 1)
        #expect(try store.load().bindings == [binding])
    }

    @Test func `people read it with sqlite3 while the server runs`() throws {
        let scratch = try Scratch()
        let path = scratch.path("ledger.sqlite")
        let store = try SQLiteStore(path: path)
        defer { store.close() }
        let (binding, time) = (Example.binding(owner: 3, address: 15), Timestamp(seconds: 1_800_000_000))
        let dual = Binding(
            id: 2, owner: Owner(kind: .pod, namespace: "default", name: "pod-1", network: "vm-net/eth0"),
            pool: "vm-net",
            assignments: [
                Assignment(address: try #require(IPAddress("fd00:10:16::f")), prefixLength: 64, gateway: nil)
            ], mac: MACAddress(bits: 0x0200_0a10_ab1f), revision: 2, createdAt: time, updatedAt: time)
        try store.commit([.putBinding(binding), .putBinding(dual)], revision: 2)
        let reader = try DatabaseQueue(path: path)
        let rows = try reader.read { db in
            try Row.fetchAll(db, sql: "SELECT namespace, name, ipv4, ipv6 FROM readable_bindings ORDER BY name")
                .map { row in (0..<4).map { String.fromDatabaseValue(row[$0]) ?? "-" }.joined(separator: " ") }
        }
        #expect(
            rows == [
                "default pod-1 - fd00:0010:0016:0000:0000:0000:0000:000f",
                "default vm-3 10.16.0.15 -",
            ])
        try reader.close()
        try store.commit([.removeBinding(binding)], revision: 3)
    }

    @Test func `every commit is synchronous and in the write-ahead log`() throws {
        let scratch = try Scratch()
        let store = try SQLiteStore(path: scratch.path("ledger.sqlite"))
        defer { store.close() }
        try store.database.read { (db) throws in
            #expect(try String.fetchOne(db, sql: "PRAGMA journal_mode") == "wal")
            #expect(try Int.fetchOne(db, sql: "PRAGMA synchronous") == 2)
        }
    }

    private func setPageLimit(_ pages: Int, of store: SQLiteStore) throws {
        try store.database.writeWithoutTransaction { _ = try Int.fetchOne($0, sql: "PRAGMA max_page_count = \(pages)") }
    }
}
