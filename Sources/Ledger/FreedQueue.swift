import DequeModule
import IPAMModel

/// Freed addresses of one prefix in the order in which they may be given. One that is given leaves its entry behind until the
/// next commit, so that a rollback can bring it back.
struct FreedQueue: Sendable {
    struct Entry: Hashable, Comparable, Sendable {
        var readyAt: Timestamp
        /// Of the freeing: an entry counts only while the address is still freed since then.
        var revision: UInt64
        var offset: UInt128

        static func < (a: Self, b: Self) -> Bool {
            (a.readyAt, a.revision, a.offset) < (b.readyAt, b.revision, b.offset)
        }
    }

    private(set) var entries: Deque<Entry> = []
    /// Everything before this no longer counts.
    private var head = 0

    init(_ entries: [Entry] = []) { self.entries = Deque(entries.sorted()) }

    /// At once where nothing in it is ready later; else as many move as are.
    mutating func insert(_ entry: Entry) {
        let index = firstIndex(from: entry)
        entries.insert(entry, at: index)
        head = min(head, index)
    }

    mutating func remove(_ entry: Entry) {
        let index = firstIndex(from: entry)
        guard index < entries.count, entries[index] == entry else { return }
        entries.remove(at: index)
        if index < head { head -= 1 }
    }

    func first(where counts: (Entry) -> Bool) -> Entry? { entries[head...].first(where: counts) }

    /// How many are ready only after `now`.
    func count(after now: Timestamp, where counts: (Entry) -> Bool) -> Int {
        var count = 0
        for entry in entries.reversed() {
            if entry.readyAt <= now { break }
            if counts(entry) { count += 1 }
        }
        return count
    }

    mutating func skip(where isPast: (Entry) -> Bool) {
        while head < entries.count, isPast(entries[head]) { head += 1 }
    }

    /// What was skipped may count again.
    mutating func rewind() { head = 0 }

    /// Forgets what was skipped, and all that no longer counts where that is more than `most`.
    mutating func commit(keeping most: Int, where counts: (Entry) -> Bool) {
        entries.removeFirst(head)
        head = 0
        if entries.count > most { entries.removeAll { !counts($0) } }
    }

    /// Of the first that is not before `entry`.
    private func firstIndex(from entry: Entry) -> Int {
        var (low, high) = (0, entries.count)
        if let last = entries.last, last < entry { return high }
        while low < high {
            let middle = (low + high) / 2
            if entries[middle] < entry { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
