import Addresses
import Foundation
import GRDB
import IPAMModel
import Ledger
import StoreConformance
import Testing

@testable import LedgerStore

@Suite struct `The SQLite store` {
    private static let conformance = StoreConformance {
        let scratch = try Scratch()
        return { try SQLiteStore(path: scratch.path("ledger.sqlite")) }
    }

    @Test func `is empty when new`() throws { try Self.conformance.aNewStoreIsEmpty() }

    @Test(arguments: [UInt64.random(in: 0 ... .max), 1, 2, 3])
    func `reads a history back as it was committed`(seed: UInt64) throws {
        try Self.conformance.aHistoryIsReadBackAsItWasCommitted(seed: seed, batches: 120)
    }

    @Test func `lets the changes of a batch take effect in order`() throws {
        try Self.conformance.changesOfABatchTakeEffectInOrder()
    }

    @Test func `lets a binding come again in a batch`() throws {
        try Self.conformance.aBindingThatComesAgainInABatchMoves()
    }

    @Test func `refuses a batch that breaks uniqueness, whole`() throws {
        try Self.conformance.aBatchThatBreaksUniquenessIsRefusedWhole()
    }

    @Test(arguments: [1, 7, 8, 9, 16, 17])
    func `has each binding of a commit in a row of its own, however many they are`(count: Int) throws {
        let scratch = try Scratch()
        let store = try SQLiteStore(path: scratch.path("ledger.sqlite"))
        defer { store.close() }
        // New ones, and the same elsewhere.
        for (revision, distance) in [(1, 100), (2, 200)] {
            let bindings = (1...count).map { number in
                var binding = Example.binding(owner: number, address: number + distance)
                binding.revision = binding.id + UInt64(revision - 1)
                let address = IPAddress(family: .ipv6, bits: UInt128(0xfd00) << 112 | UInt128(number + distance))
                let assignment = Assignment(address: address, prefixLength: 64, gateway: nil)
                switch number % 3 {
                case 0: binding.assignments = [assignment]
                case 1: binding.assignments.append(assignment)
                default: break
                }
                return binding
            }
            try store.commit(bindings.map(Change.putBinding), revision: UInt64(revision))
            let rows = try store.database.read { db in
                try Row.fetchAll(db, sql: "SELECT id, namespace, name, ipv4, ipv6, record FROM bindings ORDER BY id")
            }
            #expect(
                rows.map { Array($0.databaseValues) }
                    == bindings.map { binding in
                        let addresses = AddressFamily.allCases.map { family in
                            binding.assignments.first { $0.address.family == family }.map { Data($0.address.bytes) }
                        }
                        return [
                            Int64(binding.id).databaseValue, binding.owner.namespace.databaseValue,
                            binding.owner.name.databaseValue, addresses[0].databaseValue, addresses[1].databaseValue,
                            Data(StoredRecord.bytes(binding)).databaseValue,
                        ]
                    })
        }
    }

    @Test func `writes no page of an index for a binding that keeps its addresses`() throws {
        let scratch = try Scratch()
        let store = try SQLiteStore(path: scratch.path("ledger.sqlite"))
        defer { store.close() }
        func pages(of change: Change, revision: UInt64) throws -> Int {
            let log = scratch.path("ledger.sqlite-wal")
            func size() throws -> Int { try Data(contentsOf: URL(filePath: log)).count }
            let before = try size()
            try store.commit([change], revision: revision)
            return (try size() - before) / 4120
        }
        var binding = Example.binding(owner: 1, address: 7)
        try store.commit([.putBinding(binding)], revision: binding.id)
        binding.revision = binding.id + 1
        binding.owner.uid += "-anew"
        // The table's and the revision's.
        #expect(try pages(of: .putBinding(binding), revision: binding.revision) == 2)
        #expect(try store.load().bindings == [binding])
        var moved = Example.binding(owner: 1, address: 8)
        moved.revision = binding.revision + 1
        #expect(try pages(of: .putBinding(moved), revision: moved.revision) == 3)
        #expect(try store.load().bindings == [moved])
    }

    @Test func `lets others read once it is ready for a commit, and not write, and leaves no log when it is closed`()
        throws
    {
        let scratch = try Scratch()
        let path = scratch.path("ledger.sqlite")
        let store = try SQLiteStore(path: path)
        let other = try DatabaseQueue(path: path)
        func seen() throws -> Int? { try other.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM bindings") } }
        for number in 1...2 {
            store.getReady()
            #expect(try seen() == number - 1)
            let error = #expect(throws: DatabaseError.self) {
                try other.writeWithoutTransaction { try $0.execute(sql: "DELETE FROM bindings") }
            }
            #expect(error?.resultCode == .SQLITE_BUSY)
            try store.commit([.putBinding(Example.binding(owner: number, address: number))], revision: UInt64(number))
            #expect(try seen() == number)
        }
        store.getReady()
        try other.close()
        store.close()
        #expect(!FileManager.default.fileExists(atPath: path + "-wal"))
    }

    @Test func `takes nothing once closed`() throws { try Self.conformance.aClosedStoreTakesNothing() }
}

/// A folder of the test's own, gone with the last one who holds it.
final class Scratch: Sendable {
    let folder: URL

    init() throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "holdfast-store-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    func path(_ name: String) -> String { folder.appending(path: name).path }

    deinit { try? FileManager.default.removeItem(at: folder) }
}
