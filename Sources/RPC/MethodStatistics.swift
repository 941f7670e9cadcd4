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

    private struct State {
        var byCode = [UInt64](repeating: 0, count: RPCStatus.Code.allCases.count)
        var byDuration = [UInt64](repeating: 0, count: Histogram.secondsOfCalls.count + 1)
        var nanoseconds: Int64 = 0
    }

    private let state = Mutex(State())
    /// In nanoseconds.
    private let bounds = Histogram.secondsOfCalls.map { Int64(($0 * 1e9).rounded()) }

    init(service: String, method: String, isUnary: Bool) {
        self.service = service
        self.method = method
        self.isUnary = isUnary
    }

    func ended(_ code: RPCStatus.Code, nanoseconds: Int64) {
        state.withLock { state in
            state.byCode[Int(code.rawValue)] += 1
            guard isUnary else { return }
            state.byDuration[bounds.firstIndex { nanoseconds <= $0 } ?? bounds.count] += 1
            state.nanoseconds += nanoseconds
        }
    }

    /// By status: those that a call ended with, and OK.
    package var ended: [(code: RPCStatus.Code, count: UInt64)] {
        let counts = state.withLock(\.byCode)
        return RPCStatus.Code.allCases.compactMap { code in
            let count = counts[Int(code.rawValue)]
            return count > 0 || code == .ok ? (code, count) : nil
        }
    }

    /// From the call's arrival to its answer, in seconds.
    package var seconds: Histogram.Reading {
        state.withLock {
            Histogram.Reading(
                bounds: Histogram.secondsOfCalls, counts: $0.byDuration, sum: Double($0.nanoseconds) / 1e9)
        }
    }
}
