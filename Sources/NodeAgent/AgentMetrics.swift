import CNI
import DHCP
import Synchronization
import Telemetry

/// What the agent counts while it works.
package final class AgentMetrics: Sendable {
    private static let verbs = Invocation.Verb.allCases.filter { $0 != .version }

    private let requests = Counters(
        ["verb", "result"],
        known: verbs.flatMap { verb in ["ok", "refused", "try_again"].map { [verb.rawValue, $0] } })
    private let seconds = Dictionary(
        uniqueKeysWithValues: verbs.map { ($0, Histogram(bounds: Histogram.secondsOfCalls)) })
    private let dhcp = Counters(
        ["event"], known: ["leased", "refused", "foreign", "declined", "left_out", "unsent"].map { [$0] })
    private let fromCopies = Atomic<UInt64>(0)
    private let open = Atomic(0)

    package init() {}

    /// A request of the plugin's came to an end; `failure` nil: well.
    func count(_ verb: Invocation.Verb, _ failure: CNIError?, after duration: Duration) {
        let result =
            switch failure?.code {
            case nil: "ok"
            case .tryAgainLater: "try_again"
            default: "refused"
            }
        requests.count(verb.rawValue, result)
        seconds[verb]?.observe(duration)
    }

    func countAttachedFromCopy() { fromCopies.add(1, ordering: .relaxed) }

    func count(_ event: Responder.Event) { dhcp.count(event.name) }

    /// How many migrations with a side on this node the last look at the ledger showed.
    func set(openMigrations count: Int) { open.store(count, ordering: .relaxed) }

    func write(to exposition: inout Exposition) {
        exposition.counter(
            "holdfast_agent_cni_requests_total", "Requests of the CNI plugin that ended, by what came of them.",
            requests.samples)
        exposition.histogram(
            "holdfast_agent_cni_request_seconds", "From a CNI request's arrival to its answer.",
            Self.verbs.map { ([("verb", $0.rawValue)], seconds[$0]?.reading) }.compactMap { labels, reading in
                reading.map { (labels, $0) }
            })
        exposition.counter(
            "holdfast_agent_attached_from_copies_total",
            "Pods that were given their VM's addresses from this node's copy while the server was away.",
            [([], fromCopies.load(ordering: .relaxed))])
        exposition.counter(
            "holdfast_agent_dhcp_events_total", "What guests asked by DHCP, by what came of it.", dhcp.samples)
        exposition.gauge(
            "holdfast_agent_migrations_open", "Open migrations from or to this node.",
            [([], UInt64(max(0, open.load(ordering: .relaxed))))])
    }
}
