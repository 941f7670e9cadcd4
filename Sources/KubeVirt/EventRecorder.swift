import FoundationEssentials
package import KubernetesAPI
package import Logging
import Synchronization

/// Writes Events (`core/v1`) for people to read. Never in anybody's way: what is recorded is written later, in the
/// background; the same event again is counted, with its newest words, and not written anew; too many are dropped, and an
/// API server that takes none loses them.
package final class EventRecorder: Sendable {
    /// Events that wait, and events that are known to be there already.
    private static let waitingLimit = 256
    private static let writtenLimit = 1024
    /// Written at most: so many at once, and so many in each second after.
    private static let burst = 20
    private let interval: Duration
    /// The API server takes no longer message.
    private static let messageLimit = 1024

    /// By what an event is known again.
    private struct Key: Hashable, Sendable {
        var subject: ObjectEvent.Subject
        var reason: ObjectEvent.Reason
        var topic: String

        init(_ event: ObjectEvent) { (subject, reason, topic) = (event.subject, event.reason, event.topic) }
    }

    private struct Waiting: Sendable {
        /// The newest.
        var event: ObjectEvent
        var count = 1
        var first: Date
        var last: Date
    }

    private struct Written: Sendable {
        var name: String
        var count: Int
    }

    private struct State: Sendable {
        var order: [Key] = []
        var waiting: [Key: Waiting] = [:]
        var dropped = 0
    }

    private let client: KubernetesClient
    private let component: String
    private let instance: String
    private let log: Logger
    private let state = Mutex(State())

    /// `component` and `instance` name who writes: "holdfast-agent", the node.
    package init(
        client: KubernetesClient, component: String, instance: String, log: Logger,
        interval: Duration = .milliseconds(200)
    ) {
        self.client = client
        self.component = component
        self.instance = instance
        self.log = log
        self.interval = interval
    }

    package func record(_ event: ObjectEvent) {
        let (now, key) = (Date(), Key(event))
        state.withLock { state in
            if var waiting = state.waiting[key] {
                (waiting.event, waiting.last) = (event, now)
                waiting.count += 1
                state.waiting[key] = waiting
            } else if state.order.count < Self.waitingLimit {
                state.order.append(key)
                state.waiting[key] = Waiting(event: event, first: now, last: now)
            } else {
                state.dropped += 1
            }
        }
    }

    /// Writes what is recorded until the task is cancelled.
    package func run() async {
        var written: [Key: Written] = [:]
        var allowance = Self.burst
        var isForbidden = false
        while !Task.isCancelled {
            allowance = min(allowance + 1, Self.burst)
            while allowance > 0, let waiting = next() {
                allowance -= 1
                do throws(KubernetesError) {
                    try await write(waiting, &written)
                    isForbidden = false
                } catch {
                    if Task.isCancelled { return }
                    log.log(
                        level: error.code == .forbidden && !isForbidden ? .warning : .debug, "an Event was not written",
                        metadata: ["error": "\(error.message)"])
                    isForbidden = error.code == .forbidden
                }
            }
            if written.count > Self.writtenLimit { written = [:] }
            try? await Task.sleep(for: interval)
        }
    }

    private func next() -> Waiting? {
        state.withLock { state in
            if state.dropped > 0 {
                log.debug("Events were dropped", metadata: ["count": "\(state.dropped)"])
                state.dropped = 0
            }
            guard !state.order.isEmpty else { return nil }
            return state.waiting.removeValue(forKey: state.order.removeFirst())
        }
    }

    private func write(_ waiting: Waiting, _ written: inout [Key: Written]) async throws(KubernetesError) {
        let event = waiting.event
        let (key, namespace) = (Key(event), event.subject.namespace)
        if let known = written[key] {
            let count = known.count + waiting.count
            do {
                try await client.patch(
                    .events, namespace: namespace, name: known.name,
                    merge: Repeated(
                        message: Self.text(event.message), count: count, lastTimestamp: Self.text(waiting.last)))
                written[key]?.count = count
                return
            } catch  where error.code == .notFound {
                // Events are kept for an hour.
                written[key] = nil
            }
        }
        // As client-go names them; the name must be a DNS subdomain.
        let suffix = String(UInt64(waiting.first.timeIntervalSince1970 * 1_000_000) &+ .random(in: 0..<1000), radix: 16)
        let name = "\(event.subject.name.prefix(230)).\(suffix)"
        try await client.create(
            .events, namespace: namespace,
            Event(event, name: name, waiting, component: component, instance: instance))
        written[key] = Written(name: name, count: waiting.count)
    }

    private static func text(_ date: Date) -> String { date.formatted(.iso8601) }
    private static func text(_ message: String) -> String { String(message.prefix(messageLimit)) }

    /// `core/v1 Event` (k8s.io/api core/v1 types.go), as far as it is written.
    private struct Event: Encodable {
        struct Metadata: Encodable { var namespace, name: String }
        struct Object: Encodable { var apiVersion, kind, namespace, name, uid: String }
        struct Source: Encodable { var component, host: String }
        let apiVersion = "v1"
        let kind = "Event"
        var metadata: Metadata
        var involvedObject: Object
        var reason, message, type: String
        var source: Source
        var reportingComponent, reportingInstance: String
        var firstTimestamp, lastTimestamp: String
        var count: Int

        init(_ event: ObjectEvent, name: String, _ waiting: Waiting, component: String, instance: String) {
            let subject = event.subject
            metadata = Metadata(namespace: subject.namespace, name: name)
            involvedObject = Object(
                apiVersion: subject.apiVersion, kind: subject.kind, namespace: subject.namespace, name: subject.name,
                uid: subject.uid)
            reason = event.reason.rawValue
            message = EventRecorder.text(event.message)
            type = event.reason == .refused ? "Warning" : "Normal"
            source = Source(component: component, host: instance)
            (reportingComponent, reportingInstance) = (component, instance)
            (firstTimestamp, lastTimestamp) = (EventRecorder.text(waiting.first), EventRecorder.text(waiting.last))
            count = waiting.count
        }
    }

    private struct Repeated: Encodable {
        var message: String
        var count: Int
        var lastTimestamp: String
    }
}
