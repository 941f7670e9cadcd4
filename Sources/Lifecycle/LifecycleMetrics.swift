import Foundation
import Synchronization
import Telemetry

/// What the lifecycle counts while it works.
package final class LifecycleMetrics: Sendable {
    /// What a pass looks at.
    package enum Pass: String, Sendable, CaseIterable {
        /// The whole ledger.
        case compare
        /// Open migrations.
        case migrations
    }

    /// What came of one.
    enum PassResult: String, Sendable, CaseIterable {
        case complete
        /// What was found may not be so: nothing was freed.
        case doubted
        case failed
    }

    private let passes = Counters(
        ["pass", "result"],
        known: Pass.allCases.flatMap { pass in PassResult.allCases.map { [pass.rawValue, $0.rawValue] } })
    private let repairs = Counters(["remedy"], known: ["free", "detach", "commit", "abort"].map { [$0] })
    private struct Standing {
        /// Seconds since 1970.
        var completedAt: [Pass: Double] = [:]
        var doubted: Set<Pass> = []
        var disagreements = 0
    }
    private let standing = Mutex(Standing())
    private let wallClock: @Sendable () -> Double

    /// `wallClock`: seconds since 1970.
    package init(wallClock: @escaping @Sendable () -> Double = { Date().timeIntervalSince1970 }) {
        self.wallClock = wallClock
    }

    func count(_ pass: Pass, _ result: PassResult) {
        passes.count(pass.rawValue, result.rawValue)
        let now = wallClock()
        standing.withLock { standing in
            switch result {
            case .complete:
                standing.completedAt[pass] = now
                standing.doubted.remove(pass)
            case .doubted: standing.doubted.insert(pass)
            case .failed: break
            }
        }
    }

    /// The term has ended: what was found in it another server looks at now.
    func endTerm() {
        standing.withLock { standing in
            standing.doubted = []
            standing.disagreements = 0
        }
    }

    func set(disagreements count: Int) { standing.withLock { $0.disagreements = count } }

    func count(_ remedy: Disagreement.Remedy) {
        switch remedy {
        case .free: repairs.count("free")
        case .detach: repairs.count("detach")
        case .commit: repairs.count("commit")
        case .abort: repairs.count("abort")
        case .byHand: break
        }
    }

    package var exposition: String {
        var exposition = Exposition()
        let standing = standing.withLock { $0 }
        exposition.counter(
            "holdfast_lifecycle_passes_total", "Comparisons of the ledger with the cluster, by what came of them.",
            passes.samples)
        exposition.gauge(
            "holdfast_lifecycle_last_complete_timestamp_seconds",
            "When such a comparison last was complete, in seconds since 1970; 0 before the first.",
            Pass.allCases.map { ([("pass", $0.rawValue)], (standing.completedAt[$0] ?? 0).rounded()) })
        exposition.gauge(
            "holdfast_lifecycle_in_doubt", "1 while what such a comparison finds is not believed, so nothing is freed.",
            Pass.allCases.map { ([("pass", $0.rawValue)], UInt64(standing.doubted.contains($0) ? 1 : 0)) })
        exposition.gauge(
            "holdfast_lifecycle_disagreements", "Bindings that did not fit the cluster at the last comparison.",
            [([], UInt64(standing.disagreements))])
        exposition.counter(
            "holdfast_lifecycle_repairs_total", "What was mended, by what was done.", repairs.samples)
        return exposition.text
    }
}
