import GRDB
import GRDBSQLite

/// What a column is given.
enum ColumnValue {
    case null
    case integer(Int64)
    case text(String)
    case blob([UInt8])

    static func blob(orNull bytes: [UInt8]?) -> ColumnValue { bytes.map(ColumnValue.blob) ?? .null }
}

extension Database {
    /// Runs a statement that gives no rows.
    ///
    /// Each change of a ledger goes through here, so the values are bound by SQLite's own functions: as GRDB's arguments they
    /// are boxes in arrays, which cost more than the row.
    func run(_ sql: String, _ values: ColumnValue...) throws {
        let statement = unsafe try cachedStatement(sql: sql).sqliteStatement
        defer {
            unsafe sqlite3_reset(statement)
            unsafe sqlite3_clear_bindings(statement)
        }
        unsafe assert(sqlite3_bind_parameter_count(statement) == Int32(values.count), sql)
        for (index, value) in values.enumerated() {
            let code = unsafe value.bind(to: statement, at: Int32(index + 1))
            guard code == SQLITE_OK else { throw failure(code, sql) }
        }
        let code = unsafe sqlite3_step(statement)
        guard code == SQLITE_DONE else { throw failure(code, sql) }
    }

    private static let (begin, commit, rollback) = ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")

    func prepareTransactions() throws {
        for sql in [Self.begin, Self.commit, Self.rollback] { _ = try cachedStatement(sql: sql) }
    }

    /// Commits what `body` does, or nothing of it. As GRDB's, which has SQLite read BEGIN and COMMIT anew each time.
    func transaction(_ body: () throws -> Void) throws {
        try run(Self.begin)
        do {
            try body()
            try run(Self.commit)
        } catch {
            // Where SQLite has done so by itself, there is nothing to roll back.
            try? run(Self.rollback)
            throw error
        }
    }

    private func failure(_ code: Int32, _ sql: String) -> DatabaseError {
        DatabaseError(resultCode: ResultCode(rawValue: code), message: lastErrorMessage, sql: sql)
    }
}

extension ColumnValue {
    /// SQLite copies the bytes.
    private static var copied: sqlite3_destructor_type { unsafe unsafeBitCast(-1, to: sqlite3_destructor_type.self) }

    fileprivate func bind(to statement: OpaquePointer, at index: Int32) -> Int32 {
        switch self {
        case .null: return unsafe sqlite3_bind_null(statement, index)
        case .integer(let value): return unsafe sqlite3_bind_int64(statement, index, value)
        case .text(var value):
            return value.withUTF8 { bytes in
                unsafe sqlite3_bind_text64(
                    statement, index, UnsafeRawPointer(bytes.baseAddress)?.assumingMemoryBound(to: CChar.self),
                    UInt64(bytes.count), Self.copied, UInt8(SQLITE_UTF8))
            }
        case .blob(let value):
            return unsafe value.withUnsafeBytes { bytes in
                unsafe sqlite3_bind_blob64(statement, index, bytes.baseAddress, UInt64(bytes.count), Self.copied)
            }
        }
    }
}
