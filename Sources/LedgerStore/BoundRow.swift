import GRDB
import GRDBSQLite

/// One execution of a statement: values bound left to right, then run.
///
/// Binds through SQLite's own calls on GRDB's statement: GRDB's `StatementArguments` box every value, which at 64
/// bindings a commit costs more than the binding's B-tree work.
struct BoundRow {
    private let statement: Statement
    private var column: CInt = 0

    init(_ statement: Statement) { self.statement = statement }

    mutating func bind(_ value: Int64) {
        column += 1
        unsafe sqlite3_bind_int64(statement.sqliteStatement, column, value)
    }

    mutating func bind(_ text: String?) {
        column += 1
        guard var text else { return }
        text.withUTF8 { utf8 in
            _ = unsafe utf8.withMemoryRebound(to: CChar.self) { characters in
                unsafe sqlite3_bind_text(
                    statement.sqliteStatement, column, characters.baseAddress, CInt(characters.count), Self.copied)
            }
        }
    }

    mutating func bind(_ blob: [UInt8]?) {
        column += 1
        guard let blob else { return }
        _ = unsafe blob.withUnsafeBytes { bytes in
            unsafe sqlite3_bind_blob(
                statement.sqliteStatement, column, bytes.baseAddress, CInt(bytes.count), Self.copied)
        }
    }

    /// SQLITE_TRANSIENT, a cast that Swift does not import: SQLite makes its own copy before the call returns.
    private static var copied: sqlite3_destructor_type? { unsafe unsafeBitCast(-1, to: sqlite3_destructor_type.self) }

    /// Throws GRDB's `DatabaseError`. The statement is left ready for its next row, unbound columns NULL.
    func run() throws {
        let handle = unsafe statement.sqliteStatement
        let code = unsafe sqlite3_step(handle)
        unsafe sqlite3_reset(handle)
        unsafe sqlite3_clear_bindings(handle)
        guard code == SQLITE_DONE else {
            throw DatabaseError(
                resultCode: ResultCode(rawValue: code),
                message: unsafe String(cString: sqlite3_errmsg(sqlite3_db_handle(handle))))
        }
    }
}
