import Addresses
import Dispatch
import IPAMModel
import Ledger
import Synchronization

/// A log line for each durable change: who asked for it, what it was, for which owner. The thread that commits only leaves
/// the changes here; they are put into words by another.
package final class AuditLog: Sendable {
    /// One command's changes.
    struct Deed: Sendable {
        var caller: String
        /// Empty where the caller sent none.
        var traceID: String
        var command: Command
        var changes: ArraySlice<Change>
    }

    /// Deeds that wait at most: what a log that stands still for long would take of the memory.
    static let mostWaiting = 32_768
    /// For what waits at the end: who reads the log may have gone.
    private static let patience = DispatchTimeInterval.seconds(5)

    private let isJSON: Bool
    private let write: @Sendable ([UInt8]) -> Void
    /// A thread of its own, for it may stand still.
    private let queue = DispatchQueue(label: "holdfast.audit")
    private let waiting = Atomic(0)
    private let lost = Atomic(0)

    /// `write` gets whole lines, of text or of JSON: as the program's log has them, but put together here, at a quarter of
    /// what a logger's metadata costs for each change.
    package init(isJSON: Bool, write: @escaping @Sendable ([UInt8]) -> Void) {
        self.isJSON = isJSON
        self.write = write
    }

    func tell(_ deeds: [Deed], at time: Timestamp) {
        guard waiting.wrappingAdd(deeds.count, ordering: .relaxed).newValue <= Self.mostWaiting else {
            waiting.wrappingSubtract(deeds.count, ordering: .relaxed)
            lost.wrappingAdd(deeds.count, ordering: .relaxed)
            return
        }
        queue.async { [self] in
            put(deeds, at: time.description)
            waiting.wrappingSubtract(deeds.count, ordering: .relaxed)
        }
    }

    /// Returns once all is written, or nobody takes it.
    func close() {
        let written = DispatchSemaphore(value: 0)
        queue.async { written.signal() }
        _ = written.wait(timeout: .now() + Self.patience)
    }

    private func put(_ deeds: [Deed], at time: String) {
        var lines = AuditLines(isJSON: isJSON, time: time, capacity: deeds.count)
        for deed in deeds { lines.add(deed) }
        let lost = lost.exchange(0, ordering: .relaxed)
        if lost > 0 {
            lines.begin("changes are missing here, as this log was too slow: `holdfast history` has them")
            lines.field("changes", "\(lost)")
            lines.end()
        }
        write(lines.bytes)
    }
}

/// Lines as they are put together, in place: nothing is made of a change but its bytes.
private struct AuditLines {
    private static let usualLength = 320
    /// Of one byte: `\u001f`.
    private static let longestEscape = 6

    private let isJSON: Bool
    private let time: String
    private(set) var bytes: [UInt8] = []

    /// For about `capacity` lines.
    init(isJSON: Bool, time: String, capacity: Int) {
        self.isJSON = isJSON
        self.time = time
        bytes.reserveCapacity(capacity * Self.usualLength)
    }

    mutating func begin(_ verb: String) {
        if isJSON {
            add(raw: #"{"time":""#)
            add(raw: time)
            add(raw: #"","level":"info","logger":"audit","message":""#)
        } else {
            add(raw: time)
            add(raw: " info audit: ")
        }
        add(verb)
    }

    mutating func field(_ key: String, _ parts: String...) {
        begin(field: key)
        for part in parts { add(part) }
    }

    /// In the words of `OwnerKey.description`, of which no string is made first.
    mutating func field(_ key: String, _ owner: Owner) {
        begin(field: key)
        add(owner.kind == .virtualMachine ? "vm " : "pod ")
        add(owner.namespace)
        add("/")
        add(owner.name)
        add(" (")
        add(owner.network)
        add(")")
    }

    mutating func field(_ key: String, _ addresses: some Sequence<IPAddress>) {
        begin(field: key)
        var isFirst = true
        for address in addresses {
            if !isFirst { add(raw: ",") }
            isFirst = false
            bytes.append(addingCapacity: IPAddress.mostText) { address.write(to: &$0) }
        }
    }

    private mutating func begin(field key: String) {
        add(raw: isJSON ? #"",""# : " ")
        add(raw: key)
        add(raw: isJSON ? #"":""# : "=")
    }

    mutating func end() { add(raw: isJSON ? "\"}\n" : "\n") }

    private mutating func add(raw text: String) {
        let text = text.utf8Span.span
        bytes.append(addingCapacity: text.count) { line in
            for index in text.indices { line.append(text[index]) }
        }
    }

    /// As a JSON string has it (RFC 8259, section 7), in text too: so nothing that a caller sends begins a line of its own.
    private mutating func add(_ text: String) {
        let text = text.utf8Span.span
        bytes.append(addingCapacity: Self.longestEscape * text.count) { line in
            for index in text.indices {
                let byte = text[index]
                if byte < 0x20 {
                    for part in #"\u00"#.utf8 { line.append(part) }
                    line.append(digit: byte >> 4)
                    line.append(digit: byte & 15)
                } else {
                    if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { line.append(UInt8(ascii: "\\")) }
                    line.append(byte)
                }
            }
        }
    }
}

extension AuditLines {
    mutating func add(_ deed: AuditLog.Deed) {
        let sum = DeedSum(deed.changes)
        begin(sum.verb(of: deed.command))
        defer { end() }
        field("caller", deed.caller)
        if !deed.traceID.isEmpty { field("trace_id", deed.traceID) }
        switch deed.command {
        case .createPool(let pool), .updatePool(let pool, _): return field("pool", pool.name)
        case .deletePool(let name): return field("pool", name)
        default: break
        }
        guard let binding = sum.binding else { return }
        field("owner", binding.owner)
        field("addresses", binding.assignments.lazy.map(\.address))
        field("pool", binding.pool)
        if let active = binding.active {
            field("node", active.node)
            field("pod", active.pod)
        } else if let past = sum.past, !past.node.isEmpty {
            field("node", past.node)
            field("pod", past.pod)
        }
        if case .transfer(let request) = deed.command { field("migration", request.migrationUID) }
        if let target = binding.target { field("target", target.node, "/", target.pod) }
        if let past = sum.past, past.end == .transferred { field("from", past.owner) }
        if let past = sum.past, past.end == .readdressed { field("before", past.addresses) }
        field("revision", "\(binding.revision)")
    }
}

/// What a command's changes come to.
private struct DeedSum {
    /// As it is now, or as it was when it was freed.
    private(set) var binding: Binding?
    /// What was, where that came to an end.
    private(set) var past: HistoryEntry?
    private var isPut = false
    private var isRemoved = false

    init(_ changes: ArraySlice<Change>) {
        for change in changes {
            switch change {
            case .putBinding(let put): (binding, isPut) = (put, true)
            case .removeBinding(let removed): (binding, isRemoved) = (removed, true)
            case .putHistory(let entry): past = past ?? entry
            default: continue
            }
        }
    }

    func verb(of command: Command) -> String {
        if isRemoved, !isPut { return "freed" }
        switch command {
        case .allocate, .release, .renewCopies:
            if let binding, binding.id == binding.revision { return "allocated" }
            return past?.end?.word ?? "changed"
        case .transfer(let request):
            switch request.phase {
            case .prepare: return "migration prepared"
            case .commit: return past?.end == .transferred ? "transferred" : "migration committed"
            case .abort: return "migration aborted"
            }
        case .createPool: return "pool created"
        case .updatePool: return "pool updated"
        case .deletePool: return "pool deleted"
        }
    }
}
