import CMessages
package import IPAMModel
import RPC

extension IPAMClient: MaintenanceCalls {
    /// How long a server is looked for that begins a backup: another may lead, or be at another backup.
    private static let patience = Duration.seconds(10)

    package func backup(withoutHistory: Bool, _ take: ([UInt8]) async throws -> Void) async throws {
        let deadline = ContinuousClock.now + Self.patience
        var wasNamed = false
        while let refusal = try await begin(withoutHistory: withoutHistory, take) {
            let pause = refusal.retryDelay ?? Self.pause
            guard !Task.isCancelled, deadline - .now > pause else { throw refusal.error }
            // One that was named and does not lead may name the one before.
            if !refusal.isNamed || wasNamed { try? await Task.sleep(for: pause) }
            wasNamed = refusal.isNamed
        }
    }

    /// Why a server did not begin a backup that it, or another, soon may.
    private struct Refusal {
        var error: IPAMError
        var retryDelay: Duration?
        /// Whether it named who leads.
        var isNamed: Bool
    }

    /// Nil once `take` has had all.
    private func begin(withoutHistory: Bool, _ take: ([UInt8]) async throws -> Void) async throws -> Refusal? {
        let server = servers.current
        let pieces: RPCResponses<[UInt8]> = unsafe server.channel.serverStreaming(
            cmessages_holdfast_ipam_v1_maintenance(), withoutHistory,
            encode: { withoutHistory, arena in
                let message = unsafe arena.make(Wire.BackupRequest.self)
                unsafe message.pointee.without_history = withoutHistory ? 1 : 0
                return unsafe message
            },
            decode: { (message: UnsafePointer<Wire.BackupPiece>) throws(RPCStatus) in
                unsafe Array(
                    UnsafeBufferPointer(start: message.pointee.data.data, count: message.pointee.data.len))
            }, metadata: metadata)
        var hasBegun = false
        do {
            for try await piece in pieces {
                hasBegun = true
                try await take(piece)
            }
        } catch let status as RPCStatus {
            var failure = IPAMError(status, from: server.address)
            // One that is broken off has no ErrorInfo, and there is no other reason to abort one.
            if status.code == .aborted, status.errorInfo == nil { failure.reason = .backupTooSlow }
            let isNamed = servers.turn(from: server.address, because: failure)
            // The whole from another, unless some has been taken already.
            guard [.notLeader, .overloaded].contains(failure.reason), !hasBegun else { throw failure }
            return Refusal(error: failure, retryDelay: status.retryDelay, isNamed: isNamed)
        }
        return nil
    }

    package func restore(_ piece: RestorePiece, timeout: Duration) async throws(IPAMError) -> RestoreOutcome {
        try unsafe await call(
            cmessages_holdfast_ipam_v1_maintenance(), timeout: timeout, { arena in unsafe piece.wire(in: arena) },
            { (response: Wire.RestoreResponse) throws(IPAMError) in try unsafe RestoreOutcome(response) })
    }
}
