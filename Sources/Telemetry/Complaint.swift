/// Of a failure that comes again and again, when it is told: the first, and then once a minute how many there were.
package struct Complaint: Sendable {
    private static let interval = Duration.seconds(60)

    private var toldAt: ContinuousClock.Instant?
    private var untold = 0

    package init() {}

    /// Another failure. How many there were since one was told, with this one; nil where it is not to be told.
    package mutating func count(at now: ContinuousClock.Instant = .now) -> Int? {
        untold += 1
        if let toldAt, now - toldAt < Self.interval { return nil }
        defer { (toldAt, untold) = (now, 0) }
        return untold
    }
}
