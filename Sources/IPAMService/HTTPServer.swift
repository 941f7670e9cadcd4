import Glibc
import HTTPLimits
import Hummingbird
package import Logging
import NIOCore
import RPC
import ServiceLifecycle

/// What probes and Prometheus ask over HTTP: /healthz, /readyz and /metrics.
///
/// As the first service of its group it is the last to end, so that probes are answered while calls are finished.
package struct HTTPServer: Service {
    /// So that a connection that says nothing does not last, and does not hold the shutdown up.
    private static let idleTimeout = TimeAmount.seconds(30)

    private let host: String
    private let port: Int
    private let isOptional: Bool
    private let metrics: @Sendable () -> String
    private let readiness: Readiness
    private let logger: Logger

    /// `metrics` makes what /metrics answers. Where it `isOptional`, the server goes on without it when the address cannot be had.
    package init(
        host: String, port: Int, isOptional: Bool, readiness: Readiness, logger: Logger,
        metrics: @escaping @Sendable () -> String
    ) {
        self.host = host
        self.port = port
        self.isOptional = isOptional
        self.metrics = metrics
        self.readiness = readiness
        self.logger = logger
    }

    /// Serves until graceful shutdown. Throws `RPCError.bind` where the address cannot be had.
    package func run() async throws {
        // Hummingbird tells of its start too, without the port that the system chose.
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .notice)
        let connections = NewestConnections()
        let application = Application(
            router: router,
            server: .http1(
                configuration: .init(
                    additionalChannelHandlers: [connections.handler()], idleTimeout: Self.idleTimeout)),
            configuration: .init(address: .hostname(host, port: port)),
            onServerRunning: { [logger, host, port] channel in
                logger.info(
                    "http listening", metadata: ["address": "\(Self.text(host, channel.localAddress?.port ?? port))"])
            }, eventLoopGroupProvider: .shared(connections.eventLoop), logger: quiet)
        do {
            try await application.run()
        } catch {
            let failure = RPCError.bind(address: Self.text(host, port) + " (--http)", reason: Self.reason(error))
            guard isOptional else { throw failure }
            logger.warning("no http: metrics and probes are not served", metadata: ["reason": "\(failure)"])
            try? await gracefulShutdown()
        }
    }

    private var router: Router<BasicRequestContext> {
        let router = Router()
        router.get("/healthz") { _, _ in Self.response(.ok, "ok\n") }
        router.get("/readyz") { [readiness] _, _ in
            if let reason = readiness.reason { return Self.response(.serviceUnavailable, "\(reason)\n") }
            return Self.response(.ok, "ok\n")
        }
        router.get("/metrics") { [metrics] _, _ in
            Self.response(.ok, metrics(), format: "; version=0.0.4")
        }
        return router
    }

    private static func response(_ status: HTTPResponse.Status, _ text: String, format: String = "") -> Response {
        Response(
            status: status, headers: [.contentType: "text/plain\(format); charset=utf-8"],
            body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }

    private static func text(_ host: String, _ port: Int) -> String {
        host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }

    /// Why the address cannot be had, in the system's words.
    private static func reason(_ error: any Error) -> String {
        switch error {
        case let error as IOError: unsafe String(cString: strerror(error.errnoCode))
        case is SocketAddressError.UnknownHost: "no such host"
        default: "\(error)"
        }
    }
}
