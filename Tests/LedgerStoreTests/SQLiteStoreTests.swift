import Foundation
import GRDB
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

    @Test func `refuses a batch that breaks uniqueness, whole`() throws {
        try Self.conformance.aBatchThatBreaksUniquenessIsRefusedWhole()
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
