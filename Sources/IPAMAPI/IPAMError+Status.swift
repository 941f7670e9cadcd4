package import IPAMModel
package import RPC

// One table maps the model's codes to gRPC's and back.

extension IPAMError.Code {
    package var status: RPCStatus.Code {
        switch self {
        case .invalidArgument: .invalidArgument
        case .notFound: .notFound
        case .alreadyExists: .alreadyExists
        case .resourceExhausted: .resourceExhausted
        case .failedPrecondition: .failedPrecondition
        case .permissionDenied: .permissionDenied
        case .unauthenticated: .unauthenticated
        case .unavailable: .unavailable
        case .aborted: .aborted
        case .internalError: .internalError
        }
    }
}

extension IPAMError {
    /// As it travels: ErrorInfo with the domain `holdfast`.
    package var status: RPCStatus {
        if reason == .overloaded { return .overloaded(message) }
        return RPCStatus(
            code.status, message,
            errorInfo: RPCStatus.ErrorInfo(reason: reason.rawValue, domain: "holdfast", metadata: metadata))
    }

    /// As it arrives from `server`. A deadline that passed or a broken connection is `unavailable`: the call may have had its
    /// effect.
    package init(_ status: RPCStatus, from server: String? = nil) {
        let code: Code =
            switch status.code {
            case .deadlineExceeded, .cancelled: .unavailable
            default: Code.allCases.first { $0.status == status.code } ?? .internalError
            }
        let reason = status.errorInfo.map { Reason(rawValue: $0.reason) } ?? .noAnswer
        self.init(code, reason, status.message, metadata: status.errorInfo?.metadata ?? [:])
        if let server, reason == .noAnswer { metadata["server"] = server }
    }

    /// As a watch ends. One that takes nothing is broken off, and what the core says then has no ErrorInfo: but there is no
    /// other reason to abort one.
    package init(endOfWatch status: RPCStatus, from server: String? = nil) {
        self.init(status, from: server)
        if status.code == .aborted, status.errorInfo == nil { reason = .watchTooSlow }
    }
}

/// Runs `body`; what it throws travels as a status.
package func status<Value: ~Copyable>(_ body: () throws(IPAMError) -> Value) throws(RPCStatus) -> Value {
    do throws(IPAMError) {
        return try body()
    } catch {
        throw error.status
    }
}
