/// Whose addresses are to be announced when: each a few times, as the first may be lost while the network still learns,
/// and all together no faster than a network with many migrations at once bears.
struct AnnouncementQueue<Key: Hashable & Sendable>: Sendable {
    private static var repetitions: Int { 3 }
    /// Between two announcements of one address.
    private static var interval: Duration { .seconds(1) }
    /// Between any two.
    private static var spacing: Duration { .milliseconds(20) }

    private struct Entry {
        var key: Key
        var at: ContinuousClock.Instant
        var left: Int
    }

    private var entries: [Entry] = []
    private var notBefore: ContinuousClock.Instant?

    mutating func add(_ key: Key, at now: ContinuousClock.Instant) {
        entries.removeAll { $0.key == key }
        entries.append(Entry(key: key, at: now, left: Self.repetitions))
    }

    mutating func remove(_ key: Key) { entries.removeAll { $0.key == key } }

    /// When `next` has something; nil while nothing waits.
    var dueAt: ContinuousClock.Instant? { entries.map(\.at).min().map { max($0, notBefore ?? $0) } }

    /// The one that has waited longest; nil where none is due.
    mutating func next(at now: ContinuousClock.Instant) -> Key? {
        guard let dueAt, dueAt <= now,
            let index = entries.indices.min(by: { entries[$0].at < entries[$1].at })
        else { return nil }
        notBefore = now + Self.spacing
        let key = entries[index].key
        entries[index].left -= 1
        entries[index].at = now + Self.interval
        if entries[index].left == 0 { entries.remove(at: index) }
        return key
    }
}
