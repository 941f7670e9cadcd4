import Synchronization
import Telemetry
import Testing

/// What /metrics answers to many at a time.
struct SharedTextTests {
    private final class Made: Sendable {
        private let value = Mutex(0)
        var count: Int { value.withLock { $0 } }

        func next() -> String {
            value.withLock {
                $0 += 1
                return "\($0)"
            }
        }
    }

    @Test func `metrics are made once for all who ask meanwhile, and are never older than the question`() async {
        let made = Made()
        let shared = SharedText { made.next() }
        let begun = ContinuousClock.now
        await withDiscardingTaskGroup { group in
            for _ in 0..<50 {
                group.addTask {
                    for _ in 0..<5 {
                        let before = made.count
                        #expect(await Int(shared.text()).map { $0 > before } == true)
                    }
                }
            }
        }
        #expect(made.count <= 1 + Int((ContinuousClock.now - begun) / .milliseconds(100)))
    }
}
