import Addresses
import Foundation
import IPAMModel
import Ledger
import LedgerStore
import Testing

@Suite struct `A ledger of an older Holdfast` {
    /// `Tests/Fixtures/ledgers/schema-1.db`: pool vm-net, a VM with 10.16.0.15, one with 10.16.0.10, and one that was
    /// freed; written before there was a history.
    @Test func `is brought up to date when it is opened, and keeps all it has`() throws {
        let scratch = try Scratch()
        let path = scratch.path("ledger.sqlite")
        let fixture = URL(filePath: #filePath).deletingLastPathComponent().appending(
            path: "../Fixtures/ledgers/schema-1.db")
        try FileManager.default.copyItem(at: fixture, to: URL(filePath: path))
        var store = try SQLiteStore(path: path)
        let snapshot = try store.loadWithHistory()
        #expect(snapshot.revision == 5)
        #expect(snapshot.pools.map(\.name) == ["vm-net"])
        #expect(snapshot.pools.map(\.historyRetention) == [Pool.defaultHistoryRetention])
        #expect(
            snapshot.bindings.map { "\($0.owner.key) \($0.assignments.map(\.address))" } == [
                "vm default/testvm (vm-net/eth0) [10.16.0.15]", "vm default/other (vm-net/eth0) [10.16.0.10]",
            ])
        // Since when they are where they are was not noted: surely since they were made.
        #expect(snapshot.bindings.allSatisfy { $0.heldSince == $0.createdAt && $0.heldBy == "" })
        #expect(snapshot.freed.map(\.lastOwner.name) == ["gone"])
        #expect(snapshot.history.isEmpty)

        var ledger = try Ledger(snapshot)
        let now = ledger.newestTime.advanced(by: .seconds(1))
        _ = try ledger.apply(.release(.binding(snapshot.bindings[0].owner)), at: now)
        try store.commit(ledger.pending, revision: ledger.revision)
        store.close()
        store = try SQLiteStore(path: path)
        defer { store.close() }
        let later = try store.loadWithHistory()
        #expect(later.bindings == Array(snapshot.bindings[1...]) && later.freed.count == 2)
        #expect(later.history.map(\.revision) == [6] && later.history.first?.owner.name == "testvm")
    }
}
