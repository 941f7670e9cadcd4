import Addresses
import Foundation
import GRDB
import IPAMModel
import Ledger

/// What a ledger's changes are in SQL, and how the tables are read back.
enum LedgerStatements {
    /// On a conflict with the binding's own row only: an address of another binding is an error, never replaced.
    private static let putBinding = """
        INSERT INTO bindings (id, namespace, name, ipv4, ipv6, record) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET
            namespace = excluded.namespace, name = excluded.name, ipv4 = excluded.ipv4, ipv6 = excluded.ipv6,
            record = excluded.record
        """
    private static let removeBinding = "DELETE FROM bindings WHERE id = ?"
    private static let putFreed = "INSERT OR REPLACE INTO freed (address, pool, last_owner, record) VALUES (?, ?, ?, ?)"
    private static let removeFreed = "DELETE FROM freed WHERE address = ?"
    private static let putPool = "INSERT OR REPLACE INTO pools (name, record) VALUES (?, ?)"
    private static let removePool = "DELETE FROM pools WHERE name = ?"
    private static let putRevision = "INSERT OR REPLACE INTO meta (id, revision, record) VALUES (1, ?, ?)"

    /// Throws where a table or column is not there.
    static func prepare(in db: Database) throws {
        for sql in [putBinding, removeBinding, putFreed, removeFreed, putPool, removePool, putRevision] {
            _ = try db.cachedStatement(sql: sql)
        }
        try HistoryStatements.prepare(in: db)
        try db.prepareTransactions()
    }

    static func run(_ change: Change, in db: Database) throws {
        switch change {
        case .putBinding(let binding):
            try db.run(
                putBinding, .integer(Int64(bitPattern: binding.id)), .text(binding.owner.namespace),
                .text(binding.owner.name), .blob(orNull: binding.address(.ipv4)?.bytes),
                .blob(orNull: binding.address(.ipv6)?.bytes), .blob(binding.record))
        case .removeBinding(let binding): try db.run(removeBinding, .integer(Int64(bitPattern: binding.id)))
        case .putFreed(let freed):
            try db.run(
                putFreed, .blob(freed.address.bytes), .text(freed.pool), .text(freed.lastOwner.key.description),
                .blob(freed.record))
        case .removeFreed(let address): try db.run(removeFreed, .blob(address.bytes))
        case .putPool(let pool): try db.run(putPool, .text(pool.name), .blob(pool.record))
        case .removePool(let name): try db.run(removePool, .text(name))
        case .putHistory(let entry): try HistoryStatements.put(entry, in: db)
        case .removeHistory(let entry): try HistoryStatements.remove(entry, in: db)
        }
    }

    static func put(revision: UInt64, in db: Database) throws {
        try db.run(putRevision, .integer(Int64(bitPattern: revision)), .blob(revision.record))
    }
}

extension Binding {
    fileprivate func address(_ family: AddressFamily) -> IPAddress? {
        assignments.lazy.map(\.address).first { $0.family == family }
    }
}

/// The meta row's value: the ledger's revision.
extension UInt64: Recordable {
    static var recordFormat: UInt8 { 1 }
    func write(to record: inout RecordWriter) { record.put(self) }
    init(from record: inout RecordReader) throws(RecordError) { self = try record.unsigned() }
}

extension LedgerStatements {
    /// Reads every record, and throws `RecordError` where one is not as it was written.
    static func load(from db: Database) throws -> Snapshot {
        guard let revision = try all(UInt64.self, from: "meta", in: db).first else { throw MissingRevision() }
        return Snapshot(
            revision: revision, pools: try all(Pool.self, from: "pools", in: db),
            bindings: try all(Binding.self, from: "bindings", in: db),
            freed: try all(FreedAddress.self, from: "freed", in: db))
    }

    struct MissingRevision: Error {}

    /// Whether nothing was ever put into it.
    static func isEmpty(_ db: Database) throws -> Bool {
        try all(UInt64.self, from: "meta", in: db) == [0]
    }

    private static func all<Value: Recordable>(_: Value.Type, from table: String, in db: Database) throws -> [Value] {
        var values: [Value] = []
        let records = try Data.fetchCursor(db, sql: "SELECT record FROM \(table)")
        while let record = try records.next() { values.append(try Value(record: Array(record))) }
        return values
    }
}
