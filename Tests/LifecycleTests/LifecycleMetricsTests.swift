import IPAMAPI
import IPAMModel
import IPAMService
import KubeVirt
import KubernetesAPI
import Lifecycle
import Testing

/// What the lifecycle tells of its passes.
struct LifecycleMetricsTests {
    private let cluster = StatedCluster()
    private let metrics = LifecycleMetrics(wallClock: { 1_795_500_000 })
    private let start = ContinuousClock.now

    private func lines(after times: Int, of ledger: Writer, failing: Bool = false) async -> Set<String> {
        let lifecycle = Lifecycle(
            ipam: ledger, cluster: cluster, events: RecordedEvents(), pace: Lifecycle.Pace(), log: quiet,
            metrics: metrics)
        var memory = lifecycle.comparing
        for minute in 0..<times { _ = await lifecycle.compare(&memory, at: start + .seconds(60 * minute)) }
        var settling = lifecycle.settling
        _ = await lifecycle.settleMigrations(&settling, at: start)
        return Set(metrics.exposition.split(separator: "\n").map(String.init))
    }

    @Test func `passes, what they found and what was mended are counted`() async throws {
        cluster.state {
            $0.machines = [name("other")]
            $0.pods = [pod("other")]
        }
        let ledger = try await makeLedger()
        try await ledger.bind(vm("testvm"))
        try await ledger.bind(vm("other"))
        var shown = await lines(after: 1, of: ledger)
        #expect(
            shown.isSuperset(of: [
                "holdfast_lifecycle_disagreements 1",
                #"holdfast_lifecycle_repairs_total{remedy="free"} 0"#,
            ]), "\(shown.sorted())")
        shown = await lines(after: 3, of: ledger)
        #expect(
            shown.isSuperset(of: [
                #"holdfast_lifecycle_passes_total{pass="compare",result="complete"} 4"#,
                #"holdfast_lifecycle_passes_total{pass="migrations",result="complete"} 2"#,
                #"holdfast_lifecycle_passes_total{pass="compare",result="failed"} 0"#,
                #"holdfast_lifecycle_last_complete_timestamp_seconds{pass="compare"} 1795500000"#,
                "holdfast_lifecycle_disagreements 0", #"holdfast_lifecycle_in_doubt{pass="compare"} 0"#,
                #"holdfast_lifecycle_repairs_total{remedy="free"} 1"#,
                #"holdfast_lifecycle_repairs_total{remedy="abort"} 0"#,
            ]), "\(shown.sorted())")
    }

    @Test func `a guard that holds is shown until a pass is complete, and a failing cluster leaves the time as it was`()
        async throws
    {
        cluster.state { $0.machines = [name("other")] }
        let ledger = try await makeLedger()
        try await ledger.bind(vm("testvm"))
        cluster.state { $0.unreadable = "pods default/odd" }
        var shown = await lines(after: 2, of: ledger)
        #expect(
            shown.isSuperset(of: [
                #"holdfast_lifecycle_passes_total{pass="compare",result="doubted"} 2"#,
                #"holdfast_lifecycle_in_doubt{pass="compare"} 1"#,
                #"holdfast_lifecycle_last_complete_timestamp_seconds{pass="compare"} 0"#,
            ]), "\(shown.sorted())")
        cluster.state { $0.unreadable = nil }
        _ = await lines(after: 1, of: ledger)
        cluster.state { $0.failure = KubernetesError(.unreachable, "away") }
        shown = await lines(after: 1, of: ledger)
        #expect(
            shown.isSuperset(of: [
                #"holdfast_lifecycle_passes_total{pass="compare",result="failed"} 1"#,
                #"holdfast_lifecycle_in_doubt{pass="compare"} 0"#,
                #"holdfast_lifecycle_last_complete_timestamp_seconds{pass="compare"} 1795500000"#,
            ]), "\(shown.sorted())")
    }
}
