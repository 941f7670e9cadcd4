import ArgumentParser
import Foundation
import Glibc
import IPAMAPI
import IPAMModel
import LedgerStore
import Program

struct Backup: ClientCommand {
    static let configuration = CommandConfiguration(
        abstract: "Writes the whole ledger into a file, as it is at one revision, while the server serves.",
        discussion: """
            The file holds pools, bindings, freed addresses and the history, whatever store they are in; `holdfast restore` \
            takes it. It appears whole or not at all, readable by its owner only.
            """)
    @Argument(help: "The file to write.") var file: String
    @Flag(help: "Also where the file is there already.") var force = false
    @Flag(help: "Leave out who had which address before.") var withoutHistory = false
    @OptionGroup var options: ClientOptions

    func validate() throws {
        if file == "-" {
            throw ValidationError("name a file: a backup appears whole or not at all, which standard output cannot do")
        }
    }

    func run(_ session: Session) async throws {
        if !force, FileManager.default.fileExists(atPath: file) {
            throw Failure("\(file) is there already", hint: "name another file, or repeat with --force")
        }
        var reader = BackupReader(onlyChecks: true)
        let new = try NewFile(at: file)
        do {
            try await session.calls.backup(withoutHistory: withoutHistory) { piece in
                try reader.read(piece)
                try new.write(piece)
            }
            _ = try reader.finish()
            try new.finish()
        } catch let error as StoreError {
            throw Failure(
                "what the server sent is no whole backup: \(error)", hint: "\(file) was not written; try again")
        }
        guard let head = reader.head else { return }
        try session.show(head.document(reader.counts)) {
            "\(file): revision \(head.revision) with \(reader.counts.text)"
        }
    }
}

struct Restore: ClientCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes a ledger without bindings that of a backup, while the server serves.",
        discussion: """
            Refused where the ledger has bindings or freed addresses: it may have given addresses away since the backup was \
            made. Pools that the server has stay as they are. Whole or not at all.

            For the pools' reuse delay after it, no address is given that nobody asks for by name.
            """)
    @Argument(help: "A file that `holdfast backup` wrote.") var file: String
    @Flag(help: "Only look whether the file is whole, and what is in it; no server is asked.") var dryRun = false
    @OptionGroup var options: ClientOptions

    var asksServer: Bool { !dryRun }

    /// Of what one call carries.
    private static let pieceBytes = 512 << 10
    /// For the last piece, which answers once all is durable.
    private static let patience = Duration.seconds(600)

    func run(_ session: Session) async throws {
        // The whole file first: nothing is sent of one that is damaged.
        var reader = BackupReader(onlyChecks: true)
        do {
            try await pieces { piece, _, _ in try reader.read(piece) }
            _ = try reader.finish()
        } catch let error as StoreError { throw Failure("\(file): \(error)") }
        guard let head = reader.head else { return }
        if dryRun {
            try session.show(head.document(reader.counts)) {
                "\(file): whole; revision \(head.revision) of \(head.createdAt.short) with \(reader.counts.text)"
            }
            return
        }
        let id = UUID().uuidString.lowercased()
        var outcome = RestoreOutcome()
        try await pieces { piece, offset, isLast in
            outcome = try await session.calls.restore(
                RestorePiece(uploadID: id, offset: offset, data: piece, finishes: isLast),
                timeout: isLast ? max(session.timeout, Self.patience) : session.timeout)
        }
        try session.show(outcome.document) {
            let counts = BackupFile.Counts(
                pools: outcome.pools, bindings: outcome.bindings, freed: outcome.freed, history: outcome.history)
            let from = outcome.givesFrom.map {
                "\nAddresses that nobody asks for by name are given from \($0.short) on; "
                    + "pools with a shorter reuse_delay give them sooner."
            }
            return """
                restored: revision \(outcome.revision) of \(head.createdAt.short); the ledger has \(counts.text)\
                \(from ?? "")
                `holdfast check` shows bindings whose VMs are gone since. VMs that were made since have none, and it does not \
                show them: look at `kubectl get vmi -A -o wide`, and `holdfast reserve` what they have.
                """
        }
    }

    private func pieces(_ body: ([UInt8], UInt64, Bool) async throws -> Void) async throws {
        let handle = try open()
        defer { try? handle.close() }
        var (offset, piece) = (UInt64(0), try next(handle))
        while true {
            let following = try next(handle)
            try await body(piece, offset, following.isEmpty)
            if following.isEmpty { return }
            offset += UInt64(piece.count)
            piece = following
        }
    }

    private func open() throws -> FileHandle {
        do {
            return try FileHandle(forReadingFrom: URL(filePath: file))
        } catch { throw Failure(reading: file, error) }
    }

    private func next(_ handle: FileHandle) throws -> [UInt8] {
        do {
            return Array(try handle.read(upToCount: Self.pieceBytes) ?? Data())
        } catch { throw Failure(reading: file, error) }
    }
}

/// A file that appears under its name once it is whole and on disk; what is there before stays until then.
final class NewFile {
    private let path: String
    private let partial: String
    private var descriptor: CInt
    private var isFinished = false

    init(at path: String) throws(Failure) {
        self.path = path
        // Not by the process's number, which is the same in each run of a container: one that was killed leaves its file.
        partial = "\(path).\(UUID().uuidString.lowercased()).partial"
        descriptor = unsafe Glibc.open(partial, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Self.failure("make", partial) }
    }

    func write(_ bytes: [UInt8]) throws(Failure) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            guard count > 0 else {
                if errno == EINTR { continue }
                throw Self.failure("write", partial)
            }
            rest = rest.dropFirst(count)
        }
    }

    func finish() throws(Failure) {
        guard fsync(descriptor) == 0 else { throw Self.failure("write", partial) }
        guard unsafe rename(partial, path) == 0 else { throw Self.failure("write", path) }
        isFinished = true
        let folder = unsafe Glibc.open(URL(filePath: path).deletingLastPathComponent().path, O_RDONLY | O_CLOEXEC)
        guard folder >= 0 else { return }
        fsync(folder)
        close(folder)
    }

    deinit {
        if descriptor >= 0 { close(descriptor) }
        if descriptor >= 0, !isFinished { _ = unsafe unlink(partial) }
    }

    private static func failure(_ verb: String, _ path: String) -> Failure {
        Failure("cannot \(verb) \(path): \(unsafe String(cString: strerror(errno)))")
    }
}

extension BackupFile.Counts {
    var text: String {
        [
            pools.counted("pool"), bindings.counted("binding"), freed.counted("freed address", "freed addresses"),
            history.counted("entry", "entries") + " of history",
        ].joined(separator: ", ")
    }

    fileprivate var fields: [(name: String, value: Document)] {
        [("pools", pools), ("bindings", bindings), ("freed", freed), ("history", history)].map {
            ($0.0, .string("\($0.1)"))
        }
    }
}

extension BackupFile.Head {
    fileprivate func document(_ counts: BackupFile.Counts) -> Document {
        .object(
            [("revision", .string("\(revision)")), ("createdAt", .string(createdAt.rfc3339))] + counts.fields)
    }
}

extension RestoreOutcome {
    fileprivate var document: Document {
        let counts = BackupFile.Counts(pools: pools, bindings: bindings, freed: freed, history: history)
        return .object(
            [("revision", .string("\(revision)"))] + counts.fields
                + (givesFrom.map { [("givesFrom", .string($0.rfc3339))] } ?? []))
    }
}
