import Foundation
import IPAMModel
import Ledger
import Logging

@testable import EtcdStore
@testable import LedgerStore
@testable import NodeAgent

extension Reader {
    /// What stores and the agent's state hold. Checksums are set right, so that what lies behind them is reached.
    static let stored = [
        Reader(
            name: "records",
            read: byFirstByte([
                { try roundTrip(Binding.self, $0) }, { try roundTrip(FreedAddress.self, $0) },
                { try roundTrip(Pool.self, $0) },
            ])),
        // Each part begins with its length and a letter: is what a store has of them a ledger?
        Reader(name: "snapshots") { bytes in
            var snapshot = Snapshot(revision: 1 << 40)
            var rest = bytes[...]
            while let kind = rest.popFirst(), let low = rest.popFirst(), let high = rest.popFirst() {
                let record = summed(Array(rest.prefix(Int(low) | Int(high) << 8)))
                rest = rest.dropFirst(Int(low) | Int(high) << 8)
                switch kind {
                case UInt8(ascii: "b"): if let value = try? Binding(record: record) { snapshot.bindings.append(value) }
                case UInt8(ascii: "f"):
                    if let value = try? FreedAddress(record: record) { snapshot.freed.append(value) }
                default: if let value = try? Pool(record: record) { snapshot.pools.append(value) }
                }
            }
            guard let ledger = try? Ledger(snapshot) else { return }
            for pool in ledger.pools { _ = ledger.usage(ofPool: pool.name, at: Timestamp(nanoseconds: .max)) }
        },
        // Each part begins with a frame's kind and its record's length. The last frame fits those before it.
        Reader(name: "backups") { bytes in
            var file = BackupFile.magic + [BackupFile.format]
            func append(_ kind: UInt8, _ record: [UInt8]) {
                file += [kind] + (0..<4).map { UInt8(truncatingIfNeeded: record.count >> (8 * $0)) } + record
            }
            var rest = bytes[...]
            while let kind = rest.popFirst(), let low = rest.popFirst(), let high = rest.popFirst() {
                append(kind, summed(Array(rest.prefix(Int(low) | Int(high) << 8))))
                rest = rest.dropFirst(Int(low) | Int(high) << 8)
            }
            var (reader, sum) = (BackupReader(), FNV1a())
            guard (try? reader.read(file)) != nil else { return }
            sum.add(file.span)
            append(0xff, BackupFile.End(counts: reader.counts, checksum: sum.value).record)
            var whole = BackupReader()
            guard (try? whole.read(file)) != nil, let snapshot = try? whole.finish(), let head = whole.head else {
                return
            }
            var again = BackupReader()
            let pieces = BackupPieces(snapshot, createdAt: head.createdAt, hasHistory: head.hasHistory)
            for piece in pieces { try again.read(piece) }
            try expectSame(head, again.head, "head")
            try expectSame("\(snapshot)", "\(try again.finish())", "snapshot")
        },
        Reader(name: "write-ahead-log") { bytes in _ = WriteAheadLog(bytes).isWhole },
        Reader(name: "etcd-keys") { bytes in
            let keys = EtcdKeys(prefix: "/holdfast/")
            let text = String(decoding: bytes, as: UTF8.self)
            if let owner = keys.owner(of: keys.bindings + text) {
                try expectSame(owner, keys.owner(of: keys.binding(owner)), "a binding's key")
            }
            if let name = keys.poolName(of: keys.pools + text) {
                try expectSame(name, keys.poolName(of: keys.pool(name)), "a pool's key")
            }
            if let address = keys.freedAddress(of: keys.freed + text) {
                try expectSame(address, keys.freedAddress(of: keys.freed(address)), "a freed address' key")
            }
        },
        Reader(name: "etcd-values") { bytes in
            let entry = EtcdEntry(key: "/holdfast/revision", value: bytes, createRevision: 1, modRevision: 1)
            if let mark = try? EtcdMark(entry) {
                let again = EtcdEntry(key: entry.key, value: mark.bytes, createRevision: 1, modRevision: 1)
                try expectSame(mark, try? EtcdMark(again), "mark")
            }
            if let operations = try? EtcdJournal.operations(of: entry) {
                let again = EtcdEntry(
                    key: entry.key, value: EtcdJournal.bytes(of: operations), createRevision: 1, modRevision: 1)
                try expectSame("\(operations)", try? "\(EtcdJournal.operations(of: again))", "journal")
            }
        },
        // Lines of the spool's, the copies' and a plain journal's file.
        Reader(name: "journals") { bytes in
            let path = "/dev/shm/holdfast-fuzz-\(getpid()).journal"
            defer { for suffix in ["", ".damaged", ".new"] { unlink(path + suffix) } }
            let log = Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() }
            func write() throws {
                let lines = bytes.split(separator: UInt8(ascii: "\n")).map { line in
                    Array("\(FNV1a(line.span).hexadecimal) ".utf8) + line
                }
                // And one that is as it came.
                try Data((lines + [bytes]).joined(separator: [UInt8(ascii: "\n")])).write(to: URL(filePath: path))
            }
            try write()
            var lines: [[UInt8]] = []
            _ = try? JournalFile(path: path, log: log, lines: &lines)
            var again: [[UInt8]] = []
            _ = try? JournalFile(path: path, log: log, lines: &again)
            try expectSame(lines, again, "lines")
            try write()
            _ = try? Spool(path: path, log: log)
            try write()
            _ = try? CopyStore(path: path, clock: NodeClock(bootID: "boot") { 1 << 40 }, log: log)
        },
        Reader(name: "port-records") { bytes in
            guard let record = try? JSONDecoder().decode(PortRecord.self, from: Data(bytes)) else { return }
            let again = try JSONDecoder().decode(PortRecord.self, from: JSONEncoder().encode(record))
            try expectSame(record, again, "port")
        },
    ]
}

private func summed(_ bytes: [UInt8]) -> [UInt8] {
    let sum = FNV1a(bytes.span).value
    return bytes + (0..<Record.checksumLength).map { UInt8(truncatingIfNeeded: sum >> (8 * UInt64($0))) }
}

private func roundTrip<Value: Recordable & Equatable>(_: Value.Type, _ bytes: [UInt8]) throws {
    guard let value = try? Value(record: summed(bytes)) else { return }
    try expectSame(value, try? Value(record: value.record), "\(Value.self)")
}
