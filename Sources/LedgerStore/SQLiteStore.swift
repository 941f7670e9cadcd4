import Foundation
import GRDB
package import IPAMModel
package import Ledger
import Synchronization

/// A ledger in one SQLite file: write-ahead log, synchronous FULL, one transaction and one fsync for each commit.
package final class SQLiteStore: LedgerStore {
    private let path: String
    /// The connection that commits, on its own serial queue.
    let database: DatabaseQueue
    /// Another, which sees a whole ledger as it was at one commit and holds up none.
    private let reader: DatabaseQueue
    private let lock: Mutex<StoreLock?>

    /// Opens the ledger at `path`, or begins one where there is no file; where one has moved away from there, only if it
    /// `comesBack`.
    ///
    /// Throws `.inUse` while another process has it or where it has moved, `.unwritable`, `.newerSchema`, and `.damaged`
    /// where the file is not a whole ledger: that is never taken for an empty one.
    package init(path: String, comesBack: Bool = false) throws(StoreError) {
        let path = URL(filePath: path).resolvingSymlinksInPath().path
        let lock = try StoreLock(forStoreAt: path)
        let file = StoreFile(path: path)
        do {
            if try file.condition() == .missing {
                if file.hasMoved, !comesBack { throw StoreError.moved(path) }
                try file.create { path in
                    let new = try DatabaseQueue(path: path, configuration: Self.configuration)
                    try new.writeWithoutTransaction { db in try SQLiteSchema.create(in: db) }
                    try new.close()
                }
            }
            database = try DatabaseQueue(path: path, configuration: Self.configuration)
            try database.writeWithoutTransaction { db in
                try SQLiteSchema.check(db, path: path)
                try SQLiteSchema.migrate(db, path: path)
                try LedgerStatements.prepare(in: db)
                // A copy back that broke off has begun a ledger, and not filled it.
                if file.hasMoved, !comesBack, try LedgerStatements.isEmpty(db) { throw StoreError.moved(path) }
            }
            reader = try DatabaseQueue(path: path, configuration: Self.readerConfiguration)
        } catch {
            throw StoreError(error, path: path)
        }
        self.path = path
        self.lock = Mutex(lock)
    }

    /// A checkpoint every 16 MB of log: SQLite's 4 MB would be a checkpoint every eighth commit of 64 bindings.
    private static let logPages: UInt64 = 4000

    private static var configuration: Configuration {
        var configuration = Configuration()
        configuration.label = "holdfast.store"
        // Somebody with a `sqlite3` shell may hold the file for a moment.
        configuration.busyMode = .timeout(5)
        configuration.prepareDatabase { db in
            try db.execute(
                sql: """
                    PRAGMA journal_mode = WAL;
                    PRAGMA synchronous = FULL;
                    PRAGMA wal_autocheckpoint = \(logPages);
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
        configuration.busyMode = .timeout(5)
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
            throw StoreError(error, path: path)
        }
    }

    package func commit(_ changes: [Change], revision: UInt64) throws(StoreError) {
        do {
            try database.writeWithoutTransaction { db in
                try db.transaction { try LedgerStatements.put(changes, revision: revision, in: db) }
            }
        } catch {
            throw StoreError(error, path: path)
        }
    }

    /// Makes the log as long now as it gets until it begins anew: a commit that overwrites has no new length to make durable,
    /// and takes half as long. For who commits for a long time: it writes 16 MB. Where there is no room for them, the log
    /// grows with the commits.
    package func reserveLog() {
        try? database.writeWithoutTransaction { db in
            // Keeps others from the log meanwhile.
            try db.inTransaction(.immediate) {
                StoreFile(path: path).reserveLog(upTo: Self.logPages * 4120)
                return .commit
            }
        }
    }

    /// Closes it and sets its file aside, as PATH.moved: the ledger lives on elsewhere.
    package func moveAway() throws(StoreError) {
        close()
        do {
            let lock = try StoreLock(forStoreAt: path)
            defer { extendLifetime(lock) }
            let file = StoreFile(path: path)
            guard try file.condition() == .ledger, !file.hasLog else {
                throw StoreError(.failed, "its write-ahead log could not be put into the file")
            }
            try file.setAside()
        } catch {
            throw StoreError(
                .failed,
                """
                The copy is whole, but the source \(path) could not be set aside (\(error)): move it out of the way \
                before a server is started that would find it.
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
