/// Why a request was refused: what went wrong for a program (`code`, `reason`, `metadata`), and what to do for a person.
package struct IPAMError: Error, Hashable, Sendable {
    package enum Code: Hashable, Sendable, CaseIterable {
        case invalidArgument, notFound, alreadyExists, resourceExhausted, failedPrecondition
        case permissionDenied, unauthenticated, unavailable, aborted, internalError
    }

    package var code: Code
    package var reason: Reason
    package var message: String
    /// Facts for programs, by the field names of google.rpc.ErrorInfo's convention: lowerCamelCase.
    package var metadata: [String: String]

    package init(_ code: Code, _ reason: Reason, _ message: String, metadata: [String: String] = [:]) {
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata = metadata
    }

    /// Whether the same request may succeed later without anybody changing anything: where the server did not or could
    /// not answer (UNAVAILABLE) or had too much to do (OVERLOADED), for a watch that fell behind, and where only a quarantine is in the way
    /// (ADDRESS_QUARANTINED; POOL_EXHAUSTED and POOL_IN_USE that say `availableAt`). Not for QUOTA_EXCEEDED, nor for
    /// POOL_CHANGED, which a repetition meets again.
    package var isRetryable: Bool {
        switch reason {
        case .watchTooSlow, .addressQuarantined, .overloaded: true
        case .poolExhausted, .poolInUse: metadata["availableAt"] != nil
        default: code == .unavailable
        }
    }

    /// UPPER_SNAKE_CASE, unique within the domain `holdfast`.
    package struct Reason: RawRepresentable, Hashable, Sendable {
        package var rawValue: String
        package init(rawValue: String) { self.rawValue = rawValue }

        package static let invalidField = Reason(rawValue: "INVALID_FIELD")
        package static let addressOutsidePool = Reason(rawValue: "ADDRESS_OUTSIDE_POOL")
        package static let addressExcluded = Reason(rawValue: "ADDRESS_EXCLUDED")
        package static let bindingNotFound = Reason(rawValue: "BINDING_NOT_FOUND")
        package static let poolNotFound = Reason(rawValue: "POOL_NOT_FOUND")
        package static let noDefaultPool = Reason(rawValue: "NO_DEFAULT_POOL")
        package static let addressTaken = Reason(rawValue: "ADDRESS_TAKEN")
        package static let macTaken = Reason(rawValue: "MAC_TAKEN")
        package static let addressQuarantined = Reason(rawValue: "ADDRESS_QUARANTINED")
        package static let poolExhausted = Reason(rawValue: "POOL_EXHAUSTED")
        package static let quotaExceeded = Reason(rawValue: "QUOTA_EXCEEDED")
        package static let namespaceNotAllowed = Reason(rawValue: "NAMESPACE_NOT_ALLOWED")
        package static let addressChange = Reason(rawValue: "ADDRESS_CHANGE")
        package static let macChange = Reason(rawValue: "MAC_CHANGE")
        package static let attachmentSuperseded = Reason(rawValue: "ATTACHMENT_SUPERSEDED")
        package static let migrationEnded = Reason(rawValue: "MIGRATION_ENDED")
        package static let migrationUnknown = Reason(rawValue: "MIGRATION_UNKNOWN")
        package static let migrationTarget = Reason(rawValue: "MIGRATION_TARGET")
        package static let ownerHasBinding = Reason(rawValue: "OWNER_HAS_BINDING")
        package static let poolExists = Reason(rawValue: "POOL_EXISTS")
        package static let tooManyPools = Reason(rawValue: "TOO_MANY_POOLS")
        package static let poolInUse = Reason(rawValue: "POOL_IN_USE")
        package static let poolOverlap = Reason(rawValue: "POOL_OVERLAP")
        package static let poolChanged = Reason(rawValue: "POOL_CHANGED")
        package static let defaultPoolExists = Reason(rawValue: "DEFAULT_POOL_EXISTS")
        package static let ledgerInconsistent = Reason(rawValue: "LEDGER_INCONSISTENT")
        package static let copiesOutstanding = Reason(rawValue: "COPIES_OUTSTANDING")
        /// Neither token nor certificate came with the call.
        package static let credentialsMissing = Reason(rawValue: "CREDENTIALS_MISSING")
        package static let tokenRefused = Reason(rawValue: "TOKEN_REFUSED")
        /// The keys that tokens are verified with cannot be had.
        package static let tokenKeysUnavailable = Reason(rawValue: "TOKEN_KEYS_UNAVAILABLE")
        package static let roleMissing = Reason(rawValue: "ROLE_MISSING")
        /// Metadata `node` and `callerNode`.
        package static let otherNode = Reason(rawValue: "OTHER_NODE")
        package static let nodeUnknown = Reason(rawValue: "NODE_UNKNOWN")
        package static let storeUnavailable = Reason(rawValue: "STORE_UNAVAILABLE")
        /// The ledger is empty, and is to be filled from a backup first.
        package static let awaitsRestore = Reason(rawValue: "AWAITS_RESTORE")
        /// Another server leads; metadata `leader` is its address, where one is known.
        package static let notLeader = Reason(rawValue: "NOT_LEADER")
        /// The server has more to do than it takes on: in a moment it may have less.
        package static let overloaded = Reason(rawValue: "OVERLOADED")
        package static let ledgerNotEmpty = Reason(rawValue: "LEDGER_NOT_EMPTY")
        package static let backupUnreadable = Reason(rawValue: "BACKUP_UNREADABLE")
        package static let backupMisfit = Reason(rawValue: "BACKUP_MISFIT")
        package static let backupTooSlow = Reason(rawValue: "BACKUP_TOO_SLOW")
        package static let restoreBroken = Reason(rawValue: "RESTORE_BROKEN")
        package static let shuttingDown = Reason(rawValue: "SHUTTING_DOWN")
        /// The server did not answer, or what answered is no Holdfast server.
        package static let noAnswer = Reason(rawValue: "NO_ANSWER")
        package static let watchTooSlow = Reason(rawValue: "WATCH_TOO_SLOW")
    }
}
