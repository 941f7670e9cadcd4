package import IPAMModel

/// Which nodes may use a copy of a VM's binding while they are out of contact, and until when at the latest. In memory
/// only: of what was before the process began nothing is known, and it is waited for.
struct CopyBook: Sendable {
    struct Word: Sendable {
        /// The node's own limit is no later: it counts from when it sent the request, this from when it was served.
        var until: Timestamp
        /// Tells this word from every other.
        var ticket: UInt64
    }

    struct Entry: Sendable {
        /// By node; one without name stands for copies of before the process began.
        var words: [String: Word] = [:]
        /// A move of the binding is wanted: until then nobody may keep a copy.
        var closedUntil: Timestamp?
    }

    /// How long a wanted move keeps copies from being renewed; who wants it asks again more often.
    static let patience = Delay.seconds(30)
    private static let sweepInterval = Delay.seconds(60)

    private var entries: [OwnerKey: Entry] = [:]
    private var lastTicket: UInt64 = 0
    private var nextSweep = Timestamp(nanoseconds: 0)
    /// When this process began, and the ledger's revision then, if there can have been copies before.
    var start: (at: Timestamp, revision: UInt64)?

    func isClosed(_ owner: OwnerKey, at now: Timestamp) -> Bool {
        entries[owner]?.closedUntil.map { now < $0 } ?? false
    }

    func until(_ owner: OwnerKey, on node: String) -> Timestamp? { entries[owner]?.words[node]?.until }

    func ticket(of owner: OwnerKey, on node: String) -> UInt64 { entries[owner]?.words[node]?.ticket ?? 0 }

    /// The end of the last copy's use that was granted.
    func lastUse(of owner: OwnerKey) -> Timestamp? { entries[owner]?.words.values.lazy.map(\.until).max() }

    /// The copies that may still be in use, but for one node's.
    func open(_ owner: OwnerKey, exceptOf node: String?, at now: Timestamp) -> [(node: String, until: Timestamp)] {
        (entries[owner]?.words ?? [:]).lazy
            .filter { $0.key != node && now < $0.value.until }
            .map { ($0.key, $0.value.until) }.sorted { $0 < $1 }
    }

    /// Also where the reuse delay has become shorter: the answer may be lost, and the node goes by the one before.
    mutating func grant(_ owner: OwnerKey, to node: String, until: Timestamp) {
        lastTicket += 1
        let until = max(until, entries[owner]?.words[node]?.until ?? until)
        entries[owner, default: Entry()].words[node] = Word(until: until, ticket: lastTicket)
    }

    mutating func close(_ owner: OwnerKey, at now: Timestamp) {
        entries[owner, default: Entry()].closedUntil = now.advanced(by: Self.patience)
    }

    /// Nothing keeps it from moving: what is there then may be copied again.
    mutating func reopen(_ owner: OwnerKey) { entries[owner]?.closedUntil = nil }

    /// The node has dropped the copy: unless it has been granted one since.
    mutating func drop(_ owner: OwnerKey, by node: String, ticket: UInt64) {
        if entries[owner]?.words[node]?.ticket == ticket { entries[owner]?.words[node] = nil }
    }

    /// Forgets what has no effect any more.
    mutating func sweep(at now: Timestamp) {
        guard now >= nextSweep else { return }
        nextSweep = now.advanced(by: Self.sweepInterval)
        entries = entries.filter { _, entry in
            entry.closedUntil.map { now < $0 } ?? false || entry.words.values.contains { now < $0.until }
        }
    }
}

/// What has become of a node's copy.
package struct CopyStanding: Hashable, Sendable {
    /// For how long after it sent the request the node may use it; nil: it must drop it.
    package var validFor: Delay?
    /// The binding as it is now, where the copy is of another revision.
    package var binding: Binding?
    package var ticket: UInt64

    package init(validFor: Delay?, binding: Binding? = nil, ticket: UInt64 = 0) {
        self.validFor = validFor
        self.binding = binding
        self.ticket = ticket
    }
}
