/// Why the API server did not do what it was asked.
package struct KubernetesError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Code: Hashable, Sendable {
        /// 404.
        case notFound
        /// 410: a resourceVersion or continue token that the server no longer knows, or does not know yet.
        case gone
        /// 401.
        case unauthorized
        /// 403: the message names the verb and the resource that RBAC lacks.
        case forbidden
        /// 409: the object has changed since.
        case conflict
        /// 409: an object of that name is there.
        case alreadyExists
        /// Another 4xx: what was asked makes no sense to the server.
        case invalid
        /// 429.
        case tooManyRequests
        /// 5xx.
        case serverError
        /// No answer in time, or no connection.
        case unreachable
        /// An answer that is no Kubernetes object.
        case malformed
        /// The kubeconfig or the in-cluster files are not as they should be.
        case configuration
        /// The task that asked was cancelled.
        case cancelled
    }

    package var code: Code
    /// What happened and what to do, a sentence.
    package var message: String
    /// How long the server wants to be left alone (Retry-After).
    package var retryAfter: Duration?

    package init(_ code: Code, _ message: String, retryAfter: Duration? = nil) {
        self.code = code
        self.message = message
        self.retryAfter = retryAfter
    }

    package var description: String { message }

    /// Whether the same request may succeed later, with nothing changed by a person.
    package var isTransient: Bool {
        switch code {
        case .unauthorized, .conflict, .tooManyRequests, .serverError, .unreachable, .malformed, .gone: true
        case .notFound, .forbidden, .alreadyExists, .invalid, .configuration, .cancelled: false
        }
    }
}
