import Addresses
import Foundation
import GRDB
import IPAMModel
import Ledger

/// What a ledger's changes are in SQL, and how the tables are read back.
enum LedgerStatements {
    /// On a conflict with the owner's own row only: an address or MAC of another owner is an error, never replaced.
    private static let putBinding = """
        INSERT INTO bindings (kind, namespace, name, network, pool, ipv4, ipv6, mac, state, node, pod, record)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (kind, namespace, name, network) DO UPDATE SET
            pool = excluded.pool, ipv4 = excluded.ipv4, ipv6 = excluded.ipv6, mac = excluded.mac,
            state = excluded.state, node = excluded.node, pod = excluded.pod, record = excluded.record
        """
    private static let removeBinding =
        "DELETE FROM bindings WHERE kind = ? AND namespace = ? AND name = ? AND network = ?"
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
    }

    static func run(_ change: Change, in db: Database) throws {
        switch change {
        case .putBinding(let binding):
            try run(putBinding, in: db) { row in
                row.bind(key: binding.owner.key)
                row.bind(binding.pool)
                row.bind(binding.address(.ipv4)?.bytes)
                row.bind(binding.address(.ipv6)?.bytes)
                row.bind(binding.mac.bytes)
                row.bind(binding.state.text)
                row.bind(binding.active?.node)
                row.bind(binding.active?.pod)
                row.bind(binding.record)
            }
        case .removeBinding(let binding):
            try run(removeBinding, in: db) { row in row.bind(key: binding.owner.key) }
        case .putFreed(let freed):
            try run(putFreed, in: db) { row in
                row.bind(freed.address.bytes)
                row.bind(freed.pool)
                row.bind(freed.lastOwner.key.description)
                row.bind(freed.record)
            }
        case .removeFreed(let address):
            try run(removeFreed, in: db) { row in row.bind(address.bytes) }
        case .putPool(let pool):
            try run(putPool, in: db) { row in
                row.bind(pool.name)
                row.bind(pool.record)
            }
        case .removePool(let name):
            try run(removePool, in: db) { row in row.bind(name) }
        }
    }

    static func put(revision: UInt64, in db: Database) throws {
        try run(putRevision, in: db) { row in
            row.bind(Int64(bitPattern: revision))
            row.bind(revision.record)
        }
    }

    private static func run(_ sql: String, in db: Database, bind: (inout BoundRow) -> Void) throws {
        var row = BoundRow(try db.cachedStatement(sql: sql))
        bind(&row)
        try row.run()
    }
}

extension Binding {
    fileprivate func address(_ family: AddressFamily) -> IPAddress? {
        assignments.lazy.map(\.address).first { $0.family == family }
    }
}

extension OwnerKind {
    fileprivate var text: String {
        switch self {
        case .virtualMachine: "vm"
        case .pod: "pod"
        }
    }
}

extension BindingState {
    fileprivate var text: String {
        switch self {
        case .reserved: "reserved"
        case .bound: "bound"
        case .migrating: "migrating"
        }
    }
}

/// The meta row's value: the ledger's revision.
extension UInt64: Recordable {
    static var recordFormat: UInt8 { 1 }
    func write(to record: inout RecordWriter) { record.put(self) }
    init(from record: inout RecordReader) throws(RecordError) { self = try record.unsigned() }
}

extension BoundRow {
    fileprivate mutating func bind(key: OwnerKey) {
        bind(key.kind.text)
        bind(key.namespace)
        bind(key.name)
        bind(key.network)
    }
}

extension LedgerStatements {
    /// Reads every record, and throws `RecordError` or `ColumnMismatch` where one is not as it was written.
    static func load(from db: Database) throws -> Snapshot {
        guard let revision = try all(UInt64.self, from: "meta", in: db).first else { throw MissingRevision() }
        return Snapshot(
            revision: revision, pools: try all(Pool.self, from: "pools", in: db),
            bindings: try all(Binding.self, from: "bindings", in: db),
            freed: try all(FreedAddress.self, from: "freed", in: db))
    }

    struct MissingRevision: Error {}

    private static func all<Value: Recordable>(_: Value.Type, from table: String, in db: Database) throws -> [Value] {
        var values: [Value] = []
        let rows = try Row.fetchCursor(db, sql: "SELECT record FROM \(table)")
        while let row = try rows.next() {
            values.append(try row.withUnsafeData(atIndex: 0) { data in try Value(record: Array(data ?? Data())) })
        }
        return values
    }
}
