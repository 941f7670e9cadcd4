import CMessages
package import IPAMModel
import RPC

extension IPAMClient: MaintenanceCalls {
    package func backup(withoutHistory: Bool, _ take: ([UInt8]) async throws -> Void) async throws {
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
            })
        var hasBegun = false
        do {
            for try await piece in pieces {
                hasBegun = true
                try await take(piece)
            }
        } catch let status as RPCStatus {
            let failure = IPAMError(status)
            // Another server leads: the whole from that one, unless some has been taken already.
            let isElsewhere = servers.mayHelp(with: failure) && failure.reason == .notLeader
            guard isElsewhere, !hasBegun, servers.turn(from: server.address, because: failure) else { throw failure }
            try await backup(withoutHistory: withoutHistory, take)
        }
    }

    package func restore(_ piece: RestorePiece, timeout: Duration) async throws(IPAMError) -> RestoreOutcome {
        try unsafe await call(
            cmessages_holdfast_ipam_v1_maintenance(), timeout: timeout, { arena in unsafe piece.wire(in: arena) },
            { (response: Wire.RestoreResponse) throws(IPAMError) in try unsafe RestoreOutcome(response) })
    }
}
