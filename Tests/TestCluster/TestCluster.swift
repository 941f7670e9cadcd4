import Foundation
package import KubernetesAPI
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

/// An API server in this process: lists, watches, gets, creates and patches objects of any kind over HTTP/1.1 as a real one
/// does, and misbehaves as real ones do when a test says so.
package final class TestCluster: Sendable {
    let state = Mutex(ClusterState())
    private let channel: any Channel

    private let scheme: String
    private let port = Mutex(0)

    /// `http://127.0.0.1:PORT`, or https; the same after `stop`.
    package var url: String { "\(scheme)://127.0.0.1:\(port.withLock { $0 })" }

    private init(channel: any Channel, scheme: String) {
        self.channel = channel
        self.scheme = scheme
    }

    /// PEM files of a server that speaks TLS.
    package struct TLS: Sendable {
        package var certificate: String
        package var key: String
        /// Clients must have a certificate by this authority.
        package var clientAuthority: String?

        package init(certificate: String, key: String, clientAuthority: String? = nil) {
            self.certificate = certificate
            self.key = key
            self.clientAuthority = clientAuthority
        }

        fileprivate var context: NIOSSLContext {
            get throws {
                var configuration = TLSConfiguration.makeServerConfiguration(
                    certificateChain: try NIOSSLCertificate.fromPEMFile(certificate).map { .certificate($0) },
                    privateKey: .privateKey(try NIOSSLPrivateKey(file: key, format: .pem)))
                if let clientAuthority {
                    configuration.certificateVerification = .noHostnameVerification
                    configuration.trustRoots = .file(clientAuthority)
                }
                return try NIOSSLContext(configuration: configuration)
            }
        }
    }

    /// What tokens are verified with: an issuer, and its JSON Web Key Set.
    package func setTokenKeys(issuer: String, _ json: String) {
        state.withLock { $0.tokenKeys = (issuer, json) }
    }

    /// How often the keys were read.
    package var keyReads: Int { state.withLock { $0.keyReads } }

    package var configuration: KubernetesConfiguration { KubernetesConfiguration(server: url) }

    /// Runs `body` with a cluster that answers.
    package static func run<Result>(
        _ body: (TestCluster) async throws -> Result
    ) async throws -> Result {
        let cluster = try await start()
        do {
            let result = try await body(cluster)
            await cluster.stop()
            return result
        } catch {
            await cluster.stop()
            throw error
        }
    }

    /// A cluster that answers, on `port` where one is named.
    package static func start(port: Int = 0, tls: TLS? = nil) async throws -> TestCluster {
        let box = ClusterBox()
        let context = try tls?.context
        _ = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelInitializer { channel in
                // Before it listens: a client that waited for the port asks at once.
                box.cluster.withLock { $0 = TestCluster(channel: channel, scheme: tls == nil ? "http" : "https") }
                return channel.eventLoop.makeSucceededVoidFuture()
            }
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    guard let cluster = box.cluster.withLock({ $0 }) else { throw ChannelError.eof }
                    if let context {
                        try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context))
                    }
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline(withErrorHandling: true)
                    try channel.pipeline.syncOperations.addHandler(RequestHandler(cluster))
                }
            }
            .bind(host: "127.0.0.1", port: port).get()
        guard let cluster = box.cluster.withLock({ $0 }) else { throw ChannelError.eof }
        cluster.port.withLock { $0 = cluster.channel.localAddress?.port ?? 0 }
        return cluster
    }

    /// No longer answers; what is open is closed.
    package func stop() async {
        try? await channel.close()
        let open = state.withLock { state in
            state.isStopped = true
            let open = Array(state.connections.values)
            state.connections = [:]
            return open
        }
        for connection in open { try? await connection.close() }
    }
}

/// What requests are handed to, which exists only once the server's socket does.
final class ClusterBox: Sendable {
    let cluster = Mutex<TestCluster?>(nil)
}

// MARK: - Objects

extension TestCluster {
    /// The version of the last change.
    package var resourceVersion: Int { state.withLock { $0.resourceVersion } }

    /// Makes or changes an object, as JSON with apiVersion, kind and metadata.name; returns its version.
    ///
    /// Where `isAnnounced` is false the watches that are open are not told: they miss it for good.
    @discardableResult
    package func put(_ json: String, isAnnounced: Bool = true) throws -> Int {
        try state.withLock { try $0.put(Data(json.utf8), isAnnounced: isAnnounced) }
    }

