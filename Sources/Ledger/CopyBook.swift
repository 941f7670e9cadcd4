import DequeModule
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

    private var entries: [OwnerKey: Entry] = [:]
    /// The owner of each entry, once: the first were looked at the longest ago.
    private var round: Deque<OwnerKey> = []
    private var lastTicket: UInt64 = 0
    /// When this process began, and the ledger's revision then, if there can have been copies before.
    var start: (at: Timestamp, revision: UInt64)?

    var count: Int { entries.count }

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
    mutating func grant(_ owner: OwnerKey, to node: String, until: Timestamp, at now: Timestamp) {
        lastTicket += 1
        let ticket = lastTicket
        change(owner, at: now) { entry in
            entry.words[node] = Word(until: max(until, entry.words[node]?.until ?? until), ticket: ticket)
        }
    }

    mutating func close(_ owner: OwnerKey, at now: Timestamp) {
        change(owner, at: now) { $0.closedUntil = now.advanced(by: Self.patience) }
    }

    /// Nothing keeps it from moving: what is there then may be copied again.
    mutating func reopen(_ owner: OwnerKey) { entries[owner]?.closedUntil = nil }

    /// The node has dropped the copy: unless it has been granted one since.
    mutating func drop(_ owner: OwnerKey, by node: String, ticket: UInt64) {
        if entries[owner]?.words[node]?.ticket == ticket { entries[owner]?.words[node] = nil }
    }

    private mutating func change(_ owner: OwnerKey, at now: Timestamp, _ body: (inout Entry) -> Void) {
        // A few each time, so that nobody waits while all are looked through: two for a new one, or the book could grow.
        sweep(at: now)
        if entries[owner] == nil {
            sweep(at: now)
            round.append(owner)
        }
        body(&entries[owner, default: Entry()])
    }

    /// Looks at the next entry, and forgets it where it has no effect any more.
    private mutating func sweep(at now: Timestamp) {
        guard let owner = round.popFirst() else { return }
        if entries[owner]?.hasEffect(at: now) == true { round.append(owner) } else { entries[owner] = nil }
    }
}

extension CopyBook.Entry {
    fileprivate func hasEffect(at now: Timestamp) -> Bool {
        closedUntil.map { now < $0 } ?? false || words.values.contains { now < $0.until }
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
