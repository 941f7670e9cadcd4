import AsyncHTTPClient
import Foundation
import NIOCore
import NIOFoundationCompat
import NIOHTTP1
import NIOPosix

/// One request, in the words of RBAC.
struct Call: Sendable {
    var verb: String
    var method: HTTPMethod
    var resource: KubernetesResource
    var path: String
    var query: [(name: String, value: String)]
    var body: (bytes: ByteBuffer, type: String)?
    var accept = "application/json"

    /// A document that is no object: RBAC knows it by its path.
    init(path: String, accept: String = "application/json") {
        self.init("get", .GET, KubernetesResource(version: "", plural: path), path)
        self.accept = accept
    }

    init(
        _ verb: String, _ method: HTTPMethod, _ resource: KubernetesResource, _ path: String,
        _ query: [(name: String, value: String)] = []
    ) {
        (self.verb, self.method, self.resource, self.path, self.query) = (verb, method, resource, path, query)
    }
}

extension KubernetesClient {
    /// An object's page of 500 pods is a few megabytes.
    private static let maximumBody = 256 << 20
    private static let maximumAttempts = 4
    /// A server that wants to be left alone for longer is left to the caller's own patience.
    private static let longestPause = Duration.seconds(3)

    /// The body of an answer with status 2xx. What may be repeated without harm is repeated a few times: when the server
    /// asks for it (Retry-After), and when a kept connection turns out to be closed.
    func answer(
        to call: Call, by deadline: ContinuousClock.Instant? = nil
    ) async throws(KubernetesError) -> ByteBuffer {
        var attempt = 1
        while true {
            do {
                let response = try await send(call, through: calls, by: deadline)
                return try await collect(response.body, upTo: Self.maximumBody, by: deadline)
            } catch {
                guard attempt < Self.maximumAttempts, error.code == .tooManyRequests || error.code == .serverError,
                    let pause = error.retryAfter, pause <= Self.longestPause,
                    deadline.map({ .now + pause < $0 }) ?? true
                else { throw error }
                attempt += 1
                do { try await Task.sleep(for: pause) } catch { throw .cancelled }
            }
        }
    }

    /// The head of an answer with status 2xx, with its body to come.
    func send(
        _ call: Call, through http: HTTPClient, by deadline: ContinuousClock.Instant? = nil
    ) async throws(KubernetesError) -> HTTPClientResponse {
        let identity = try credentials.current()
        var request = HTTPClientRequest(url: url(of: call))
        request.method = call.method
        request.headers = ["Accept": call.accept, "User-Agent": "holdfast"]
        if let token = identity.token { request.headers.add(name: "Authorization", value: "Bearer \(token)") }
        request.tlsConfiguration = identity.tls
        if let body = call.body {
            request.headers.add(name: "Content-Type", value: body.type)
            request.body = .bytes(body.bytes)
        }
        let most = call.verb == "list" ? patience.body : patience.head
        let head = min(most, deadline.map { max(.milliseconds(1), $0 - .now) } ?? most)
        let response = try await execute(
            request, through: http, by: .now() + TimeAmount(head), mayRepeat: call.method == .GET)
        guard !(200..<300).contains(response.status.code) else { return response }
        throw await failure(of: response, call, by: deadline)
    }

    private func execute(
        _ request: HTTPClientRequest, through http: HTTPClient, by deadline: NIODeadline, mayRepeat: Bool
    ) async throws(KubernetesError) -> HTTPClientResponse {
        do {
            return try await http.execute(request, deadline: deadline)
        } catch let error as HTTPClientError where error == .remoteConnectionClosed && mayRepeat {
            return try await execute(request, through: http, by: deadline, mayRepeat: false)
        } catch {
            throw unreachable(error)
        }
    }

    /// The HTTP client's own deadline is the head's.
    private func collect(
        _ body: HTTPClientResponse.Body, upTo limit: Int, by deadline: ContinuousClock.Instant?
    ) async throws(KubernetesError) -> ByteBuffer {
        do {
            guard let deadline else { return try await body.collect(upTo: limit) }
            return try await withThrowingTaskGroup(of: ByteBuffer.self) { group in
                defer { group.cancelAll() }
                group.addTask { try await body.collect(upTo: limit) }
                group.addTask {
                    try await Task.sleep(until: deadline, clock: .continuous)
                    throw HTTPClientError.deadlineExceeded
                }
                return try await group.next() ?? ByteBuffer()
            }
        } catch {
            throw unreachable(error)
        }
    }

    func unreachable(_ error: any Error) -> KubernetesError {
        if error is CancellationError || Task.isCancelled { return .cancelled }
        let reason =
            switch error {
            case let error as HTTPClientError: error.shortDescription
            case let error as NIOConnectionError:
                error.connectionErrors.first.map { "\($0.error)" } ?? "\(error.host) has no address"
            default: "\(error)"
            }
        return KubernetesError(.unreachable, "the API server \(configuration.server) does not answer: \(reason)")
    }

