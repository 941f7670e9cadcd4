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
            bytes += #"{"time":""#.utf8
            bytes += time.utf8
            bytes += #"","level":"info","logger":"audit","message":""#.utf8
        } else {
            bytes += time.utf8
            bytes += " info audit: ".utf8
        }
        add(verb)
    }

    mutating func field(_ key: String, _ value: String) {
        begin(field: key)
        add(value)
    }

    mutating func field(_ key: String, _ addresses: some Sequence<IPAddress>) {
        begin(field: key)
        var isFirst = true
        for address in addresses {
            if !isFirst { bytes.append(UInt8(ascii: ",")) }
            isFirst = false
            add(address.description)
        }
    }

    private mutating func begin(field key: String) {
        bytes += (isJSON ? #"",""# : " ").utf8
        bytes += key.utf8
        bytes += (isJSON ? #"":""# : "=").utf8
    }

    mutating func end() { bytes += (isJSON ? "\"}\n" : "\n").utf8 }

    /// As a JSON string has it (RFC 8259, section 7), in text too: so nothing that a caller sends begins a line of its own.
    private mutating func add(_ text: String) {
        func isPlain(_ byte: UInt8) -> Bool {
            byte >= 0x20 && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "\\")
        }
        if text.utf8.allSatisfy(isPlain) {
            bytes += text.utf8
            return
        }
        for byte in text.utf8 {
            if isPlain(byte) {
                bytes.append(byte)
            } else if byte >= 0x20 {
                bytes += [UInt8(ascii: "\\"), byte]
            } else {
                bytes += (byte < 16 ? "\\u000" : "\\u00").utf8
                bytes += String(byte, radix: 16).utf8
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
        field("owner", "\(binding.owner.key)")
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
        if let target = binding.target { field("target", "\(target.node)/\(target.pod)") }
        if let past = sum.past, past.end == .transferred { field("from", "\(past.owner.key)") }
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
            return past?.end.map { "\($0)" } ?? "changed"
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