    package func delete(
        _ resource: KubernetesResource, namespace: String = "default", name: String, isAnnounced: Bool = true
    ) throws {
        try state.withLock {
            try $0.delete(
                StoredObject.Key(resource: resource, namespace: namespace, name: name), isAnnounced: isAnnounced)
        }
    }

    /// Does what the event tells, under its recorded version where that is still to come.
    package func play(_ event: Story.Event, isAnnounced: Bool = true) throws {
        try state.withLock { try $0.play(event, isAnnounced: isAnnounced) }
    }

    package func objects(_ resource: KubernetesResource) -> [StoredObject] {
        state.withLock { $0.sorted(resource) }
    }

    package func object(
        _ resource: KubernetesResource, namespace: String = "default", name: String
    ) -> StoredObject? {
        state.withLock { $0.objects[StoredObject.Key(resource: resource, namespace: namespace, name: name)] }
    }
}

// MARK: - Misbehaviour

extension TestCluster {
    /// Answers `times` requests of the verb and resource with `status`, after `passing` that are served; nil stands for any.
    /// `cause` is the one among the Status' details (meta/v1 StatusCause).
    package func fail(
        _ verb: String? = nil, _ resource: KubernetesResource? = nil, status: Int, retryAfter: Int? = nil,
        cause: String? = nil, passing: Int = 0, times: Int = 1
    ) {
        state.withLock {
            $0.refusals.append(
                ClusterState.Refusal(
                    verb: verb, resource: resource, status: status, retryAfter: retryAfter, cause: cause,
                    passing: passing, times: times))
        }
    }

    /// No more refusals.
    package func recover() { state.withLock { $0.refusals = [] } }

    /// Wants this bearer token from now on; nil: none.
    package func require(token: String?) { state.withLock { $0.token = token } }

    /// Every answer's head comes this much later.
    package func delay(_ delay: Duration) { state.withLock { $0.delay = delay } }

    /// Every answer's body comes this much later than its head.
    package func delayBody(_ delay: Duration) { state.withLock { $0.bodyDelay = delay } }

    /// Forgets all versions before the present one: who wants to go on from an older one is told 410, as an answer's status
    /// or, where `asEvent`, as an ERROR event of a watch.
    package func compact(asEvent: Bool = false) {
        state.withLock {
            $0.compacted = $0.resourceVersion
            $0.tellsGoneAsEvent = asEvent
        }
    }

    /// Lists out of the watch cache show what is there now, and nothing newer from now on.
    package func freezeCache() {
        state.withLock { $0.staleCache = .init(objects: $0.objects, resourceVersion: $0.resourceVersion) }
    }

    /// Forgets all continue tokens.
    package func expireContinueTokens() { state.withLock { $0.pages = [:] } }

    /// Tells each open watch that nothing is left to tell up to the present version.
    package func sendBookmarks() { state.withLock { $0.sendBookmarks() } }

    /// Ends each open watch: in good order, or by closing its connection after half a line.
    package func endWatches(inMidLine: Bool = false) { state.withLock { $0.endWatches(inMidLine: inMidLine) } }

    /// Each watch that is open now stays so and is never told anything again, as if its other end had vanished.
    package func freezeWatches() { state.withLock { $0.freezeWatches() } }

    /// Keeps back what watches of the resource are to be told, until `release()`.
    package func hold(_ resource: KubernetesResource) { state.withLock { _ = $0.held.insert(resource) } }

    package func release() { state.withLock { $0.releaseHeld() } }

    /// Writes a line into every open watch of the resource, whatever it says.
    package func inject(_ line: String, into resource: KubernetesResource) {
        state.withLock { $0.inject(Data(line.utf8), into: resource) }
    }
}

// MARK: - What was asked

extension TestCluster {
    package struct Request: Hashable, Sendable {
        package var verb: String
        package var resource: KubernetesResource
        package var namespace: String?
        package var name: String?
        package var query: [String: String]
        package var authorization: String?
        package var userAgent: String?
        package var accept: String?
        /// Of the answer.
        package var status: Int
        /// How many objects a list's answer had.
        package var items: Int
    }

    package var requests: [Request] { state.withLock { $0.requests } }
    package func forgetRequests() { state.withLock { $0.requests = [] } }
    /// How many watches are open.
    package var watchCount: Int { state.withLock { $0.watches.count } }
}
