import AsyncHTTPClient
import FoundationEssentials
package import Logging
import NIOCore
import NIOFoundationCompat
import NIOHTTP1

/// Speaks to a Kubernetes API server. All calls may be cancelled; none waits for ever. Its connections close when nobody
/// holds it any more.
package final class KubernetesClient: Sendable {
    /// How long is waited for what.
    package struct Patience: Sendable {
        package var connect = Duration.seconds(5)
        /// For an answer's head, but for a list's.
        package var head = Duration.seconds(10)
        /// For a list's head, and for more of any answer's body: as long as a server works on a request (kube-apiserver's
        /// `--request-timeout`).
        package var body = Duration.seconds(60)
        /// After this long at least, and twice as long at most, the server ends a watch of its own accord.
        package var watch = Duration.seconds(300)
        /// For a watch's next byte. A server sends a bookmark each minute, so a watch that is silent for longer is dead.
        package var watchSilence = Duration.seconds(90)
        /// The most between two attempts to follow again, and before a list of what has been listed before.
        package var longestPause = Duration.seconds(10)

        package init() {}
    }

    /// What is accepted for metadata alone, as by client-go (metadata/metadata.go).
    private static let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"

    package let configuration: KubernetesConfiguration
    let patience: Patience
    let log: Logger
    let credentials: Credentials
    /// For what is answered at once.
    let calls: HTTPClient
    /// For watches, which have another silence.
    let watches: HTTPClient

    package init(_ configuration: KubernetesConfiguration, patience: Patience = Patience(), log: Logger) {
        self.configuration = configuration
        self.patience = patience
        self.log = log
        credentials = Credentials(configuration)
        calls = HTTPClient(configuration: .api(configuration, patience, silence: patience.body))
        watches = HTTPClient(configuration: .api(configuration, patience, silence: patience.watchSilence))
    }

    /// Ends what is under way, and waits until all is closed. No call may follow.
    package func shutDown() async {
        try? await calls.shutdown()
        try? await watches.shutdown()
    }

    deinit {
        calls.shutdown { _ in }
        watches.shutdown { _ in }
    }

    /// One object; nil where there is none of that name.
    package func get<Object: Decodable & Sendable>(
        _ type: Object.Type, _ resource: KubernetesResource, namespace: String?, name: String,
        by deadline: ContinuousClock.Instant? = nil
    ) async throws(KubernetesError) -> Object? {
        do {
            let call = Call("get", .GET, resource, resource.path(namespace: namespace, name: name))
            return try decode(type, try await answer(to: call, by: deadline))
        } catch  where error.code == .notFound {
            return nil
        }
    }

    /// All objects of the selection as they are at one moment, fetched page by page: complete, or an error. With
    /// `metadataOnly` the server leaves their spec and status away.
    package func list<Object: Decodable & Sendable>(
        _ type: Object.Type, _ resource: KubernetesResource, _ selection: Selection = .all, pageSize: Int = 500,
        metadataOnly: Bool = false, by deadline: ContinuousClock.Instant? = nil
    ) async throws(KubernetesError) -> ObjectList<Object> {
        var call = Call("list", .GET, resource, resource.path(namespace: selection.namespace), selection.query)
        if metadataOnly { call.accept = Self.metadata }
        // A list that changes faster than it can be paged is fetched in one piece at last.
        for size in [pageSize, pageSize, 0] {
            do {
                return try await pages(type, call, size: size, by: deadline)
            } catch  where error.code == .gone && size != 0 {
                log.debug("a list's continue token has expired, starting over", metadata: ["list": "\(resource)"])
            }
        }
        throw KubernetesError(.gone, "the list of \(resource) could not be read: its versions expire at once")
    }

    /// All objects of the selection as they were at `version` or later, or, where that is empty, at any moment: out of the
    /// server's watch cache, which costs etcd nothing. What such a list lacks need not be gone. Throws `gone` where the
    /// server does not know of that version yet.
    package func cachedList<Object: Decodable & Sendable>(
        _ type: Object.Type, _ resource: KubernetesResource, _ selection: Selection = .all, notOlderThan version: String
    ) async throws(KubernetesError) -> ObjectList<Object> {
        // In one piece: with a limit etcd is asked, for that very version (Kubernetes API concepts, "Semantics for get and
        // list").
        let query = selection.query + [("resourceVersion", version.isEmpty ? "0" : version)]
        let call = Call("list", .GET, resource, resource.path(namespace: selection.namespace), query)
        return try await pages(type, call, size: 0, by: nil)
    }

    /// The version that the resource's objects are at: a watch from there on tells all that changes from now on.
    package func version(of resource: KubernetesResource) async throws(KubernetesError) -> String {
        struct Anything: Decodable {}
        let call = Call("list", .GET, resource, resource.path(), [("limit", "1")])
        return try await page(Anything.self, call, mayRepeat: false, by: nil).metadata.resourceVersion ?? ""
    }

    private func pages<Object: Decodable & Sendable>(
        _ type: Object.Type, _ list: Call, size: Int, by deadline: ContinuousClock.Instant?
    ) async throws(KubernetesError) -> ObjectList<Object> {
        var items: [Listed<Object>] = []
        var token: String?
        while true {
            var call = list
            if size > 0 { call.query.append(("limit", "\(size)")) }
            if let token { call.query.append(("continue", token)) }
            let page = try await page(type, call, mayRepeat: token != nil, by: deadline)
            items += page.items ?? []
            token = page.metadata.continue.flatMap { $0.isEmpty ? nil : $0 }
            if token == nil {
                return ObjectList(items: items, resourceVersion: page.metadata.resourceVersion ?? "")
            }
        }
    }

    private func page<Object: Decodable & Sendable>(
        _ type: Object.Type, _ call: Call, mayRepeat: Bool, by deadline: ContinuousClock.Instant?
    ) async throws(KubernetesError) -> ListPage<Object> {
        do {
            return try decode(ListPage<Object>.self, try await answer(to: call, by: deadline))
        } catch  where mayRepeat && error.retryAfter == nil && [.unreachable, .serverError].contains(error.code) {
            // Of hundreds of pages one may be lost: those before it are not fetched again for that.
            return try await page(type, call, mayRepeat: false, by: deadline)
        }
    }

    /// Makes an object of `body`; the server's answer is not looked at.
    package func create(
        _ resource: KubernetesResource, namespace: String?, _ body: some Encodable & Sendable
    ) async throws(KubernetesError) {
        var call = Call("create", .POST, resource, resource.path(namespace: namespace))
        call.body = (try encode(body), "application/json")
        _ = try await answer(to: call)
    }

    /// Changes an object by a JSON merge patch (RFC 7386), where nil members are taken away.
    package func patch(
        _ resource: KubernetesResource, namespace: String?, name: String, merge: some Encodable & Sendable
    ) async throws(KubernetesError) {
        var call = Call("patch", .PATCH, resource, resource.path(namespace: namespace, name: name))
        call.body = (try encode(merge), "application/merge-patch+json")
        _ = try await answer(to: call)
    }

    private func encode(_ value: some Encodable) throws(KubernetesError) -> ByteBuffer {
        do {
            return ByteBuffer(data: try JSONEncoder().encode(value))
        } catch {
            throw KubernetesError(.invalid, "the object cannot be written as JSON: \(error)")
        }
    }

    func decode<Value: Decodable>(
        _ type: Value.Type, _ buffer: ByteBuffer
    ) throws(KubernetesError) -> Value {
        do {
            return try JSONDecoder.decode(type, nestedIn: buffer)
        } catch {
            throw KubernetesError(
                .malformed, "\(configuration.server) answered with what is no \(type): \(error)")
        }
    }
}

extension Selection {
    var query: [(name: String, value: String)] {
        var query: [(name: String, value: String)] = []
        if let labels { query.append(("labelSelector", labels)) }
        if let fields { query.append(("fieldSelector", fields)) }
        return query
    }
}
