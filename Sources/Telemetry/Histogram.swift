import Synchronization

/// Observations counted in buckets, as Prometheus' histograms are. Any thread may observe.
package final class Histogram: Sendable {
    package struct Reading: Hashable, Sendable {
        /// The buckets' upper bounds, inclusive and ascending; a last bucket has what lies above them.
        package var bounds: [Double]
        /// One more than there are bounds.
        package var counts: [UInt64]
        package var sum: Double

        package init(bounds: [Double], counts: [UInt64], sum: Double) {
            self.bounds = bounds
            self.counts = counts
            self.sum = sum
        }
    }

    private let bounds: [Double]
    private let state: Mutex<(counts: [UInt64], sum: Double)>

    package init(bounds: [Double]) {
        self.bounds = bounds
        state = Mutex((Array(repeating: 0, count: bounds.count + 1), 0))
    }

    package func observe(_ value: Double) {
        let bucket = bounds.firstIndex { value <= $0 } ?? bounds.count
        state.withLock {
            $0.counts[bucket] += 1
            $0.sum += value
        }
    }

    /// In seconds, Prometheus' unit of time.
    package func observe(_ duration: Duration) { observe(duration / .seconds(1)) }

    package var reading: Reading {
        let (counts, sum) = state.withLock { $0 }
        return Reading(bounds: bounds, counts: counts, sum: sum)
    }

    /// For calls and commits: 100 us to 10 s.
    package static let secondsOfCalls = [
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
    ]
}
