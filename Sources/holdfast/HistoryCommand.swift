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
            The server keeps what was for as long as the pool's history_retention says, 90 days unless set. Examples:

            holdfast history 10.16.0.15 --at "2026-11-17 15:00"
            holdfast history default/testvm --since 7d
            """)
    @Argument(help: "An address, or NAMESPACE/NAME of a VM or pod.", transform: BindingCommand.Subject.init)
    var subject: BindingCommand.Subject
    @Option(help: "Only what was so at this time, in one line.", transform: PointInTime.init) var at: PointInTime?
    @Option(help: "Only what was so at some time from here on.", transform: PointInTime.init) var since: PointInTime?
    @OptionGroup var options: ClientOptions

    func validate() throws {
        if at != nil, since != nil { throw ValidationError("give --at or --since, not both") }
    }

    func run(_ session: Session) async throws {
        let point = at?.timestamp(now: session.now)
        let entries = try await entries(
            from: point ?? since?.timestamp(now: session.now), through: point, session)
        try session.show(.object([("entries", .array(entries.map(\.document)))])) {
            if let point { return answer(entries, at: point) }
            return entries.isEmpty
                ? "nothing is known of \(subject.text)" : Table.history(entries)
        }
    }

    private func entries(
        from: Timestamp?, through: Timestamp?, _ session: Session
    ) async throws -> [HistoryEntry] {
        var listing = HistoryListing(subject: subject.ofHistory, from: from, through: through, pageSize: 1000)
        var entries: [HistoryEntry] = []
        repeat {
            let page = try await session.calls.history(listing, timeout: session.timeout)
            entries += page.entries
            listing.before = page.before
        } while listing.before != nil
        return entries
    }

    /// A line for each network, which is one line for an address.
    private func answer(_ entries: [HistoryEntry], at point: Timestamp) -> String {
        let time = point.short
        guard !entries.isEmpty else {
            return switch subject {
            case .address(let address): "nobody had \(address) at \(time), as far as it is still known"
            case .owner: "\(subject.text) had no address at \(time), as far as it is still known"
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
        } else if let date = (try? Date(text, strategy: .iso8601)) ?? Self.local(text, timeZone),
            let time = Timestamp(date)
        {
            self = .absolute(time)
        } else {
            return nil
        }
    }

    func timestamp(now: Timestamp) -> Timestamp {
        switch self {
        case .absolute(let time): time
        case .ago(let delay): Timestamp(nanoseconds: now.nanoseconds - delay.nanoseconds)
        }
    }

    /// "2026-11-17 15:00", "2026-11-17T15:00:30" or "2026-11-17": of the time zone.
    private static func local(_ text: String, _ timeZone: TimeZone) -> Date? {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = timeZone
        formatter.isLenient = false
        for format in ["yyyy-MM-dd HH:mm", "yyyy-MM-dd HH:mm:ss", "yyyy-MM-dd"] {
            formatter.dateFormat = format
            if let date = formatter.date(from: text.replacing("T", with: " ")) { return date }
        }
        return nil
    }
}

extension Timestamp {
    /// Nil outside of the years 1678 to 2261, which nanoseconds reach.
    fileprivate init?(_ date: Date) {
        guard let milliseconds = Int64(exactly: (date.timeIntervalSince1970 * 1000).rounded(.down)) else { return nil }
        let (nanoseconds, isTooLarge) = milliseconds.multipliedReportingOverflow(by: 1_000_000)
        if isTooLarge { return nil }
        self.init(nanoseconds: nanoseconds)
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

extension HistoryEntry.End {
    fileprivate var word: String {
        switch self {
        case .freed: "freed"
        case .transferred: "transferred"
        case .readdressed: "readdressed"
        case .attached: "attached"
        case .detached: "detached"
        }
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
