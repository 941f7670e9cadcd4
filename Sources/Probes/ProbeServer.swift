import Glibc
import Hummingbird
package import Logging
import NIOCore
import ServiceLifecycle
import Telemetry

/// What probes and Prometheus ask of a program over HTTP: /healthz, /readyz and /metrics.
///
/// As the first service of its group it is the last to end, so that probes are answered while calls are finished.
package struct ProbeServer: Service {
    /// So that a connection that says nothing does not last, and does not hold the shutdown up.
    private static let idleTimeout = TimeAmount.seconds(30)

    private let host: String
    private let port: Int
    private let isOptional: Bool
    private let logger: Logger
    private let problem: @Sendable () async -> String?
    private let metrics: SharedText

    /// `problem` says in words why the program is not ready, nil where it is; `metrics` makes what /metrics answers. Where it
    /// `isOptional`, the program goes on without it when the address cannot be had.
    package init(
        host: String, port: Int, isOptional: Bool = false, logger: Logger,
        problem: @escaping @Sendable () async -> String?, metrics: @escaping @Sendable () -> String
    ) {
        self.host = host
        self.port = port
        self.isOptional = isOptional
        self.logger = logger
        self.problem = problem
        self.metrics = SharedText(metrics)
    }

    /// Serves until graceful shutdown. Throws `ProbeServerError` where the address cannot be had.
    package func run() async throws {
        // Hummingbird tells of its start too, without the port that the system chose.
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .notice)
        let connections = NewestConnections()
        let application = Application(
            router: router,
            server: .http1(
                configuration: .init(
                    additionalChannelHandlers: [connections.handler(), OneRequest()], idleTimeout: Self.idleTimeout)),
            configuration: .init(address: .hostname(host, port: port)),
            onServerRunning: { [logger, host, port] channel in
                logger.info(
                    "http listening", metadata: ["address": "\(Self.text(host, channel.localAddress?.port ?? port))"])
            }, eventLoopGroupProvider: .shared(connections.eventLoop), logger: quiet)
        do {
            try await application.run()
        } catch {
            let failure = ProbeServerError(address: Self.text(host, port), reason: Self.reason(error))
            guard isOptional else { throw failure }
            logger.warning("no http: metrics and probes are not served", metadata: ["reason": "\(failure)"])
            try? await gracefulShutdown()
        }
    }

    private var router: Router<BasicRequestContext> {
        let router = Router()
        router.get("/healthz") { _, _ in Self.response(.ok, "ok\n") }
        router.get("/readyz") { [problem] _, _ in
            if let problem = await problem() { return Self.response(.serviceUnavailable, "\(problem)\n") }
            return Self.response(.ok, "ok\n")
        }
        router.get("/metrics") { [metrics] _, _ in
            Self.response(.ok, await metrics.text(), format: "; version=0.0.4")
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

/// The address that probes are to be answered at cannot be had.
package struct ProbeServerError: Error, CustomStringConvertible {
    let address: String
    /// In the system's words.
    let reason: String

    package var description: String { "cannot listen on \(address) (--http): \(reason)" }
}
