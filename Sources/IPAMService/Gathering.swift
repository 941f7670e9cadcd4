import Glibc
import IPAMModel
import Ledger
import LedgerStore

/// What the thread that runs batches remembers of the last one, to put more into the next.
///
/// Callers that were answered together call again together. Without a moment's patience they come too late for the next
/// commit, which is for those who waited meanwhile, and so on: each commit would be for half of the callers.
struct Gathering {
    private static let step: UInt32 = 100

    private var expected = 0
    private var end = ContinuousClock.now

    /// So many will wait soon: those that wait already, and those that were answered just now and may call again.
    mutating func expect(_ count: Int, within patience: Duration) {
        expected = count
        end = .now + patience
    }

    /// Returns once as many wait as were answered last, or it was long enough. `count` says how many wait.
    func wait(_ count: () -> Int) {
        // In microseconds, and so short that neither the wall clock nor a signal matters.
        while count() < expected, ContinuousClock.now < end { usleep(Self.step) }
    }
}

/// How large a commit has become.
struct CommitSize {
    /// Of each family one, which one more command may bring.
    private static let mostAddressesOfOne = 2

    private var changes = 0
    private var addresses = 0

    func hasRoom(_ batching: Batching) -> Bool {
        changes == 0
            || changes < batching.mostChanges && addresses <= batching.mostAddresses - Self.mostAddressesOfOne
    }

    /// `pending` are the changes so far: those that it knows of, and later ones.
    mutating func grow(to pending: [Change]) {
        for index in changes..<pending.count {
            if case .putBinding(let binding) = pending[index] { addresses += binding.assignments.count }
        }
        changes = pending.count
    }
}
