import Addresses
import ArgumentParser
import Foundation
import IPAMAPI
import IPAMModel
import Program

struct History: ClientCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows who had an address, or what a VM had, and where: now first, then back in time.",
        discussion: """
            A time is 2026-11-17T15:00:00Z, 2026-11-17 15:00 (of this machine's time zone), or how long ago: 90m, 24h, 7d. \
            Without a fraction it is that whole second, as tables print times. The server keeps what was for as long as the \
            pool's history_retention says, 90 days unless set. Examples:

            holdfast history 10.16.0.15 --at "2026-11-17 15:00"
            holdfast history default/testvm --since 7d
            """)
    @OptionGroup var asked: SubjectOptions
    @Option(help: "Only what was so at this time, each in one line.", transform: PointInTime.init) var at: PointInTime?
    @Option(help: "Only what was so at some time from here on.", transform: PointInTime.init) var since: PointInTime?
    @OptionGroup var options: ClientOptions

    func validate() throws {
        if at != nil, since != nil { throw ValidationError("give --at or --since, not both") }
    }

    func run(_ session: Session) async throws {
        let start = (at ?? since)?.timestamp(now: session.now)
        let entries = try await entries(from: start, through: at == nil ? nil : start?.endOfSecond, session)
        if let start { try checkHasBegun(start, entries, session) }
        try session.show(.object([("entries", .array(entries.map(\.document)))])) {
            if at != nil, let start { return answer(entries, at: start) }
            return entries.isEmpty
                ? "nothing is known of \(asked.subject.text)" : Table.history(entries)
        }
    }

    private func entries(
        from: Timestamp?, through: Timestamp?, _ session: Session
    ) async throws -> [HistoryEntry] {
        var listing = HistoryListing(subject: asked.subject.ofHistory, from: from, through: through, pageSize: 1000)
        var entries: [HistoryEntry] = []
        repeat {
            let page = try await session.calls.history(listing, timeout: session.timeout)
            entries += page.entries.filter { asked.kind == nil || $0.owner.kind == asked.kind }
            listing.before = page.before
        } while listing.before != nil
        return entries
    }

    /// Throws `Failure` for a time that neither this machine's clock has reached, give or take a minute, nor the server's, as
    /// far as `entries` tell: of then nothing is known.
    private func checkHasBegun(_ time: Timestamp, _ entries: [HistoryEntry], _ session: Session) throws(Failure) {
        let newest = entries.map { $0.until ?? $0.since }.max() ?? session.now
        guard time > max(newest, session.now.advanced(by: .seconds(60))) else { return }
        throw Failure(
            "\(time.rfc3339) is yet to come: it is \(session.now.short)",
            hint: "give a time that is over, as 2026-11-17T15:00:00Z, or how long ago: 90m, 24h, 7d")
    }

    /// A line for each network, which is one line for an address; more where it changed in that second.
    private func answer(_ entries: [HistoryEntry], at point: Timestamp) -> String {
        let time = point.rfc3339
        guard !entries.isEmpty else {
            return switch asked.subject {
            case .address(let address): "nobody had \(address) at \(time), as far as it is still known"
            case .owner: "\(asked.subject.text) had no address at \(time), as far as it is still known"
            }
        }
        return entries.map { entry in
            let owner = "\(entry.owner.key)" + (entry.owner.uid.isEmpty ? "" : " with UID \(entry.owner.uid)")
            let place = entry.pod.isEmpty ? "no pod carried it" : "in pod \(entry.pod) on node \(entry.node)"
            let end = entry.until.map { "until \($0.short)" } ?? "until now"
            return "\(entry.addressText) at \(time): \(owner), \(place), since \(entry.since.short) \(end)"
        }.joined(separator: "\n")
    }
}

extension BindingCommand.Subject {
    var ofHistory: HistorySubject {
        switch self {
        case .address(let address): .address(address)
        case .owner(let owner): .object(namespace: owner.namespace, name: owner.name)
        }
    }

    fileprivate var text: String {
        switch self {
        case .address(let address): "\(address)"
        case .owner(let owner): "\(owner.namespace)/\(owner.name)"
        }
    }
}

/// As people write it.
enum PointInTime: Equatable {
    case absolute(Timestamp)
    case ago(Delay)

