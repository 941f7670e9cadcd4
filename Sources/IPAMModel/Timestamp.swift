import Addresses

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
package struct Timestamp: Hashable, Comparable, Sendable, Codable {
    package var nanoseconds: Int64

    package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }
    /// Saturates at the ends of the representable time, which are in the years 1677 and 2262.
    package init(seconds: Int64) { nanoseconds = seconds.inNanoseconds }

    package static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }

    /// Saturates at the ends of the representable time.
    package func advanced(by delay: Delay) -> Timestamp {
        let (sum, overflow) = nanoseconds.addingReportingOverflow(delay.nanoseconds)
        return Timestamp(nanoseconds: overflow ? .max : sum)
    }
}

/// A length of time in nanoseconds, never negative.
package struct Delay: Hashable, Comparable, Sendable, Codable {
    package var nanoseconds: Int64

    package init(nanoseconds: Int64) { self.nanoseconds = max(0, nanoseconds) }
    /// Saturates at about 292 years.
    package static func seconds(_ seconds: Int64) -> Delay { Delay(nanoseconds: seconds.inNanoseconds) }

    package static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }
}

extension Int64 {
    /// As many seconds in nanoseconds, or the nearest number there is.
    fileprivate var inNanoseconds: Int64 {
        let (product, overflow) = multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? (self < 0 ? .min : .max) : product
    }
}

extension Timestamp: CustomStringConvertible {
    /// RFC 3339 in UTC, with a fraction only where there is one: "2026-02-03T04:05:06Z".
    package var description: String {
        let (seconds, fraction) = nanoseconds.flooredDivision(by: 1_000_000_000)
        let (days, second) = seconds.flooredDivision(by: 86_400)
        // Days since 0000-03-01 in years that begin in March, so that the leap day is a year's last:
        // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
        let (era, day) = (days + 719_468).flooredDivision(by: 146_097)
        let yearOfEra = (day - day / 1460 + day / 36_524 - day / 146_096) / 365
        let dayOfYear = day - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let march = (5 * dayOfYear + 2) / 153
        let month = march < 10 ? march + 3 : march - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        let text = [UInt8](capacity: Self.mostText) { text in
            text.append(year, digits: 4)
            text.append(UInt8(ascii: "-"))
            text.append(month, digits: 2)
            text.append(UInt8(ascii: "-"))
            text.append(dayOfYear - (153 * march + 2) / 5 + 1, digits: 2)
            text.append(UInt8(ascii: "T"))
            text.append(second / 3600, digits: 2)
            text.append(UInt8(ascii: ":"))
            text.append(second / 60 % 60, digits: 2)
            text.append(UInt8(ascii: ":"))
            text.append(second % 60, digits: 2)
            if fraction > 0 {
                text.append(UInt8(ascii: "."))
                text.append(fraction, digits: 9)
            }
            text.append(UInt8(ascii: "Z"))
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// "2026-02-03T04:05:06.123456789Z"
    private static let mostText = 30
}

extension OutputSpan where Element == UInt8 {
    /// The last `digits` digits of a number that is not negative.
    fileprivate mutating func append(_ number: Int64, digits: Int) {
        var unit = (1..<digits).reduce(Int64(1)) { unit, _ in 10 * unit }
        while unit > 0 {
            append(digit: UInt8(number / unit % 10))
            unit /= 10
        }
    }
}

extension Int64 {
    /// Rounds toward negative infinity: the remainder is never negative.
    package func flooredDivision(by divisor: Int64) -> (quotient: Int64, remainder: Int64) {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
    }
}
