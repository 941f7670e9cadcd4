import CMessages
import Synchronization

/// grpc.health.v1: whether a service takes calls, asked once or watched.
package final class HealthService: Sendable {
    package enum Status: Sendable, Hashable { case serving, notServing }

    private struct State {
        var statuses: [String: Status]
        var isShutDown = false
        var watchers: [Int: (service: String, stream: AsyncStream<Status?>.Continuation)] = [:]
        var nextWatcher = 0
    }

    /// Of calls, watches among them, that are open at a time. It asks nobody who they are, so they must not take the place
    /// of those who have a name.
    private static let mostOpenCalls = 256

    private let state: Mutex<State>

    /// Every service, and the server as a whole (""), begins as SERVING.
    init(services: [String]) {
        let statuses = Dictionary((services + [""]).map { ($0, Status.serving) }) { first, _ in first }
        state = Mutex(State(statuses: statuses))
    }

    /// Every service, and "" for the server as a whole.
    package var services: [String] { state.withLock { Array($0.statuses.keys) } }

    /// "" is the server as a whole. Ignored once the server stops.
    package func set(_ service: String, _ status: Status) {
        state.withLock { state in
            guard !state.isShutDown else { return }
            state.statuses[service] = status
            for watcher in state.watchers.values where watcher.service == service { watcher.stream.yield(status) }
        }
    }

    /// NOT_SERVING for all, for ever; those who watch are told and let go, for they would hold the server up.
    func shutdown() {
        state.withLock { state in
            state.isShutDown = true
            for service in state.statuses.keys { state.statuses[service] = .notServing }
            for watcher in state.watchers.values {
                watcher.stream.yield(state.statuses[watcher.service])
                watcher.stream.finish()
            }
            state.watchers = [:]
        }
    }

    /// Nil: there is no such service.
    package func status(of service: String) -> Status? { state.withLock { $0.statuses[service] } }

    /// The present status (nil: no such service), then every change; one that nobody has taken yet gives way to a newer.
    ///
    /// Whoever has it ends it (`unwatch`). It must not do so itself, by `onTermination`: a task that is cancelled runs that under
    /// a lock of its own, which `yield` takes as well. With `state` taken in there, who cancels and who tells of a change would
    /// wait for each other for ever.
    func watch(_ service: String) -> (number: Int, changes: AsyncStream<Status?>) {
        let (changes, continuation) = AsyncStream.makeStream(of: Status?.self, bufferingPolicy: .bufferingNewest(1))
        let number = state.withLock { state in
            state.nextWatcher += 1
            continuation.yield(state.statuses[service])
            if state.isShutDown {
                continuation.finish()
            } else {
                state.watchers[state.nextWatcher] = (service, continuation)
            }
            return state.nextWatcher
        }
        return (number, changes)
    }

    func unwatch(_ number: Int) { _ = state.withLock { $0.watchers.removeValue(forKey: number) } }

    func service() -> RPCService {
        var service = unsafe RPCService(cmessages_grpc_health_v1_health())
        service.openCalls = OpenCalls(most: Self.mostOpenCalls)
        unsafe service.unary(decode: Self.decode, encode: Self.encode) { [self] (name, _, reply: Reply<Status?>) in
            if let status = status(of: name) {
                reply.succeed(status)
            } else {
                reply.fail(RPCStatus(.notFound, "no service \(name)"))
            }
        }
        unsafe service.serverStreaming(decode: Self.decode, encode: Self.encode) {
            [self] (name, call, writer: ResponseWriter<Status?>) async throws(RPCStatus) in
            let (number, changes) = watch(name)
            defer { unwatch(number) }
            var last: Status??
            for await status in changes where last != .some(status) {
                try await writer.send(status)
                last = status
            }
            throw .stopping
        }
        return service
    }

    private static let decode:
        @Sendable (UnsafePointer<Grpc__Health__V1__HealthCheckRequest>) throws(RPCStatus) -> String =
            { (request) throws(RPCStatus) in unsafe try text(request.pointee.service, "service") }

    private static let encode:
        @Sendable (Status?, borrowing MessageArena) -> UnsafeMutablePointer<Grpc__Health__V1__HealthCheckResponse> = {
            status, arena in
            let response = unsafe arena.make(Grpc__Health__V1__HealthCheckResponse.self)
            unsafe response.pointee.status =
                switch status {
                case .serving: GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
                case .notServing: GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
                case nil: GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN
                }
            return unsafe response
        }
}