    /// Throws `ValidationError`.
    init(_ text: String) throws {
        guard let point = Self(text, timeZone: .current) else {
            throw ValidationError(
                "give a time, as 2026-11-17T15:00:00Z or \"2026-11-17 15:00\", or how long ago: 90m, 24h, 7d")
        }
        self = point
    }

    init?(_ text: String, timeZone: TimeZone) {
        if text.hasSuffix("d"), let days = Int64(text.dropLast()), (0...36_500).contains(days) {
            self = .ago(.seconds(days * 86_400))
        } else if let delay = try? Rules.delay(text, "the time") {
            self = .ago(delay)
        } else if let time = Self.time(text, timeZone) {
            self = .absolute(time)
        } else {
            return nil
        }
    }

    func timestamp(now: Timestamp) -> Timestamp {
        switch self {
        case .absolute(let time): time
        case .ago(let delay): Timestamp(nanoseconds: now.nanoseconds - delay.nanoseconds).second
        }
    }

    /// The fraction by itself: as a `Date`, which is a floating-point number, it would not be exact.
    private static func time(_ text: String, _ timeZone: TimeZone) -> Timestamp? {
        var (whole, nanoseconds) = (text, Int64(0))
        if let fraction = text.firstMatch(of: /:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})(?![0-9])/)?.1 {
            whole = String(text[..<fraction.startIndex] + text[fraction.endIndex...])
            nanoseconds = Int64((fraction.dropFirst() + "00000000").prefix(9)) ?? 0
        }
        whole = whole.replacing(" ", with: "T")
        guard !whole.contains("."), let date = (try? Date(whole, strategy: .iso8601)) ?? local(whole, timeZone)
        else { return nil }
        return Timestamp(date)?.advanced(by: Delay(nanoseconds: nanoseconds))
    }

    /// "2026-11-17T15:00", "2026-11-17T15:00:30" or "2026-11-17": of the time zone.
    private static func local(_ text: String, _ timeZone: TimeZone) -> Date? {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = timeZone
        formatter.isLenient = false
        for format in ["yyyy-MM-dd'T'HH:mm", "yyyy-MM-dd'T'HH:mm:ss", "yyyy-MM-dd"] {
            formatter.dateFormat = format
            if let date = formatter.date(from: text) { return date }
        }
        return nil
    }
}

extension Timestamp {
    /// To the second; nil outside of the years 1678 to 2261, which nanoseconds reach.
    fileprivate init?(_ date: Date) {
        guard let seconds = Int64(exactly: date.timeIntervalSince1970.rounded(.down)) else { return nil }
        let (nanoseconds, isTooLarge) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        if isTooLarge { return nil }
        self.init(nanoseconds: nanoseconds)
    }

    /// The last nanosecond of its second where it is the first one, else itself.
    fileprivate var endOfSecond: Timestamp {
        self == second ? advanced(by: Delay(nanoseconds: 999_999_999)) : self
    }
}

extension HistoryEntry {
    fileprivate var addressText: String { addresses.map(\.description).joined(separator: ",") }

    var document: Document {
        .fields([
            "owner": owner.document, "pool": .nonEmpty(pool), "addresses": .nonEmpty(addresses.map(\.description)),
            "mac": .string(mac.description), "node": .nonEmpty(node), "pod": .nonEmpty(pod),
            "since": .string(since.rfc3339), "until": until.map { .string($0.rfc3339) },
            "begunBy": .nonEmpty(begunBy), "endedBy": .nonEmpty(endedBy),
            "end": end.map { .string("HISTORY_END_\($0.word.uppercased())") }, "revision": .nonZero(revision),
        ])
    }
}

extension Table {
    fileprivate static func history(_ entries: [HistoryEntry]) -> String {
        var table = Table([
            "SINCE", "UNTIL", "NAMESPACE", "NAME", "NETWORK", "ADDRESSES", "NODE", "POD", "BY", "ENDED", "ENDED BY",
        ])
        for entry in entries {
            table.append([
                entry.since.short, entry.until?.short ?? "now", entry.owner.namespace, entry.owner.name,
                entry.owner.network, entry.addressText, entry.node, entry.pod, entry.begunBy, entry.end?.word ?? "",
                entry.endedBy,
            ])
        }
        return table.text
    }
}
