import Telemetry

/// What the agent's /metrics shows: what it has counted, and how it stands now.
package struct AgentExposition: Sendable {
    private let version: String
    private let metrics: AgentMetrics
    private let outage: Outage
    private let source: any ObjectSource

    package init(version: String, metrics: AgentMetrics, outage: Outage, source: any ObjectSource) {
        self.version = version
        self.metrics = metrics
        self.outage = outage
        self.source = source
    }

    package var text: String {
        var exposition = Exposition()
        exposition.gauge(
            "holdfast_agent_build_info", "The version that runs; always 1.", [([("version", version)], UInt64(1))])
        metrics.write(to: &exposition)
        write(outage, to: &exposition)
        write(source.watches, to: &exposition)
        return exposition.text
    }

    private func write(_ outage: Outage, to exposition: inout Exposition) {
        exposition.gauge(
            "holdfast_agent_server_reachable",
            "0 where the server did not answer the last call or could do nothing (UNAVAILABLE), else 1.",
            [([], UInt64(outage.reach.isAway ? 0 : 1))])
        let (length, age) = outage.spool.extent
        exposition.gauge(
            "holdfast_agent_spool_entries", "What the server must still be told.", [([], UInt64(length))])
        exposition.gauge(
            "holdfast_agent_spool_oldest_seconds", "Age of the spool's oldest entry; 0 where it is empty.",
            [([], UInt64(age))])
        let (copies, now) = (outage.copies.all, outage.clock.now())
        let fresh = copies.count { $0.isFresh(at: now) }
        exposition.gauge(
            "holdfast_agent_copies", "Copies of VMs' bindings: fresh ones would serve their VMs without the server.",
            [([("state", "fresh")], UInt64(fresh)), ([("state", "stale")], UInt64(copies.count - fresh))])
    }

    private func write(_ watches: [WatchHealth], to exposition: inout Exposition) {
        exposition.gauge(
            "holdfast_agent_watch_synced", "1 where a whole list has been read and is being followed.",
            watches.map { ([("watch", $0.name)], UInt64($0.isSynced ? 1 : 0)) })
        exposition.gauge(
            "holdfast_agent_watch_silence_seconds",
            "Since the API server said anything in this watch, or the agent's start.",
            watches.map { ([("watch", $0.name)], $0.silence / .seconds(1)) })
    }
}

/// How a watch of the API server's stands.
package struct WatchHealth: Hashable, Sendable {
    package var name: String
    package var isSynced: Bool
    /// Since the last word; where there was none yet, since the agent's start.
    package var silence: Duration
}
