import Addresses
import Foundation
import GRDB
import IPAMModel
import Ledger

/// What a ledger's changes are in SQL, and how the tables are read back.
enum LedgerStatements {
    /// A row of a statement for several costs a quarter less than one of its own.
    private static let bindingsAtOnce = 8
    private static let (putBinding, putBindings) = (put(bindings: 1), put(bindings: bindingsAtOnce))

    /// On a conflict with the binding's own row only: an address of another binding is an error, never replaced.
    private static func put(bindings count: Int) -> String {
        """
        INSERT INTO bindings (id, namespace, name, ipv4, ipv6, record)
        VALUES \(repeatElement("(?, ?, ?, ?, ?, ?)", count: count).joined(separator: ", "))
        ON CONFLICT (id) DO UPDATE SET
            namespace = excluded.namespace, name = excluded.name, ipv4 = excluded.ipv4, ipv6 = excluded.ipv6,
            record = excluded.record
        """
    }

    /// For one that keeps its addresses, as most do that are not new: set anew, also to what they are, each would write its
    /// index's page, and a commit costs as much as the pages that it writes.
    private static let updateBinding = """
        UPDATE bindings SET namespace = ?2, name = ?3, record = ?6 WHERE id = ?1 AND ipv4 IS ?4 AND ipv6 IS ?5
        """

    private static let removeBinding = "DELETE FROM bindings WHERE id = ?"
    private static let putFreed = "INSERT OR REPLACE INTO freed (address, pool, last_owner, record) VALUES (?, ?, ?, ?)"
    private static let removeFreed = "DELETE FROM freed WHERE address = ?"
    private static let putPool = "INSERT OR REPLACE INTO pools (name, record) VALUES (?, ?)"
    private static let removePool = "DELETE FROM pools WHERE name = ?"
    private static let putRevision = "INSERT OR REPLACE INTO meta (id, revision, record) VALUES (1, ?, ?)"

    /// Throws where a table or column is not there.
    static func prepare(in db: Database) throws {
        for sql in [
            putBinding, putBindings, updateBinding, removeBinding, putFreed, removeFreed, putPool, removePool,
            putRevision,
        ] {
            _ = try db.cachedStatement(sql: sql)
        }
        try HistoryStatements.prepare(in: db)
        try db.prepareTransactions()
    }

    /// In order; what follows each other of new bindings goes several rows a statement.
    static func put(_ changes: [Change], revision: UInt64, in db: Database) throws {
        var values = ColumnValues(capacity: 4096)
        var rest = changes[...]
        while !rest.isEmpty {
            if rest.prefix(bindingsAtOnce).count(where: \.isNewBinding) == bindingsAtOnce {
                for case .putBinding(let binding) in rest.prefix(bindingsAtOnce) { values.add(rowOf: binding) }
                try db.run(putBindings, &values)
                rest = rest.dropFirst(bindingsAtOnce)
            } else {
                try put(rest.removeFirst(), &values, in: db)
            }
        }
        values.add(revision)
        values.add(record: revision)
        try db.run(putRevision, &values)
    }

    private static func put(_ change: Change, _ values: inout ColumnValues, in db: Database) throws {
        switch change {
        case .putBinding(let binding):
            if !binding.isNew {
                values.add(rowOf: binding)
                try db.run(updateBinding, &values)
                if db.changesCount > 0 { return }
            }
            values.add(rowOf: binding)
            try db.run(putBinding, &values)
        case .removeBinding(let binding):
            values.add(binding.id)
            try db.run(removeBinding, &values)
        case .putFreed(let freed):
            values.add(freed.address)
            values.add(freed.pool)
            values.add(freed.lastOwner.key.description)
            values.add(record: freed)
            try db.run(putFreed, &values)
        case .removeFreed(let address):
            values.add(address)
            try db.run(removeFreed, &values)
        case .putPool(let pool):
            values.add(pool.name)
            values.add(record: pool)
            try db.run(putPool, &values)
        case .removePool(let name):
            values.add(name)
            try db.run(removePool, &values)
        case .putHistory(let entry): try HistoryStatements.put(entry, &values, in: db)
        case .removeHistory(let entry): try HistoryStatements.remove(entry, &values, in: db)
        }
    }
}

extension Change {
    fileprivate var isNewBinding: Bool {
        if case .putBinding(let binding) = self { binding.isNew } else { false }
    }
}

extension ColumnValues {
    fileprivate mutating func add(rowOf binding: Binding) {
        add(binding.id)
        add(binding.owner.namespace)
        add(binding.owner.name)
        add(binding.address(.ipv4))
        add(binding.address(.ipv6))
        add(record: binding)
    }
}

extension Binding {
    /// Made by the very change that puts it.
    fileprivate var isNew: Bool { id == revision }

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
