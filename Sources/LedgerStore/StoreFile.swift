import Foundation

/// The database file as the file system shows it, before SQLite opens it: SQLite takes an empty file, or a missing one,
/// for an empty database, and deletes the write-ahead log that it finds beside it.
struct StoreFile {
    let path: String

    enum Condition: Equatable {
        /// Nothing there: a ledger may begin here.
        case missing
        /// A SQLite file of this program's.
        case ledger
    }

    var walPath: String { path + "-wal" }

    var hasLog: Bool { length(of: walPath) ?? 0 > 0 }

    /// Where the file is once its ledger lives on in another store.
    var movedPath: String { path + ".moved" }

    /// Where a ledger from another store is put until that store has none any more.
    var copyPath: String { path + ".copy" }

    /// Why no ledger may begin here; nil: one may.
    var obstacle: StoreError? {
        if length(of: copyPath) != nil { return .unfinishedCopy(path) }
        return length(of: movedPath) == nil ? nil : .moved(path)
    }

    /// Throws `.damaged` where there is a file, but not a ledger, or what a ledger left behind.
    func condition() throws(StoreError) -> Condition {
        let walLength = length(of: walPath) ?? 0
        guard let length = length(of: path) else {
            guard walLength == 0 else {
                throw .damaged(path, found: "the file is gone, but its write-ahead log \(walPath) is there")
            }
            return .missing
        }
        guard length > 0 else { throw .damaged(path, found: "the file is empty (0 bytes)") }
        let header = Array(try contents(of: path, upToCount: 100))
        guard header.count == 100, header.starts(with: Array("SQLite format 3\0".utf8)) else {
            throw .damaged(path, found: "it does not begin as a SQLite database does")
        }
        let id = header[68..<72].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        guard id == SQLiteSchema.applicationID else {
            throw StoreError(
                .damaged,
                """
                \(path) is not a Holdfast ledger: it is another program's SQLite database (application_id \(id)). \
                Name another file with --store sqlite:PATH.
                """)
        }
        if walLength > 0 {
            let log = WriteAheadLog(Array(try contents(of: walPath)))
            guard log.isWhole else {
                throw .damaged(path, found: "bytes of its write-ahead log have changed, with commits after them")
            }
        }
        return .ledger
    }

    /// Begins a ledger that appears whole or not at all: `make` fills a file under another name, which then gets this one.
    func create(_ make: (_ path: String) throws -> Void) throws {
        let new = StoreFile(path: path + ".new")
        try new.remove()
        try make(new.path)
        try FileManager.default.moveItem(atPath: new.path, toPath: path)
        try synchronizeFolder()
    }

    /// And what SQLite keeps beside it.
    func remove() throws {
        for file in [path, walPath, path + "-shm", path + "-journal"] where length(of: file) != nil {
            try FileManager.default.removeItem(atPath: file)
        }
    }

    /// The copy gets this name. Nothing but an empty ledger may have it; both must be closed.
    func takeCopy() throws {
        try remove()
        try FileManager.default.moveItem(atPath: copyPath, toPath: path)
        try synchronizeFolder()
    }

    /// From now on no server begins here by mistake. The file must be closed.
    func setAside() throws {
        try? FileManager.default.removeItem(atPath: movedPath)
        try FileManager.default.moveItem(atPath: path, toPath: movedPath)
        try synchronizeFolder()
    }

    private func synchronizeFolder() throws {
        let folder = try FileHandle(forReadingFrom: URL(filePath: path).deletingLastPathComponent())
        defer { try? folder.close() }
        try folder.synchronize()
    }

    /// Lengthens the write-ahead log by zeros, which are no frames to SQLite; durably, or not at all.
    func reserveLog(upTo length: UInt64) {
        guard let log = try? FileHandle(forUpdating: URL(filePath: walPath)) else { return }
        defer { try? log.close() }
        guard let old = try? log.seekToEnd(), old < length else { return }
        do {
            let zeros = Data(count: 1 << 20)
            for start in stride(from: old, to: length, by: zeros.count) {
                try log.write(contentsOf: zeros.prefix(Int(length - start)))
            }
            try log.synchronize()
        } catch {
            try? log.truncate(atOffset: old)
        }
    }

    private func length(of path: String) -> UInt64? {
        (try? FileManager.default.attributesOfItem(atPath: path))?[.size] as? UInt64
    }

    private func contents(of path: String, upToCount count: Int = .max) throws(StoreError) -> Data {
        do {
            let file = try FileHandle(forReadingFrom: URL(filePath: path))
            defer { try? file.close() }
            return try file.read(upToCount: count) ?? Data()
        } catch {
            throw .unwritable(path, found: error.localizedDescription)
        }
    }
}

extension StoreError {
    static func damaged(_ path: String, found: String) -> StoreError {
        StoreError(
            .damaged,
            """
            The ledger \(path) is damaged: \(found). Nothing was changed. Stop here and move \(path)* into another folder. \
            With a backup: start the server with --await-restore, and give it the backup with `holdfast restore FILE`. \
            Without one, see what can be saved with: sqlite3 MOVED ".recover" | sqlite3 recovered.sqlite
            """)
    }

    static func unwritable(_ path: String, found: String) -> StoreError {
        StoreError(
            .unwritable,
            """
            The ledger \(path) cannot be read and written: \(found). Its folder must exist and belong to the user that \
            the server runs as (ls -ld "$(dirname \(path))"), or name another file with --store sqlite:PATH.
            """)
    }

    static func moved(_ path: String) -> StoreError {
        StoreError(
            .inUse,
            """
            The ledger \(path) was copied into another store by `holdfast store copy`, and is served from there: what it was \
            then, \(path).moved, would give addresses that others have got since. Name that other store with --store, or \
            copy it back here first. Only if no server has ever served the copy: mv \(path).moved \(path)
            """)
    }

    static func unfinishedCopy(_ path: String) -> StoreError {
        StoreError(
            .inUse,
            """
            No ledger is begun at \(path): `holdfast store copy` was copying one there, and was not finished. Where the store \
            that it is from says that it was copied, \(path).copy is the ledger: mv \(path).copy \(path). Else that store has \
            it: copy it again, or name that store with --store and delete \(path).copy.
            """)
    }

    static func inUse(_ path: String, by holder: String) -> StoreError {
        StoreError(
            .inUse, "The ledger \(path) is in use by \(holder). Stop that one first, or name another file with --store."
        )
    }
}
