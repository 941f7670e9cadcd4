/// How a call ended, when it did not end well.
package struct RPCStatus: Error, Sendable, Hashable {
    /// The codes of https://grpc.github.io/grpc/core/md_doc_statuscodes.html.
    package enum Code: Int32, Sendable, Hashable, CaseIterable {
        case ok = 0, cancelled, unknown, invalidArgument, deadlineExceeded, notFound, alreadyExists, permissionDenied
        case resourceExhausted, failedPrecondition, aborted, outOfRange, unimplemented, internalError, unavailable
        case dataLoss, unauthenticated
    }

    /// google.rpc.ErrorInfo: why, for a program.
    package struct ErrorInfo: Sendable, Hashable {
        package var reason: String
        package var domain: String
        package var metadata: [String: String]

        package init(reason: String, domain: String, metadata: [String: String] = [:]) {
            self.reason = reason
            self.domain = domain
            self.metadata = metadata
        }
    }

    package var code: Code
    package var message: String
    package var errorInfo: ErrorInfo?
    /// google.rpc.RetryInfo: when the same call may fare better.
    package var retryDelay: Duration?

    package init(_ code: Code, _ message: String, errorInfo: ErrorInfo? = nil, retryDelay: Duration? = nil) {
        self.code = code
        self.message = message
        self.errorInfo = errorInfo
        self.retryDelay = retryDelay
    }
}

extension RPCStatus {
    /// What a server that stops ends its streams with.
    static let stopping = RPCStatus(.unavailable, "the server stops")

    /// The server has more to do than it takes on.
    package static func overloaded(_ message: String) -> RPCStatus {
        RPCStatus(
            .resourceExhausted, message, errorInfo: ErrorInfo(reason: "OVERLOADED", domain: "holdfast"),
            retryDelay: .milliseconds(200))
    }
}

extension RPCStatus: CustomStringConvertible {
    package var description: String {
        let reason = errorInfo.map { " [\($0.reason)]" } ?? ""
        return "\(code)\(reason): \(message)"
    }
}
