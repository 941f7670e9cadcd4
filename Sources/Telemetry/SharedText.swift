/// A text that is made anew for who asks, and at most ten times a second: once for all who ask meanwhile.
///
/// What one is told is never older than one's question, and who asks as fast as possible keeps no thread busy.
package actor SharedText {
    private static let pause = Duration.milliseconds(100)

    private let make: @Sendable () -> String
    /// Is not begun yet: who asks now may have it as well.
    private var next: Task<String, Never>?
    private var lastMade = ContinuousClock.now - pause

    package init(_ make: @escaping @Sendable () -> String) { self.make = make }

    package func text() async -> String {
        if let next { return await next.value }
        let task = Task {
            try? await Task.sleep(until: lastMade + Self.pause)
            next = nil
            defer { lastMade = .now }
            return make()
        }
        next = task
        return await task.value
    }
}
