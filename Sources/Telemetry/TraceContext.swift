/// What ties together the log lines of one request in all programs that it passes: the W3C's trace context
/// (https://www.w3.org/TR/trace-context/#traceparent-header).
package struct TraceContext: Hashable, Sendable {
    /// The key under which calls carry it.
    package static let key = "traceparent"

    /// The request that the current task works for.
    @TaskLocal package static var current: TraceContext?

    /// 32 lower-case hexadecimal digits.
    package let traceID: String
    /// 16 of them: who made the call.
    package let parentID: String
    private let flags: String

    /// Nil where it is malformed.
    package init?(traceparent text: String) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count >= 4, Self.isHex(parts[0], 2), parts[0] != "ff", parts[0] != "00" || parts.count == 4,
            Self.isHex(parts[1], 32), Self.isHex(parts[2], 16), Self.isHex(parts[3], 2),
            parts[1].contains(where: { $0 != "0" }), parts[2].contains(where: { $0 != "0" })
        else { return nil }
        (traceID, parentID, flags) = (String(parts[1]), String(parts[2]), String(parts[3]))
    }

    /// A trace that begins here. Nobody samples it yet.
    package init() {
        traceID = Self.hex(.random(in: 1 ... .max)) + Self.hex(.random(in: 0 ... .max))
        parentID = Self.hex(.random(in: 1 ... .max))
        flags = "00"
    }

    package var traceparent: String { "00-\(traceID)-\(parentID)-\(flags)" }

    private static func isHex(_ text: Substring, _ count: Int) -> Bool {
        text.utf8.count == count && text.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
    }

    private static func hex(_ number: UInt64) -> String {
        let digits = String(number, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
