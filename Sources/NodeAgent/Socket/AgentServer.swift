import CNI
import ServiceLifecycle
import Syscalls
import Telemetry

/// The agent's HTTP service for the plugin, on a unix socket: POST /cni/add, and so for each verb but VERSION, with an
/// `AgentRequest`; one exchange a connection.
///
/// 200 with the answer; else a CNI error object, with 503 for what a repetition may mend and 422 for the rest.
package struct AgentServer: Service {
    private typealias Verb = @Sendable (AgentRequest) async throws(CNIError) -> JSON

    /// For a request to come whole.
    private static let patience = Duration.seconds(5)

    private let socket: String
    private let metrics: AgentMetrics
    private let onListening: @Sendable () -> Void
    private let answered: @Sendable () -> Void
    private let verbs: [String: (verb: Invocation.Verb, serve: Verb)]

    /// `onListening` is called once the socket answers.
    package init(
        handler: AttachmentHandler, metrics: AgentMetrics = AgentMetrics(), socket: String,
        onListening: @escaping @Sendable () -> Void
    ) {
        self.socket = socket
        self.metrics = metrics
        self.onListening = onListening
        answered = handler.answered
        var verbs: [String: (Invocation.Verb, Verb)] = [:]
        func on(_ verb: Invocation.Verb, _ serve: @escaping Verb) {
            verbs["POST \(AgentRequest.path(of: verb)) HTTP/1.1"] = (verb, serve)
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
        self.verbs = verbs
    }

    /// That no thread takes connections any more, and nobody has asked for that: an agent that goes on would be deaf.
    private struct Deaf: Error, CustomStringConvertible {
        let socket: String
        var description: String { "no connection is taken on \(socket) any more" }
    }

    /// Serves until graceful shutdown, and then what was asked before. Throws where the socket cannot be had, or kept.
    package func run() async throws {
        let threads = ConnectionThreads(try UnixListener(path: socket), serve: serve)
        try threads.start()
        onListening()
        let isClosed = await withTaskCancellationOrGracefulShutdownHandler {
            await threads.finish()
        } onCancelOrGracefulShutdown: {
            threads.close()
        }
        if !isClosed { throw Deaf(socket: socket) }
    }

    private func serve(_ connection: borrowing UnixStream) {
        let reply: HTTPMessage
        do throws(HTTPMessageError) {
            guard let request = try HTTPMessage(from: connection, by: .after(Self.patience)) else { return }
            reply = ThreadExecutor.run { await respond(to: request) }
        } catch {
            switch error {
            case .cutOff, .stream: return
            case .tooLong: reply = Self.reply("413 Content Too Large", CNIError(.ioFailure, "\(error)"))
            case .malformed: reply = Self.reply("400 Bad Request", CNIError(.ioFailure, "\(error)"))
            }
        }
        // A plugin that is gone does not matter: the runtime asks again.
        try? connection.send(reply.bytes)
        answered()
    }

    /// All that is done for the request, here and in the server, is of one trace: the runtime's, where it has one.
    private func respond(to request: HTTPMessage) async -> HTTPMessage {
        let start = ContinuousClock.now
        guard let (verb, serve) = verbs[request.startLine] else {
            return Self.reply("404 Not Found", CNIError(.ioFailure, "the agent does not know \(request.startLine)"))
        }
        do {
            let call = try AgentRequest(parsing: request.body)
            let trace = call.environment[AgentRequest.traceVariable].flatMap(TraceContext.init(traceparent:))
            let answer = try await TraceContext.$current.withValue(trace ?? TraceContext()) {
                () async throws(CNIError) in try await serve(call)
            }
            metrics.count(verb, nil, after: .now - start)
            return Self.reply("200 OK", answer)
        } catch let error as CNIError {
            metrics.count(verb, error, after: .now - start)
            return Self.reply(
                error.code == .tryAgainLater ? "503 Service Unavailable" : "422 Unprocessable Content", error)
        } catch {
            return Self.reply("500 Internal Server Error", CNIError(.internalFailure, "\(error)"))
        }
    }

    private static func reply(_ status: String, _ error: CNIError) -> HTTPMessage {
        reply(status, error.json(version: CNIVersion.newest.rawValue))
    }

    private static func reply(_ status: String, _ json: JSON) -> HTTPMessage {
        HTTPMessage("HTTP/1.1 \(status)", body: Array(json.description.utf8))
    }
}
