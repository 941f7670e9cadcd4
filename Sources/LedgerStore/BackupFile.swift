package import IPAMModel
package import Ledger

/// A whole ledger as a file that any store can be filled from.
///
/// ```
/// "HOLDFAST BACKUP\n"  16 bytes
/// format               1 byte: 1
/// frames               kind (1 byte), length (4 bytes, little-endian), a record, which has a checksum of its own
/// ```
/// The first frame tells of what the file is, then come pools, bindings, freed addresses and history, and the last has
/// their numbers and a checksum over all before it: a file that is cut short, or in which a byte has changed, is never
/// taken for a whole one.
package enum BackupFile {
    static let magic = Array("HOLDFAST BACKUP\n".utf8)
    static let format: UInt8 = 1
    /// Of a record: more than any has. A pool with 65,536 exclusions, which older versions took, has 2.2 MB.
    static let largestFrame = 4 << 20
    /// Of a piece, about.
    static let pieceBytes = 256 << 10

    enum Kind: UInt8 { case head = 1, pool, binding, freed, history, end = 0xff }

    /// What the file is of.
    package struct Head: Hashable, Sendable {
        package var revision: UInt64
        package var createdAt: Timestamp
        package var hasHistory: Bool
    }

    /// How many of each there are.
    package struct Counts: Hashable, Sendable {
        package var pools: UInt64 = 0
        package var bindings: UInt64 = 0
        package var freed: UInt64 = 0
        package var history: UInt64 = 0

        package init(pools: UInt64 = 0, bindings: UInt64 = 0, freed: UInt64 = 0, history: UInt64 = 0) {
            self.pools = pools
            self.bindings = bindings
            self.freed = freed
            self.history = history
        }
    }
}

/// The pieces of a ledger's file, in order.
package struct BackupPieces: Sequence, IteratorProtocol {
    private let snapshot: Snapshot
    private let head: BackupFile.Head
    private var checksum = FNV1a()
    /// Of all frames that there are; nil once all is done.
    private var position: Int? = 0

    package init(_ snapshot: Snapshot, createdAt: Timestamp, hasHistory: Bool) {
        self.snapshot = snapshot
        head = BackupFile.Head(revision: snapshot.revision, createdAt: createdAt, hasHistory: hasHistory)
    }

    package mutating func next() -> [UInt8]? {
        guard var index = position else { return nil }
        var piece: [UInt8] = []
        piece.reserveCapacity(BackupFile.pieceBytes + 1024)
        if index == 0 {
            piece += BackupFile.magic + [BackupFile.format]
            append(.head, head.record, to: &piece)
        }
        while piece.count < BackupFile.pieceBytes, let (kind, record) = frame(index) {
            append(kind, record, to: &piece)
            index += 1
        }
        position = index
        checksum.add(piece.span)
        if frame(index) == nil, piece.count < BackupFile.pieceBytes {
            let last = piece.count
            let counts = BackupFile.Counts(
                pools: UInt64(snapshot.pools.count), bindings: UInt64(snapshot.bindings.count),
                freed: UInt64(snapshot.freed.count), history: UInt64(snapshot.history.count))
            append(.end, BackupFile.End(counts: counts, checksum: checksum.value).record, to: &piece)
            checksum.add(piece.span.extracting(last...))
            position = nil
        }
        return piece
    }

    private func frame(_ index: Int) -> (BackupFile.Kind, [UInt8])? {
        var index = index
        if index < snapshot.pools.count { return (.pool, snapshot.pools[index].record) }
        index -= snapshot.pools.count
        if index < snapshot.bindings.count { return (.binding, snapshot.bindings[index].record) }
        index -= snapshot.bindings.count
        if index < snapshot.freed.count { return (.freed, snapshot.freed[index].record) }
        index -= snapshot.freed.count
        if index < snapshot.history.count { return (.history, snapshot.history[index].record) }
        return nil
    }

    private func append(_ kind: BackupFile.Kind, _ record: [UInt8], to piece: inout [UInt8]) {
        piece.append(kind.rawValue)
        for shift in [0, 8, 16, 24] { piece.append(UInt8(truncatingIfNeeded: record.count >> shift)) }
        piece += record
    }
}

extension BackupFile {
    struct End {
        var counts: Counts
        /// Of all bytes before this frame.
        var checksum: UInt64
    }
}

extension BackupFile.Head: Recordable {
    static var recordFormat: UInt8 { 1 }

    func write(to record: inout RecordWriter) {
        record.put(revision)
        record.put(fixed: createdAt.nanoseconds, byteCount: 8)
        record.put(UInt8(hasHistory ? 1 : 0))
    }

    init(from record: inout RecordReader) throws(RecordError) {
        self.init(
            revision: try record.unsigned(), createdAt: Timestamp(nanoseconds: try record.integer(byteCount: 8)),
            hasHistory: try record.byte() == 1)
    }
}

extension BackupFile.End: Recordable {
    static var recordFormat: UInt8 { 1 }

    func write(to record: inout RecordWriter) {
        for count in [counts.pools, counts.bindings, counts.freed, counts.history] { record.put(count) }
        record.put(fixed: checksum, byteCount: 8)
    }

    init(from record: inout RecordReader) throws(RecordError) {
        self.init(
            counts: BackupFile.Counts(
                pools: try record.unsigned(), bindings: try record.unsigned(), freed: try record.unsigned(),
                history: try record.unsigned()), checksum: try record.integer(byteCount: 8))
    }
}
