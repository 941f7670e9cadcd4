import GRDB

/// The tables, and how a file is found to have them.
///
/// `record` is the whole value; the other columns are for people with `sqlite3`, and for the constraint that makes the
/// database itself refuse an address in two bindings (promise 1).
///
/// Keys grow as rows are added (a binding's id is the revision that made it, addresses are given lowest first), so that
/// a batch of new bindings fills a few pages at the end of the table: an index by owner or MAC would dirty a page or
/// two more for every row, and a commit costs as much as the pages that it writes.
enum SQLiteSchema {
    /// "HFST": tells our file from another program's (`PRAGMA application_id`, bytes 68-71 of the file).
    static let applicationID: UInt32 = 0x4846_5354

    /// `migrations[n]` leads from `PRAGMA user_version` n to n + 1. Never edited once released: added to.
    static let migrations = [
        """
        CREATE TABLE meta (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            revision INTEGER NOT NULL,
            record BLOB NOT NULL
        ) STRICT;

        CREATE TABLE pools (
            name TEXT PRIMARY KEY,
            record BLOB NOT NULL
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE bindings (
            id INTEGER PRIMARY KEY,
            namespace TEXT NOT NULL,
            name TEXT NOT NULL,
            ipv4 BLOB CHECK (length(ipv4) = 4),
            ipv6 BLOB CHECK (length(ipv6) = 16),
            record BLOB NOT NULL
        ) STRICT;

        CREATE UNIQUE INDEX bindings_ipv4 ON bindings (ipv4) WHERE ipv4 IS NOT NULL;
        CREATE UNIQUE INDEX bindings_ipv6 ON bindings (ipv6) WHERE ipv6 IS NOT NULL;

        CREATE TABLE freed (
            address BLOB PRIMARY KEY CHECK (length(address) IN (4, 16)),
            pool TEXT NOT NULL,
            last_owner TEXT NOT NULL,
            record BLOB NOT NULL
        ) STRICT, WITHOUT ROWID;

        CREATE VIEW readable_bindings AS
        SELECT namespace, name, \(textOfIPv4) AS ipv4, \(textOfIPv6) AS ipv6 FROM bindings;
        """,
        HistoryStatements.table,
    ]

    /// "10.16.0.15" of the BLOB in the column `ipv4`.
    private static let textOfIPv4 = {
        func digit(_ place: Int) -> String { "instr('123456789ABCDEF', substr(hex(ipv4), \(place), 1))" }
        let octets = (0..<4).map { "(\(digit($0 * 2 + 1)) * 16 + \(digit($0 * 2 + 2)))" }
        return "iif(ipv4 IS NULL, NULL, \(octets.joined(separator: " || '.' || ")))"
    }()

    /// "fd00:0010:…", not shortened.
    private static let textOfIPv6 = "iif(ipv6 IS NULL, NULL, \(colons(column: "ipv6", digits: 4, groups: 8)))"

    private static func colons(column: String, digits: Int, groups: Int) -> String {
        let parts = (0..<groups).map { "substr(hex(\(column)), \($0 * digits + 1), \(digits))" }
        return "lower(\(parts.joined(separator: " || ':' || ")))"
    }

    static func create(in db: Database) throws {
        try db.execute(sql: "PRAGMA application_id = \(applicationID)")
        try migrate(db, path: "")
        try LedgerStatements.prepare(in: db)
        try LedgerStatements.put([], revision: 0, in: db)
    }

    /// Throws `.damaged` where SQLite finds pages or indexes that do not fit together.
    static func check(_ db: Database, path: String) throws {
        let findings = try String.fetchAll(db, sql: "PRAGMA integrity_check(3)")
        guard findings == ["ok"] else {
            throw StoreError.damaged(path, found: findings.joined(separator: "; "))
        }
    }

    /// Brings an older file up to date, in one transaction. Throws `.newerSchema` for a newer one.
    static func migrate(_ db: Database, path: String) throws {
        let version = try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0
        guard version <= migrations.count else {
            throw StoreError(
                .newerSchema,
                """
                The ledger \(path) was written by a newer Holdfast (schema \(version), this program knows \
                \(migrations.count)). Start that version again, or restore the backup from before the upgrade.
                """)
        }
        guard version < migrations.count else { return }
        try db.inTransaction(.immediate) {
            for migration in migrations[version...] { try db.execute(sql: migration) }
            try db.execute(sql: "PRAGMA user_version = \(migrations.count)")
            return .commit
        }
    }
}