    private func url(of call: Call) -> String {
        var base = configuration.server
        if let name = configuration.tlsServerName, var parts = URLComponents(string: base) {
            // The certificate is checked against the URL's host, which is led to the real one (HTTPClient's dnsOverride).
            parts.host = name
            base = parts.string ?? base
        }
        guard !call.query.isEmpty else { return base + call.path }
        let query = call.query.map { "\($0.name)=\(KubernetesResource.escaped($0.value))" }
        return base + call.path + "?" + query.joined(separator: "&")
    }

    private func failure(
        of response: HTTPClientResponse, _ call: Call, by deadline: ContinuousClock.Instant?
    ) async -> KubernetesError {
        let body = try? await collect(response.body, upTo: 1 << 20, by: deadline)
        let status = body.flatMap { try? JSONDecoder().decode(StatusObject.self, from: $0) }
        var error = KubernetesError(
            status: Int(response.status.code), object: status, server: configuration.server, call: call)
        if let seconds = response.headers.first(name: "Retry-After").flatMap({ Int($0) }), seconds >= 0 {
            error.retryAfter = .retryAfter(seconds)
        }
        return error
    }
}

extension KubernetesError {
    static let cancelled = KubernetesError(.cancelled, "the call was given up")

    /// What an answer other than 2xx, or a watch's ERROR event, says.
    init(status: Int, object: StatusObject?, server: String, call: Call) {
        let said = object?.message.map { ": \($0)" } ?? ""
        let what = "\(call.verb) of \(call.resource)"
        switch status {
        case 404: self.init(.notFound, "\(what) at \(server): not found\(said)")
        case 410: self.init(.gone, "\(what) at \(server): the version asked for is too old\(said)")
        case 401:
            self.init(
                .unauthorized, "the API server \(server) does not know who asks: the token or certificate is not valid")
        case 403 where call.resource.plural.hasPrefix("/"):
            self.init(
                .forbidden,
                """
                the API server \(server) forbids the \(what): bind the ClusterRole \
                system:service-account-issuer-discovery to this service account (docs/security.md)\(said)
                """)
        // The right is there, the place is about to go (apiserver's plugin/namespace/lifecycle/admission.go).
        case 403 where object?.details?.causes?.contains(where: { $0.reason == "NamespaceTerminating" }) == true:
            self.init(.notFound, "\(what) at \(server): the namespace is being deleted\(said)")
        case 403:
            self.init(
                .forbidden,
                """
                the API server \(server) forbids the \(what): give the verb "\(call.verb)" on "\(call.resource.plural)" \
                of API group "\(call.resource.group)" in a ClusterRole (docs/kubernetes.md)\(said)
                """)
        case 409:
            self.init(object?.reason == "AlreadyExists" ? .alreadyExists : .conflict, "\(what) at \(server)\(said)")
        case 429: self.init(.tooManyRequests, "the API server \(server) has too much to do")
        // Where the server's data have been restored from a backup (client-go apierrors.IsTooLargeResourceVersion).
        case 504 where object?.message?.contains("Too large resource version") == true:
            self.init(.gone, "\(what) at \(server): the version asked for is to come yet\(said)")
        case 500...: self.init(.serverError, "\(what) at \(server): error \(status)\(said)")
        default: self.init(.invalid, "\(what) at \(server): status \(status)\(said)")
        }
        retryAfter = object?.details?.retryAfterSeconds.map(Duration.retryAfter)
    }
}

extension Duration {
    /// What a server asks for, within reason: a minute at most.
    fileprivate static func retryAfter(_ seconds: Int) -> Duration { .seconds(min(max(0, seconds), 60)) }
}

extension TimeAmount {
    init(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        self = .nanoseconds(seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }
}

extension HTTPClient.Configuration {
    static func api(
        _ api: KubernetesConfiguration, _ patience: KubernetesClient.Patience, silence: Duration
    ) -> HTTPClient.Configuration {
        var configuration = HTTPClient.Configuration(
            redirectConfiguration: .disallow,
            timeout: Timeout(connect: TimeAmount(patience.connect), read: TimeAmount(silence)))
        // Over HTTP/2 all watches and calls would hang together with one connection that is half open.
        configuration.httpVersion = .http1Only
        // A watch holds its connection.
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 256
        // Who asks tries again by himself, and is to hear why it failed.
        configuration.connectionPool.retryConnectionEstablishment = false
        if let name = api.tlsServerName, let host = URL(string: api.server)?.host() {
            configuration.dnsOverride = [name: host]
        }
        return configuration
    }
}
