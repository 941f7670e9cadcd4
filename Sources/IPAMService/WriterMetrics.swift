import IPAMModel
import Ledger
import Synchronization
import Telemetry

/// What the writer counts while it works.
final class WriterMetrics: Sendable {
    private enum Result: Hashable {
        case created, kept
        case refused(IPAMError.Reason)
    }

    /// Durable, in seconds.
    let commits = Histogram(bounds: Histogram.secondsOfCalls)
    /// Of one commit.
    let commands = Histogram(bounds: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
    let failedCommits = Atomic<UInt64>(0)
    /// Because too many were waiting.
    let refusedCommands = Atomic<UInt64>(0)
    private let allocations = Mutex<[Result: UInt64]>([.created: 0, .kept: 0])

    /// Of a batch that is durable.
    func count(allocations results: some Sequence<Swift.Result<Outcome, IPAMError>>) {
        var (created, kept) = (UInt64(0), UInt64(0))
        allocations.withLock { allocations in
            for result in results {
                switch result {
                case .success(.allocated(_, created: true)): created += 1
                case .success: kept += 1
                case .failure(let error): allocations[.refused(error.reason), default: 0] += 1
                }
            }
            allocations[.created, default: 0] += created
            allocations[.kept, default: 0] += kept
        }
    }

    func write(to exposition: inout Exposition) {
        let samples = allocations.withLock { $0 }.map { result, count in
            let (name, reason) =
                switch result {
                case .created: ("created", "")
                case .kept: ("kept", "")
                case .refused(let reason): ("refused", reason.rawValue)
                }
            return ([(name: "result", value: name), (name: "reason", value: reason)], count)
        }
        exposition.counter(
            "holdfast_allocations_total", "Allocate calls by what came of them.",
            samples.sorted { ($0.0[0].value, $0.0[1].value) < ($1.0[0].value, $1.0[1].value) })
        exposition.histogram(
            "holdfast_store_commit_seconds", "Time until the store has a batch of changes durably.",
            [([], commits.reading)])
        exposition.histogram(
            "holdfast_store_commit_commands", "Commands that were waiting and shared one commit.",
            [([], commands.reading)])
        exposition.counter(
            "holdfast_store_commit_failures_total", "Commits that the store did not take.",
            [([], failedCommits.load(ordering: .relaxed))])
        exposition.counter(
            "holdfast_overloaded_total", "Changes that were refused because too many were waiting.",
            [([], refusedCommands.load(ordering: .relaxed))])
    }
}
