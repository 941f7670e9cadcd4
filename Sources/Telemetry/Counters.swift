import Synchronization

/// Counts of one metric, one for each combination of its labels' values. Any thread may count.
package final class Counters: Sendable {
    private let labels: [String]
    private let counts: Mutex<[[String]: UInt64]>

    /// `known` combinations are told from the start, as 0: what appears with its first count has no rate then.
    package init(_ labels: [String], known: [[String]] = []) {
        self.labels = labels
        counts = Mutex(Dictionary(known.map { ($0, 0) }) { first, _ in first })
    }

    /// `values` are the labels', in their order.
    package func count(_ values: String...) { counts.withLock { $0[values, default: 0] += 1 } }

    /// In the order of their values.
    package var samples: [(Exposition.Labels, UInt64)] {
        counts.withLock { $0 }.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map { values, count in
            (zip(labels, values).map { ($0, $1) }, count)
        }
    }
}
