package import IPAMModel

/// A piece of a backup's file on its way to the server.
package struct RestorePiece: Hashable, Sendable {
    /// Tells one attempt from another.
    package var uploadID: String
    package var offset: UInt64
    package var data: [UInt8]
    /// It is the last: restore.
    package var finishes: Bool

    package init(uploadID: String, offset: UInt64, data: [UInt8], finishes: Bool) {
        self.uploadID = uploadID
        self.offset = offset
        self.data = data
        self.finishes = finishes
    }
}

/// What a restored ledger has; all zero before the last piece.
package struct RestoreOutcome: Hashable, Sendable {
    package var pools: UInt64 = 0
    package var bindings: UInt64 = 0
    package var freed: UInt64 = 0
    package var history: UInt64 = 0
    /// Of the ledger that was backed up.
    package var revision: UInt64 = 0
    /// From when on addresses are given that nobody asks for by name.
    package var givesFrom: Timestamp?

    package init() {}
}

/// The ledger as a whole, as operators move it.
package protocol MaintenanceCalls: Sendable {
    /// Hands over a backup's file piece by piece, and returns once `take` has had the last; throws what it throws.
    func backup(withoutHistory: Bool, _ take: ([UInt8]) async throws -> Void) async throws
    func restore(_ piece: RestorePiece, timeout: Duration) async throws(IPAMError) -> RestoreOutcome
}
