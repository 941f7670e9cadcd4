import Addresses
import GRDB
import GRDBSQLite

/// What a statement's parameters are given, in order. All bytes lie in one array: of a commit's many values none is allocated by
/// itself.
struct ColumnValues {
    fileprivate enum Value {
        case null
        case integer(Int64)
        /// Where the bytes are.
        case text(Range<Int>)
        case blob(Range<Int>)
    }

    private var values: [Value] = []
    private var bytes: [UInt8] = []

    /// `capacity` is of bytes.
    init(capacity: Int = 0) { bytes.reserveCapacity(capacity) }

    mutating func add(_ number: UInt64) { values.append(.integer(Int64(bitPattern: number))) }

    mutating func add(_ text: String) {
        let start = bytes.count
        bytes.append(contentsOf: text.utf8)
        values.append(.text(start..<bytes.count))
    }

    /// As 4 or 16 bytes in network order.
    mutating func add(_ address: IPAddress?) {
        guard let address else { return values.append(.null) }
        let start = bytes.count
        for shift in stride(from: address.family.bitWidth - 8, through: 0, by: -8) {
            bytes.append(UInt8(truncatingIfNeeded: address.bits >> UInt128(shift)))
        }
        values.append(.blob(start..<bytes.count))
    }

    mutating func add(record value: some Recordable) {
        let start = bytes.count
        value.appendRecord(to: &bytes)
        values.append(.blob(start..<bytes.count))
    }
}

extension Database {
    /// Runs a statement that gives no rows with `values`, which are none afterwards.
    ///
    /// Each change of a ledger goes through here, so the values are bound by SQLite's own functions: as GRDB's arguments they
    /// are boxes in arrays, which cost more than the row.
    func run(_ sql: String, _ values: inout ColumnValues) throws {
        let statement = unsafe try cachedStatement(sql: sql).sqliteStatement
        defer { values.removeAll() }
        try unsafe values.withBound(to: statement) { code in
            guard code == SQLITE_OK else { throw failure(code, sql) }
            let code = unsafe sqlite3_step(statement)
            guard code == SQLITE_DONE else { throw failure(code, sql) }
        }
    }

    func run(_ sql: String) throws {
        var none = ColumnValues()
        try run(sql, &none)
    }

    private static let (begin, commit) = ("BEGIN IMMEDIATE", "COMMIT")

    func prepareTransactions() throws {
        for sql in [Self.begin, Self.commit] { _ = try cachedStatement(sql: sql) }
    }

    /// Begins a transaction where none is open.
    func openTransaction() throws {
        if !isInsideTransaction { try run(Self.begin) }
    }

    /// Commits what `body` does, or nothing of it, in the transaction that is open if one is. As GRDB's, which has SQLite read
    /// BEGIN and COMMIT anew each time.
    func transaction(_ body: () throws -> Void) throws {
        try openTransaction()
        do {
            try body()
            try run(Self.commit)
        } catch {
            try? rollback()
            throw error
        }
    }

    private func failure(_ code: Int32, _ sql: String) -> DatabaseError {
        DatabaseError(resultCode: ResultCode(rawValue: code), message: lastErrorMessage, sql: sql)
    }
}

extension ColumnValues {
    fileprivate mutating func removeAll() {
        values.removeAll(keepingCapacity: true)
        bytes.removeAll(keepingCapacity: true)
    }

    /// Calls `body` with SQLITE_OK, or with why a value could not be bound. SQLite reads the bytes where they are, so the
    /// statement has none of them any more when this returns.
    fileprivate func withBound(to statement: OpaquePointer, _ body: (Int32) throws -> Void) rethrows {
        unsafe assert(sqlite3_bind_parameter_count(statement) == Int32(values.count))
        try unsafe bytes.withUnsafeBytes { bytes in
            defer {
                unsafe sqlite3_reset(statement)
                unsafe sqlite3_clear_bindings(statement)
            }
            var code = SQLITE_OK
            for (index, value) in zip(Int32(1)..., values) where code == SQLITE_OK {
                unsafe code = value.bind(to: statement, at: index, bytes)
            }
            try body(code)
        }
    }
}

extension ColumnValues.Value {
    fileprivate func bind(to statement: OpaquePointer, at index: Int32, _ bytes: UnsafeRawBufferPointer) -> Int32 {
        switch self {
        case .null: return unsafe sqlite3_bind_null(statement, index)
        case .integer(let value): return unsafe sqlite3_bind_int64(statement, index, value)
        case .text(let place):
            let text = unsafe UnsafeRawBufferPointer(rebasing: bytes[place])
            return unsafe sqlite3_bind_text64(
                statement, index, text.baseAddress?.assumingMemoryBound(to: CChar.self), UInt64(text.count), nil,
                UInt8(SQLITE_UTF8))
        case .blob(let place):
            let blob = unsafe UnsafeRawBufferPointer(rebasing: bytes[place])
            return unsafe sqlite3_bind_blob64(statement, index, blob.baseAddress, UInt64(blob.count), nil)
        }
    }
}
