import Foundation
import IPAMModel
import Ledger
import StoreConformance
import Testing

@testable import LedgerStore

@Suite struct `A backup's file` {
    /// A ledger of random facts.
    private func example(seed: UInt64, batches: Int = 40) -> (snapshot: Snapshot, model: Model) {
        var random = SeededGenerator(seed: seed)
        var history = RandomHistory()
        for _ in 0..<batches { _ = history.batch(using: &random) }
        let model = history.model
        return (
            Snapshot(
                revision: model.revision, pools: Array(model.pools.values), bindings: Array(model.bindings.values),
                freed: Array(model.freed.values), history: Array(model.history.values)), model
        )
    }

    private func file(of snapshot: Snapshot) -> [UInt8] {
        BackupPieces(snapshot, createdAt: Timestamp(seconds: 1_800_000_000), hasHistory: true).flatMap(\.self)
    }

    private func read(_ file: [UInt8], piece: Int = 1000, onlyChecks: Bool = false) throws(StoreError) -> BackupReader {
        var reader = BackupReader(onlyChecks: onlyChecks)
        for start in stride(from: 0, to: file.count, by: piece) {
            try reader.read(Array(file[start..<min(start + piece, file.count)]))
        }
        return reader
    }

    @Test(arguments: [UInt64.random(in: 0 ... .max), 1, 2])
    func `gives back what went into it, in whatever pieces`(seed: UInt64) throws {
        let (snapshot, model) = example(seed: seed)
        let file = file(of: snapshot)
        for piece in [1, 7, 1000, file.count] {
            let reader = try read(file, piece: piece)
            #expect(model.differenceWithHistory(from: try reader.finish()) == nil, "seed \(seed)")
            #expect(reader.head?.revision == model.revision && reader.head?.hasHistory == true)
            #expect(reader.counts.bindings == UInt64(snapshot.bindings.count))
        }
        #expect(try read(file, onlyChecks: true).finish().bindings.isEmpty)
        #expect(try read(self.file(of: Snapshot())).finish().revision == 0)
    }

    @Test func `is made in pieces that one message carries, however large it is`() throws {
        let bindings = (0..<5000).map { Example.binding(owner: $0, address: $0) }
        let pieces = Array(
            BackupPieces(
                Snapshot(revision: 7, bindings: bindings), createdAt: Timestamp(seconds: 0), hasHistory: false))
        #expect(pieces.count > 3 && pieces.allSatisfy { $0.count < 300_000 })
        #expect(try read(pieces.flatMap(\.self)).finish().bindings == bindings)
    }

    @Test(arguments: [UInt64(Int64.max), .max])
    func `of a revision that no store has is none`(revision: UInt64) throws {
        let file = file(of: Snapshot(revision: revision))
        let error = #expect(throws: StoreError.self) { try read(file) }
        #expect(error?.code == .damaged)
        #expect(try read(self.file(of: Snapshot(revision: UInt64(Int64.max) - 1))).finish().revision > 0)
    }

    @Test func `that is cut short anywhere is none`() throws {
        let file = file(of: example(seed: 3, batches: 4).snapshot)
        for length in 0..<file.count {
            let error = #expect(throws: StoreError.self) { try read(Array(file[..<length])).finish() }
            #expect(error?.code == .damaged && error?.message.contains("Nothing was changed") == true, "\(length)")
        }
    }

    @Test func `in which any one byte has changed is none`() throws {
        let file = file(of: example(seed: 4, batches: 4).snapshot)
        for position in file.indices {
            for flip: UInt8 in [0x01, 0x80, 0xff] {
                var changed = file
                changed[position] ^= flip
                let error = #expect(throws: StoreError.self, "byte \(position)") { try read(changed).finish() }
                #expect(error?.code == .damaged || error?.code == .newerSchema)
            }
        }
    }

    @Test func `with more behind it, or records out of place, is none`() throws {
        let (snapshot, _) = example(seed: 5, batches: 4)
        let file = file(of: snapshot)
        for more: [UInt8] in [[0], file] {
            let error = #expect(throws: StoreError.self) { try read(file + more) }
            #expect(error?.message.contains("bytes follow") == true)
        }
        #expect(throws: StoreError.self) { try read(file + file[17...]).finish() }
    }

    /// Each record for itself is as it was written: only the whole is not.
    @Test func `whose records have changed places is none`() throws {
        let bindings = [Example.binding(owner: 1, address: 7), Example.binding(owner: 2, address: 8)]
        var file = file(of: Snapshot(revision: 2, bindings: bindings))
        let length = 5 + StoredRecord.bytes(bindings[0]).count
        #expect(StoredRecord.bytes(bindings[1]).count + 5 == length)
        // Behind them: the end's kind, length and record, which is 4 counts of one byte and two checksums.
        let start = file.count - (5 + 1 + 4 + 8 + 8) - 2 * length
        #expect(file[start] == BackupFile.Kind.binding.rawValue)
        let first = Array(file[start..<(start + length)])
        file.replaceSubrange(start..<(start + 2 * length), with: file[(start + length)..<(start + 2 * length)] + first)
        let error = #expect(throws: StoreError.self) { try read(file).finish() }
        #expect(error?.message.contains("bytes of it have changed") == true)
    }

    @Test func `of a newer program says so`() throws {
        var file = file(of: Snapshot())
        file[BackupFile.magic.count] = 2
        let error = #expect(throws: StoreError.self) { try read(file) }
        #expect(error?.code == .newerSchema && error?.message.contains("newer Holdfast") == true)
    }

    @Test func `of something else says so`() throws {
        for text in ["SQLite format 3\0\u{10}", "pools:\n"] {
            let error = #expect(throws: StoreError.self) { try read(Array(text.utf8)).finish() }
            #expect(error?.message.contains("does not begin as a backup") == true)
        }
    }
}
