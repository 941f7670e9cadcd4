import Addresses
import Foundation
import GRDB
import IPAMModel
import Ledger

/// The history in SQL: one row for each entry, under the revision that ended it. So every row goes to the table's end, and
/// a commit dirties no page more than it fills. There is no index, which would cost every commit a page or two for each
/// row: who looks for an address reads the whole table, on a connection that no commit waits for.
enum HistoryStatements {
    static let table = """
        CREATE TABLE history (
            id INTEGER PRIMARY KEY,
            ipv4 BLOB CHECK (length(ipv4) = 4),
            ipv6 BLOB CHECK (length(ipv6) = 16),
            namespace TEXT NOT NULL,
            name TEXT NOT NULL,
            record BLOB NOT NULL
        ) STRICT;
        """

    private static let put =
        "INSERT OR REPLACE INTO history (id, ipv4, ipv6, namespace, name, record) VALUES (?, ?, ?, ?, ?, ?)"
    private static let remove = "DELETE FROM history WHERE id = ?"

    /// Throws where a table or column is not there.
    static func prepare(in db: Database) throws {
        for sql in [put, remove] { _ = try db.cachedStatement(sql: sql) }
    }

    static func put(_ entry: HistoryEntry, _ values: inout ColumnValues, in db: Database) throws {
        func address(_ family: AddressFamily) -> IPAddress? { entry.addresses.first { $0.family == family } }
        values.add(entry.revision)
        values.add(address(.ipv4))
        values.add(address(.ipv6))
        values.add(entry.owner.namespace)
        values.add(entry.owner.name)
        values.add(record: entry)
        try db.run(put, &values)
    }

    static func remove(_ entry: HistoryEntry, _ values: inout ColumnValues, in db: Database) throws {
        values.add(entry.revision)
        try db.run(remove, &values)
    }

    /// Newest first.
    static func entries(
        of subject: HistorySubject, before revision: UInt64, limit: Int, in db: Database
    ) throws -> [HistoryEntry] {
        let (condition, arguments): (String, StatementArguments) =
            switch subject {
            case .address(let address):
                (address.family == .ipv4 ? "ipv4 = ?" : "ipv6 = ?", [Data(address.bytes)])
            case .object(let namespace, let name): ("namespace = ? AND name = ?", [namespace, name])
            }
        return try entries(
            "WHERE \(condition) AND id < ? ORDER BY id DESC LIMIT ?",
            arguments + [Int64(clamping: revision), limit], in: db)
    }

    /// Oldest first.
    static func entries(after revision: UInt64, limit: Int, in db: Database) throws -> [HistoryEntry] {
        try entries("WHERE id > ? ORDER BY id LIMIT ?", [Int64(clamping: revision), limit], in: db)
    }

    private static func entries(
        _ condition: String, _ arguments: StatementArguments, in db: Database
    ) throws -> [HistoryEntry] {
        var entries: [HistoryEntry] = []
        let records = try Data.fetchCursor(db, sql: "SELECT record FROM history \(condition)", arguments: arguments)
        while let record = try records.next() { entries.append(try HistoryEntry(record: Array(record))) }
        return entries
    }
}
