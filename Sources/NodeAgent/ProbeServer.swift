import HTTPLimits
import Hummingbird
package import IPAMAPI
import IPAMModel
package import Logging
import NIOCore
import ServiceLifecycle
import Synchronization

/// What the kubelet's probes and Prometheus ask of the agent over HTTP: /healthz, /metrics, and /readyz, which is 200 where a
/// new pod can be served because the server answers. An agent that cannot serve the plugin's socket ends, so of that nothing is said.
package struct ProbeServer: Service {
    /// Less than a probe waits.
    private static let patience = Duration.seconds(3)
    private static let idleTimeout = TimeAmount.seconds(30)

    private let host: String
    private let port: Int
    private let question: ServerQuestion
    private let metrics: AgentExposition
    private let logger: Logger

    package init(host: String, port: Int, ipam: any PoolCalls, metrics: AgentExposition, log: Logger) {
        self.host = host
        self.port = port
        question = ServerQuestion(ipam, patience: Self.patience)
        self.metrics = metrics
        logger = log
    }

    /// Serves until graceful shutdown. Throws `ProbeServerError` where the address cannot be had.
    package func run() async throws {
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .notice)
        let connections = NewestConnections()
        let application = Application(
            router: router,
            server: .http1(
                configuration: .init(
                    additionalChannelHandlers: [connections.handler()], idleTimeout: Self.idleTimeout)),
            configuration: .init(address: .hostname(host, port: port)),
            eventLoopGroupProvider: .shared(connections.eventLoop), logger: quiet)
        do {
            try await application.run()
        } catch {
            throw ProbeServerError(reason: "\(error)")
        }
    }

    private var router: Router<BasicRequestContext> {
        let router = Router()
        router.get("/healthz") { _, _ in Self.response(.ok, "ok\n") }
        router.get("/readyz") { [question] _, _ in
            if let problem = await question.answer() {
                return Self.response(.serviceUnavailable, "the server does not answer: \(problem)\n")
            }
            return Self.response(.ok, "ok\n")
        }
        router.get("/metrics") { [metrics] _, _ in Self.response(.ok, metrics.text, format: "; version=0.0.4") }
        return router
    }

    private static func response(_ status: HTTPResponse.Status, _ text: String, format: String = "") -> Response {
        Response(
            status: status, headers: [.contentType: "text/plain\(format); charset=utf-8"],
            body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }
}

/// Whether the server answers, asked once however many want to know, and once in a second at most: this port is open to
/// whoever reaches the node.
private final class ServerQuestion: Sendable {
    private static let validity = Duration.seconds(1)

    private let ipam: any PoolCalls
    private let patience: Duration
    private let asked = Mutex<(at: ContinuousClock.Instant, task: Task<String?, Never>)?>(nil)

    init(_ ipam: any PoolCalls, patience: Duration) {
        self.ipam = ipam
        self.patience = patience
    }

    /// Why it does not; nil where it does.
    func answer() async -> String? {
        let task = asked.withLock { asked in
            if let asked, .now - asked.at < Self.validity { return asked.task }
            let task = Task { [ipam, patience] () -> String? in
                do throws(IPAMError) {
                    _ = try await ipam.pools(timeout: patience)
                    return nil
                } catch { return error.message }
            }
            asked = (.now, task)
            return task
        }
        return await task.value
    }
}

package struct ProbeServerError: Error {
    package let reason: String
}
