import CGRPC
import Synchronization

/// A gRPC server: its own services, and health and reflection beside them. Once started it runs until `shutdown`, whether
/// or not anybody holds it.
package final class RPCServer: Sendable {
    package struct Listener: Sendable {
        /// `127.0.0.1:7440`, `[::1]:0` (any free port), `unix:/path`. The umask decides who may connect to a socket file.
        package var address: String
        package var credentials: ServerCredentials

        package init(_ address: String, _ credentials: ServerCredentials = .insecure) {
            self.address = address
            self.credentials = credentials
        }
    }

    package struct Configuration: Sendable {
        package var listeners: [Listener]
        /// A request with more is refused with RESOURCE_EXHAUSTED.
        package var maxMessageBytes: Int
        /// A call beyond this many open ones, streams among them, is refused with RESOURCE_EXHAUSTED. Health and
        /// reflection have limits of their own.
        package var maxOpenCalls: Int
        /// A connection beyond this many is closed at once. One limit for all servers of a process: the last that starts
        /// sets it.
        package var maxConnections: Int
        /// What connections and their messages may take in memory before the core ends idle connections and large calls.
        package var maxBufferBytes: Int
        /// For how long the thread that takes calls may be blocked by one of them before another takes them: longer than
        /// most are. Where both do, they are in each other's way until the first has answered.
        package var moment = Duration.milliseconds(2)
        /// Who may ask for what the services look like; nil: they are not told.
        package var reflection: (@Sendable (ServerCall) -> Admission<Void>)? = { _ in .admitted(()) }

        package init(
            listeners: [Listener], maxMessageBytes: Int = 1 << 20, maxOpenCalls: Int = 4096,
            maxConnections: Int = 4096, maxBufferBytes: Int = 256 << 20
        ) {
            self.listeners = listeners
            self.maxMessageBytes = maxMessageBytes
            self.maxOpenCalls = maxOpenCalls
            self.maxConnections = maxConnections
            self.maxBufferBytes = maxBufferBytes
        }
    }

    /// idle -> running -> stopping -> stopped; idle -> stopped.
    private enum State {
        case idle
        case running(ServerCore)
        case stopping
        case stopped(isComplete: Bool)
    }

    package let health: HealthService
    /// Of every method, and one of calls of methods that there are not.
    package var statistics: [MethodStatistics] { entries.map(\.statistics) + [unknownMethods] }
    /// Connections that were closed at once because there were too many, since the process began.
    package var refusedConnections: UInt64 { ConnectionLimit.refused }
    private let configuration: Configuration
    private let entries: [RPCService.Entry]
    private let unknownMethods = MethodStatistics(service: "unknown", method: "unknown", isUnary: true)
    private let state = Mutex(State.idle)
    private let stopped = Latch()

    /// Throws where a method of a service has no handler, or a handler no method.
    package init(configuration: Configuration, services: [RPCService]) throws(RPCError) {
        let health = HealthService(services: services.map(\.name))
        var all = services + [health.service()]
        if let reflection = configuration.reflection {
            all += ReflectionService.services(besides: all.map(\.name), admit: reflection)
        }
        let problems = all.flatMap { service in
            service.strays.map { "no such method: \($0)" } + service.missing.map { "no handler for \($0.path)" }
        }
        guard problems.isEmpty else { throw .methods(problems) }
        self.configuration = configuration
        self.health = health
        entries = all.flatMap(\.entries)
    }

    /// Binds every listener and takes calls. Returns the addresses with their real ports.
    package func start() throws(RPCError) -> [String] {
        let result = state.withLock { state -> Result<[String], RPCError> in
            guard case .idle = state else { return .failure(.state("the server was started before")) }
            do throws(RPCError) {
                let (core, addresses) = try ServerCore.start(configuration, entries, unknownMethods)
                state = .running(core)
                return .success(addresses)
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    /// Says NOT_SERVING, takes no more calls, waits for those it has for as long as `grace`, cancels what is left then,
    /// and returns when all are gone. Again, or from elsewhere at the same time: waits for the same.
    ///
    /// Where a handler keeps a reply and never gives it, returns false some seconds after the cancelling: worth an error
    /// in the log, for only the end of the process ends such a call.
    @discardableResult
    package func shutdown(grace: Duration) async -> Bool {
        let core = state.withLock { state -> ServerCore? in
            switch state {
            case .running(let core):
                state = .stopping
                return core
            case .idle:
                state = .stopped(isComplete: true)
                stopped.open()
                return nil
            case .stopping, .stopped: return nil
            }
        }
        guard let core else {
            await stopped.wait()
            return state.withLock { if case .stopped(let isComplete) = $0 { isComplete } else { true } }
        }
        health.shutdown()
        let isComplete = await core.shutdown(grace: grace)
        state.withLock { $0 = .stopped(isComplete: isComplete) }
        stopped.open()
        return isComplete
    }
}
