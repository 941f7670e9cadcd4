import IPAMModel
package import Ledger

/// Reads a backup's file, piece by piece, in whatever pieces it comes.
package struct BackupReader: Sendable {
    /// Nil until it was read.
    package private(set) var head: BackupFile.Head?
    package private(set) var counts = BackupFile.Counts()
    /// What was read so far; stays empty in a reader that only checks.
    private var snapshot = Snapshot()
    private let onlyChecks: Bool
    /// Bytes that are no whole frame yet.
    private var rest: [UInt8] = []
    private var checksum = FNV1a()
    private var hasBegun = false
    private var hasEnded = false

    package init(onlyChecks: Bool = false) { self.onlyChecks = onlyChecks }

    /// Throws `.damaged`, and `.newerSchema` for what a newer program has written.
    package mutating func read(_ piece: [UInt8]) throws(StoreError) {
        rest += piece
        var position = 0
        if !hasBegun {
            let length = BackupFile.magic.count + 1
            let count = min(rest.count, BackupFile.magic.count)
            guard rest.prefix(count).elementsEqual(BackupFile.magic.prefix(count)) else {
                throw .damagedBackup("it does not begin as a backup of Holdfast's does")
            }
            guard rest.count >= length else { return }
            guard rest[length - 1] == BackupFile.format else { throw .newerBackup("format \(rest[length - 1])") }
            let start = rest[..<length]
            checksum.add(start.span)
            position = length
            hasBegun = true
        }
        while rest.count - position >= 5 {
            if hasEnded { break }
            let length = (1...4).reduce(0) { $0 | Int(rest[position + $1]) << (8 * ($1 - 1)) }
            guard length <= BackupFile.largestFrame else { throw .damagedBackup("a record is too long") }
            guard rest.count - position >= 5 + length else { break }
            let record = Array(rest[(position + 5)..<(position + 5 + length)])
            guard let kind = BackupFile.Kind(rawValue: rest[position]) else {
                throw .damagedBackup("there is a record of an unknown kind (\(rest[position]))")
            }
            if kind == .end {
                try end(record)
            } else {
                try take(kind, record)
                let frame = rest[position..<(position + 5 + length)]
                checksum.add(frame.span)
            }
            position += 5 + length
        }
        rest.removeFirst(position)
        if hasEnded, !rest.isEmpty { throw .damagedBackup("bytes follow after its end") }
    }

    /// All that was in it. Throws `.damaged` where the end has not come.
    package func finish() throws(StoreError) -> Snapshot {
        guard hasEnded else { throw .damagedBackup("it is cut short") }
        return snapshot
    }

    private mutating func take(_ kind: BackupFile.Kind, _ record: [UInt8]) throws(StoreError) {
        guard (head == nil) == (kind == .head) else { throw .damagedBackup("its records are in another order") }
        switch kind {
        case .head:
            let head = try value(record, BackupFile.Head.self)
            // A store has them as signed numbers, and a restore's is the one after it.
            guard head.revision < UInt64(Int64.max) else { throw .damagedBackup("its revision is out of range") }
            self.head = head
            snapshot.revision = head.revision
        case .pool:
            counts.pools += 1
            let pool = try value(record, Pool.self)
            if !onlyChecks { snapshot.pools.append(pool) }
        case .binding:
            counts.bindings += 1
            let binding = try value(record, Binding.self)
            if !onlyChecks { snapshot.bindings.append(binding) }
        case .freed:
            counts.freed += 1
            let freed = try value(record, FreedAddress.self)
            if !onlyChecks { snapshot.freed.append(freed) }
        case .history:
            counts.history += 1
            let entry = try value(record, HistoryEntry.self)
            if !onlyChecks { snapshot.history.append(entry) }
        case .end: break
        }
    }

    private mutating func end(_ record: [UInt8]) throws(StoreError) {
        let end = try value(record, BackupFile.End.self)
        guard head != nil, end.counts == counts else { throw .damagedBackup("records are missing from it") }
        guard end.checksum == checksum.value else { throw .damagedBackup("bytes of it have changed") }
        hasEnded = true
    }

    private func value<Value: Recordable>(_ record: [UInt8], _: Value.Type) throws(StoreError) -> Value {
        do throws(RecordError) {
            return try Value(record: record)
        } catch {
            switch error {
            case .damaged: throw .damagedBackup("a record does not fit its checksum")
            case .unknownFormat(let format): throw .newerBackup("a record of format \(format)")
            }
        }
    }
}

extension StoreError {
    fileprivate static func damagedBackup(_ found: String) -> StoreError {
        StoreError(.damaged, "the backup is damaged: \(found). Nothing was changed. Use another copy of it.")
    }

    fileprivate static func newerBackup(_ found: String) -> StoreError {
        StoreError(
            .newerSchema,
            "the backup was made by a newer Holdfast (\(found)). Nothing was changed. Use that version or a newer one.")
    }
}
