import CLinux

/// A moment of the kernel's clock since boot, by which something must be done. `ContinuousClock` has the same clock, and
/// Embedded Swift has no `ContinuousClock`.
package struct Deadline: Hashable, Sendable, Comparable {
    /// Since boot.
    private let moment: Duration

    package static func after(_ duration: Duration) -> Deadline { Deadline(moment: clock + duration) }

    /// Until then; negative once it has passed.
    package var remaining: Duration { moment - Self.clock }

    package static func < (a: Self, b: Self) -> Bool { a.moment < b.moment }

    private static var clock: Duration {
        var time = timespec()
        unsafe clock_gettime(CLOCK_BOOTTIME, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }
}
