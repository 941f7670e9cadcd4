import CMessages
import Dispatch
import IPAMAPI
import IPAMModel
import Ledger
import LedgerStore
import RPC
import Synchronization

/// The service holdfast.ipam.v1.Maintenance: the ledger as a whole, out of the store and into it.
final class Maintenance: Sendable {
    /// A file on its way here. One at a time: what begins later takes the place of what went before.
    fileprivate struct Upload: Sendable {
        var id: String
        var reader = BackupReader()
        var size: UInt64 = 0
        /// Once it is restored.
        var outcome: RestoreOutcome?

        init(id: String, outcome: RestoreOutcome? = nil) {
            self.id = id
            self.outcome = outcome
        }
    }

    private let writer: Writer
    private let upload = Mutex<Upload?>(nil)
    /// One at a time, as each has the whole ledger in memory until its last piece is sent.
    private let isMakingBackup = Atomic(false)
    /// Pieces of backups that clients have taken.
    private let piecesTaken = Atomic(0)
    /// How long a backup's client may take no piece before it makes room for others, twice that at most; and how long a
    /// restore's may send none.
    private let patience: Duration
    /// A thread of its own, for it blocks.
    private let restores = DispatchQueue(label: "holdfast.restore")

    init(_ writer: Writer, patience: Duration = .seconds(60)) {
        self.writer = writer
        self.patience = patience
    }

    func service(_ gate: Gate) -> RPCService {
        var service = unsafe RPCService(cmessages_holdfast_ipam_v1_maintenance())
        unsafe service.serverStreaming(
            admit: gate.admit(.operator),
            decode: { (message: UnsafePointer<Wire.BackupRequest>) in unsafe message.pointee.without_history != 0 },
            encode: { (piece: [UInt8], arena) in
                let message = unsafe arena.make(Wire.BackupPiece.self)
                unsafe message.pointee.data = unsafe arena.bytes(piece)
                return unsafe message
            },
            handle: { (withoutHistory, _, responses) async throws(RPCStatus) in
                guard !self.isMakingBackup.exchange(true, ordering: .relaxed) else {
                    throw IPAMError.backupUnderWay.status
                }
                defer { self.isMakingBackup.store(false, ordering: .relaxed) }
                let pieces: BackupPieces
                do throws(IPAMError) {
                    pieces = try await self.writer.backup(withoutHistory: withoutHistory)
                } catch { throw error.status }
                async let _: Void = self.breakOffWhenStuck(responses)
                for piece in pieces {
                    try await responses.send(piece)
                    self.piecesTaken.add(1, ordering: .relaxed)
                }
            })
        unsafe service.unary(
            admit: gate.admit(.operator),
            decode: { (message: UnsafePointer<Wire.RestoreRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe RestorePiece(message.pointee) }
            },
            encode: { (outcome: RestoreOutcome, arena) in unsafe outcome.wire(in: arena) },
            complete: { piece, caller, reply in
                self.restores.async {
                    reply.complete { () throws(IPAMError) in try self.take(piece, by: caller) }
                }
            })
        return service
    }

    /// Until the task is cancelled.
    private func breakOffWhenStuck(_ responses: ResponseWriter<[UInt8]>) async {
        var before: Int
        repeat {
            before = piecesTaken.load(ordering: .relaxed)
            do { try await Task.sleep(for: patience) } catch { return }
        } while piecesTaken.load(ordering: .relaxed) != before
        responses.abort(RPCStatus(.aborted, "the client takes nothing of this backup any more"))
    }

    /// What is here already may be nearly a ledger: it is not kept for a client that sends no more.
    private func forget(unlessPassing size: UInt64, of id: String) {
        restores.asyncAfter(deadline: .now() + patience / .seconds(1)) { [self] in
            upload.withLock { upload in
                if let waiting = upload, waiting.id == id, waiting.size == size, waiting.outcome == nil { upload = nil }
            }
        }
    }

    /// Blocks while the last piece is restored; other pieces wait for that.
    private func take(_ piece: RestorePiece, by caller: Caller) throws(IPAMError) -> RestoreOutcome {
        try writer.checkIsCurrent()
        return try upload.withLock { upload throws(IPAMError) in
            let known = upload.flatMap { $0.id == piece.uploadID ? $0 : nil }
            guard var current = known ?? (piece.offset == 0 ? Upload(id: piece.uploadID) : nil) else {
                throw .brokenUpload
            }
            // The answer to the last piece was lost.
            if let outcome = current.outcome { return outcome }
            // What fails is begun anew.
            upload = nil
            try current.add(piece)
            guard piece.finishes else {
                upload = current
                forget(unlessPassing: current.size, of: current.id)
                return RestoreOutcome()
            }
            let snapshot = try current.snapshot
            do throws(IPAMError) {
                let outcome = try writer.restore(snapshot, by: caller)
                upload = Upload(id: piece.uploadID, outcome: outcome)
                return outcome
            } catch {
                // Nothing is wrong with the pieces, and the last one may be sent again.
                if error.reason == .storeUnavailable { upload = current }
                throw error
            }
        }
    }
}

extension Maintenance.Upload {
    fileprivate mutating func add(_ piece: RestorePiece) throws(IPAMError) {
        // The offset is whatever the caller says.
        guard piece.offset <= size else { throw .brokenUpload }
        let end = piece.offset + UInt64(piece.data.count)
        // It came before.
        if end <= size { return }
        guard piece.offset == size else { throw .brokenUpload }
        do throws(StoreError) {
            try reader.read(piece.data)
        } catch { throw IPAMError(backup: error) }
        size = end
    }

    fileprivate var snapshot: Snapshot {
        get throws(IPAMError) {
            do throws(StoreError) {
                return try reader.finish()
            } catch { throw IPAMError(backup: error) }
        }
    }
}

extension IPAMError {
    fileprivate static let brokenUpload = IPAMError(
        .failedPrecondition, .restoreBroken,
        "this server does not have what comes before this piece of the backup: send it again from its beginning")

    fileprivate static let backupUnderWay = IPAMError(
        .resourceExhausted, .overloaded, "another backup of this server's is under way: try again when that is done")

    /// What is wrong with a backup's file.
    fileprivate init(backup error: StoreError) {
        self.init(
            error.code == .newerSchema ? .failedPrecondition : .invalidArgument, .backupUnreadable, error.message)
    }
}
