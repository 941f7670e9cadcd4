import FoundationEssentials

/// This machine's time since it was booted, sleep included, which nobody can set: what the age of a copy is measured with.
package struct NodeClock: Sendable {
    /// Names one run of the kernel: a time of another run says nothing.
    package let bootID: String
    /// Nanoseconds since boot.
    package let now: @Sendable () -> Int64

    package init(bootID: String, now: @escaping @Sendable () -> Int64) {
        self.bootID = bootID
        self.now = now
    }

    /// The kernel's own: boot_id of random(4), and CLOCK_BOOTTIME, which is what Swift's continuous clock reads on Linux.
    package static var system: NodeClock {
        let bootID = (try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8)) ?? ""
        let epoch = ContinuousClock().systemEpoch
        return NodeClock(bootID: String(bootID.prefix { !$0.isWhitespace })) {
            let (seconds, attoseconds) = epoch.duration(to: .now).components
            return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
        }
    }
}
