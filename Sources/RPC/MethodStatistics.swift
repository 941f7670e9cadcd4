import Synchronization
package import Telemetry

/// How the calls of one of a server's methods ended, and how long they took.
package final class MethodStatistics: Sendable {
    /// `holdfast.ipam.v1.IPAM`
    package let service: String
    /// `Allocate`
    package let method: String
    /// Whether a call has one request and one answer: how long others last is up to their clients.
    package let isUnary: Bool

    private let latency = Histogram(bounds: Histogram.secondsOfCalls)
    private let counts = Mutex([UInt64](repeating: 0, count: RPCStatus.Code.allCases.count))

    init(service: String, method: String, isUnary: Bool) {
        self.service = service
        self.method = method
        self.isUnary = isUnary
    }

    func ended(_ code: RPCStatus.Code, after duration: Duration) {
        counts.withLock { $0[Int(code.rawValue)] += 1 }
        if isUnary { latency.observe(duration) }
    }

    /// By status: those that a call ended with, and OK.
    package var ended: [(code: RPCStatus.Code, count: UInt64)] {
        let counts = counts.withLock { $0 }
        return RPCStatus.Code.allCases.compactMap { code in
            let count = counts[Int(code.rawValue)]
            return count > 0 || code == .ok ? (code, count) : nil
        }
    }

    /// From the call's arrival to its answer, in seconds.
    package var seconds: Histogram.Reading { latency.reading }
}
