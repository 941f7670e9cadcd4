import Foundation
import GRDB

extension StoreError {
    /// What an error from SQLite, a record or the file system means for the person who runs the server.
    init(_ error: any Error, path: String) {
        switch error {
        case let error as StoreError: self = error
        case let error as DatabaseError: self.init(error, path: path)
        case RecordError.unknownFormat(let format):
            self.init(
                .newerSchema,
                "The ledger \(path) has a record in a format (\(format)) that this program does not know. "
                    + "Start the newer Holdfast that wrote it.")
        case is RecordError: self = .damaged(path, found: "a record does not fit its checksum")
        case is LedgerStatements.MissingRevision: self = .damaged(path, found: "it has no revision")
        default: self = .unwritable(path, found: error.localizedDescription)
        }
    }

    private init(_ error: DatabaseError, path: String) {
        let found = "\(error.message ?? "no message") (SQLite \(error.extendedResultCode.rawValue))"
        switch error.resultCode {
        case .SQLITE_CORRUPT, .SQLITE_NOTADB, .SQLITE_FORMAT, .SQLITE_ERROR, .SQLITE_MISMATCH:
            self = .damaged(path, found: found)
        case .SQLITE_FULL:
            self.init(
                .full,
                "The disk with the ledger \(path) is full: nothing of this change was written. "
                    + "Make room (df -h \(path)); the server goes on by itself.")
        case .SQLITE_BUSY, .SQLITE_LOCKED:
            self = .inUse(path, by: "another program that writes to it, such as a sqlite3 shell (\(found))")
        case .SQLITE_READONLY, .SQLITE_CANTOPEN, .SQLITE_PERM, .SQLITE_AUTH:
            self = .unwritable(path, found: found)
        default:
            self.init(.failed, "The ledger \(path) did not take a change, and is as it was: \(found).")
        }
    }
}
