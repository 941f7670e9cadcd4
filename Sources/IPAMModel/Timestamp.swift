/// A point in time: nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
package struct Timestamp: Hashable, Comparable, Sendable {
    package var nanoseconds: Int64

    package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }
    package init(seconds: Int64) { self.nanoseconds = seconds * 1_000_000_000 }

    package static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }

    /// Saturates at the ends of the representable time.
    package func advanced(by delay: Delay) -> Timestamp {
        let (sum, overflow) = nanoseconds.addingReportingOverflow(delay.nanoseconds)
        return Timestamp(nanoseconds: overflow ? .max : sum)
    }
}

/// A length of time in nanoseconds, never negative.
package struct Delay: Hashable, Comparable, Sendable {
    package var nanoseconds: Int64

    package init(nanoseconds: Int64) { self.nanoseconds = max(0, nanoseconds) }
    package static func seconds(_ seconds: Int64) -> Delay { Delay(nanoseconds: seconds * 1_000_000_000) }

    package static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }
}
