import Foundation
import GRDB
import GRDBSQLite
package import IPAMModel
package import Ledger
import Synchronization

/// A ledger in one SQLite file: write-ahead log, synchronous FULL, one transaction and one fsync for each commit.
package final class SQLiteStore: MovableStore {
    private let path: String
    /// Where it lies at present.
    private let file: StoreFile
    /// The connection that commits, on its own serial queue.
    let database: DatabaseQueue
    /// Another, which sees a whole ledger as it was at one commit and holds up none.
    private let reader: DatabaseQueue
    private let lock: Mutex<StoreLock?>

    /// Opens the ledger at `path`, or begins one where there is no file; not where one has moved away from there, or is about
    /// to come.
    ///
    /// Throws `.inUse` while another process has it or where it has moved, `.unwritable`, `.newerSchema`, and `.damaged`
    /// where the file is not a whole ledger: that is never taken for an empty one.
    package convenience init(path: String) throws(StoreError) {
        let path = URL(filePath: path).resolvingSymlinksInPath().path
        let lock = try StoreLock(forStoreAt: path)
        let file = StoreFile(path: path)
        if try file.condition() == .missing {
            if let obstacle = file.obstacle { throw obstacle }
            try Self.create(file)
        }
        try self.init(path, file, lock)
        // A copy that broke off may have begun one, and not filled it.
        if let obstacle = file.obstacle, try read(LedgerStatements.isEmpty) {
            close()
            throw obstacle
        }
    }

    /// For a ledger that is put into PATH.copy, and is at `path` once it takes its place: what is there of a copy that broke
    /// off is deleted. Throws as `init(path:)`, and `.inUse` also where there is a ledger.
    package convenience init(copyTo path: String) throws(StoreError) {
        let path = URL(filePath: path).resolvingSymlinksInPath().path
        let lock = try StoreLock(forStoreAt: path)
        let file = StoreFile(path: path)
        if try file.condition() == .ledger {
            let present = try SQLiteStore(path, file, lock)
            defer { present.close() }
            try present.checkIsEmpty()
        }
        let copy = StoreFile(path: file.copyPath)
        do { try copy.remove() } catch { throw StoreError(error, path: copy.path) }
        try Self.create(copy)
        // No log: the file alone is the ledger, whatever happens to it.
        try self.init(path, copy, lock, journal: "DELETE")
    }

    private init(_ path: String, _ file: StoreFile, _ lock: StoreLock, journal: String = "WAL") throws(StoreError) {
        do {
            database = try DatabaseQueue(path: file.path, configuration: Self.configuration(journal: journal))
            try database.writeWithoutTransaction { db in
                try SQLiteSchema.check(db, path: file.path)
                try SQLiteSchema.migrate(db, path: file.path)
                try LedgerStatements.prepare(in: db)
            }
            reader = try DatabaseQueue(path: file.path, configuration: Self.readerConfiguration)
        } catch {
            throw StoreError(error, path: file.path)
        }
        self.path = path
        self.file = file
        self.lock = Mutex(lock)
    }

    private static func create(_ file: StoreFile) throws(StoreError) {
        do {
            try file.create { path in
                let new = try DatabaseQueue(path: path, configuration: configuration())
                try new.writeWithoutTransaction { db in try SQLiteSchema.create(in: db) }
                try new.close()
            }
        } catch {
            throw StoreError(error, path: file.path)
        }
    }

    /// A checkpoint every 16 MB of log: SQLite's 4 MB would be a checkpoint every eighth commit of 64 bindings.
    private static let logPages: UInt64 = 4000

    /// VMs that restart change rows all over the file: SQLite's 2 MB would have it read most pages again before it changes them.
    private static let cacheKibibytes = 32_768

    /// Seconds that it waits for somebody with a `sqlite3` shell.
    private static let patience = 5.0

    private static func configuration(journal: String = "WAL") -> Configuration {
        var configuration = Configuration()
        configuration.label = "holdfast.store"
        // `getReady` leaves one open.
        configuration.allowsUnsafeTransactions = true
        configuration.busyMode = .timeout(patience)
        configuration.prepareDatabase { db in
            try db.execute(
                sql: """
                    PRAGMA journal_mode = \(journal);
                    PRAGMA synchronous = FULL;
                    PRAGMA wal_autocheckpoint = \(logPages);
                    PRAGMA cache_size = -\(cacheKibibytes);
                    PRAGMA cell_size_check = ON;
                    PRAGMA trusted_schema = OFF;
                    """)
        }
        return configuration
    }

    private static var readerConfiguration: Configuration {
        var configuration = Configuration()
        configuration.label = "holdfast.store.reader"
        configuration.readonly = true
        configuration.busyMode = .timeout(patience)
        return configuration
    }

    package var batching: Batching { Batching() }

    package func load() throws(StoreError) -> Snapshot {
        try read { db in try LedgerStatements.load(from: db) }
    }

    package func history(
        of subject: HistorySubject, before revision: UInt64, limit: Int
    ) throws(StoreError) -> [HistoryEntry] {
        try read { db in try HistoryStatements.entries(of: subject, before: revision, limit: limit, in: db) }
    }

    package func history(after revision: UInt64, limit: Int) throws(StoreError) -> [HistoryEntry] {
        try read { db in try HistoryStatements.entries(after: revision, limit: limit, in: db) }
    }

    private func read<Value>(_ body: (Database) throws -> Value) throws(StoreError) -> Value {
        do {
            return try reader.read(body)
        } catch {
            throw StoreError(error, path: file.path)
        }
    }

    package func commit(_ changes: [Change], revision: UInt64) throws(StoreError) {
        do {
            try database.writeWithoutTransaction { db in
                try db.transaction { try LedgerStatements.put(changes, revision: revision, in: db) }
            }
        } catch {
            throw StoreError(error, path: file.path)
        }
    }

    /// Begins the next commit's transaction. Whoever looks with `sqlite3` reads as before, and is kept from writing.
    package func getReady() {
        // What is wrong, the commit tells, and who else has it is waited for then.
        try? database.writeWithoutTransaction { db in
            guard let connection = unsafe db.sqliteConnection else { return }
            unsafe sqlite3_busy_timeout(connection, 0)
            defer { unsafe sqlite3_busy_timeout(connection, Int32(Self.patience * 1000)) }
            try db.openTransaction()
        }
    }

    /// Makes the log as long now as it gets until it begins anew: a commit that overwrites has no new length to make durable,
    /// and takes half as long. For who commits for a long time: it writes 16 MB. Where there is no room for them, the log
    /// grows with the commits.
    package func reserveLog() {
        try? database.writeWithoutTransaction { db in
            // Keeps others from the log meanwhile.
            try db.transaction { file.reserveLog(upTo: Self.logPages * 4120) }
        }
    }

    /// Closes it and sets its file aside, as PATH.moved.
    package func moveAway() throws(StoreError) {
        close()
        do {
            let lock = try StoreLock(forStoreAt: path)
            defer { extendLifetime(lock) }
            guard try file.condition() == .ledger, !file.hasLog else {
                throw StoreError(.failed, "its write-ahead log could not be put into the file")
            }
            try file.setAside()
        } catch {
            throw StoreError(
                .failed,
                """
                The copy is whole, but the ledger \(path) could not be set aside (\(error)): it is the ledger, and the copy is \
                none. Copy again.
                """)
        }
    }

    /// Closes it, too.
    package func takePlace() throws(StoreError) {
        let lock = lock.withLock(\.self)
        defer { extendLifetime(lock) }
        close()
        do {
            try StoreFile(path: path).takeCopy()
        } catch {
            throw StoreError(
                .failed,
                """
                The copy is whole, and the source is set aside, but the copy could not get its name (\(error)): \
                mv \(file.path) \(path) makes it the ledger.
                """)
        }
    }

    package func close() {
        lock.withLock { lock in
            guard lock != nil else { return }
            try? reader.close()
            // The last connection to close moves the log into the file. Where that fails, the next start does it.
            try? database.close()
            lock = nil
        }
    }

    deinit { close() }
}
