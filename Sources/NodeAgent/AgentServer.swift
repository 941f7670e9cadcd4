import CNI
package import Hummingbird
package import Logging
import Telemetry

/// The agent's HTTP service for the plugin: POST /cni/add, and so for each verb but VERSION, with an `AgentRequest`.
///
/// 200 with the answer; else a CNI error object, with 503 for what a repetition may mend and 422 for the rest.
package enum AgentServer {
    /// A network's configuration with its previous result is a few kilobytes.
    private static let maximumBody = 1 << 20

    /// `onListening` is called once the socket answers.
    package static func application(
        handler: AttachmentHandler, metrics: AgentMetrics = AgentMetrics(), socket: String, log: Logger,
        onListening: @escaping @Sendable () -> Void
    ) -> some ApplicationProtocol {
        let router = Router()
        func on(_ verb: Invocation.Verb, _ serve: @escaping @Sendable (AgentRequest) async throws(CNIError) -> JSON) {
            router.post(RouterPath(AgentRequest.path(of: verb))) { request, _ in
                await respond(to: request, verb, metrics, serve)
            }
        }
        func on(_ verb: Invocation.Verb, _ serve: @escaping @Sendable (AgentRequest) async throws(CNIError) -> Void) {
            on(verb) { (call) throws(CNIError) -> JSON in
                try await serve(call)
                return [:]
            }
        }
        on(.add, handler.add)
        on(.del, handler.delete)
        on(.check, handler.check)
        on(.gc, handler.collect)
        on(.status, handler.status)
        return Application(
            router: router, configuration: .init(address: .unixDomainSocket(path: socket)),
            onServerRunning: { _ in onListening() }, logger: log)
    }

    /// All that is done for the request, here and in the server, is of one trace: the runtime's, where it has one.
    private static func respond(
        to request: Request, _ verb: Invocation.Verb, _ metrics: AgentMetrics,
        _ serve: (AgentRequest) async throws(CNIError) -> JSON
    ) async -> Response {
        let start = ContinuousClock.now
        do {
            let body = try await request.body.collect(upTo: maximumBody)
            let call = try AgentRequest(parsing: Array(body.readableBytesView))
            let trace = call.environment[AgentRequest.traceVariable].flatMap(TraceContext.init(traceparent:))
            let answer = try await TraceContext.$current.withValue(trace ?? TraceContext()) { try await serve(call) }
            metrics.count(verb, nil, after: .now - start)
            return response(.ok, answer)
        } catch let error as CNIError {
            metrics.count(verb, error, after: .now - start)
            let status: HTTPResponse.Status = error.code == .tryAgainLater ? .serviceUnavailable : .unprocessableContent
            return response(status, error.json(version: CNIVersion.newest.rawValue))
        } catch {
            return response(
                .contentTooLarge, CNIError(.ioFailure, "\(error)").json(version: CNIVersion.newest.rawValue))
        }
    }

    private static func response(_ status: HTTPResponse.Status, _ json: JSON) -> Response {
        Response(
            status: status, headers: [.contentType: "application/json"],
            body: ResponseBody(byteBuffer: ByteBuffer(string: json.description)))
    }
}
