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
        var lines: [UInt8] = []
        for deed in deeds { append(deed.verb, deed.fields, time, to: &lines) }
        let lost = lost.exchange(0, ordering: .relaxed)
        if lost > 0 {
            let message = "changes are missing here, as this log was too slow: `holdfast history` has them"
            append(message, [("changes", "\(lost)")], time, to: &lines)
        }
        write(lines)
    }

    private func append(
        _ verb: String, _ fields: [(key: String, value: String)], _ time: String, to lines: inout [UInt8]
    ) {
        if isJSON {
            lines += #"{"time":""#.utf8
            lines += time.utf8
            lines += #"","level":"info","logger":"audit","message":""#.utf8
            Self.append(verb, to: &lines)
            for (key, value) in fields {
                lines += #"",""#.utf8
                lines += key.utf8
                lines += #"":""#.utf8
                Self.append(value, to: &lines)
            }
            lines += "\"}\n".utf8
        } else {
            lines += time.utf8
            lines += " info audit: ".utf8
            Self.append(verb, to: &lines)
            for (key, value) in fields {
                lines.append(UInt8(ascii: " "))
                lines += key.utf8
                lines.append(UInt8(ascii: "="))
                Self.append(value, to: &lines)
            }
            lines.append(UInt8(ascii: "\n"))
        }
    }

    /// As a JSON string has it (RFC 8259, section 7), in text too: so nothing that a caller sends begins a line of its own.
    private static func append(_ text: String, to lines: inout [UInt8]) {
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): lines += [UInt8(ascii: "\\"), byte]
            case ..<0x20:
                let digits = String(byte, radix: 16)
                lines += (byte < 16 ? "\\u000" : "\\u00").utf8
                lines += digits.utf8
            default: lines.append(byte)
            }
        }
    }
}

extension AuditLog.Deed {
    /// The binding as it is now, or as it was when it was freed.
    private var binding: Binding? {
        for change in changes.reversed() {
            switch change {
            case .putBinding(let binding), .removeBinding(let binding): return binding
            default: continue
            }
        }
        return nil
    }

    private var isFreed: Bool {
        changes.contains { if case .removeBinding = $0 { true } else { false } }
            && !changes.contains { if case .putBinding = $0 { true } else { false } }
    }

    /// What was, where that came to an end.
    private var past: HistoryEntry? {
        for case .putHistory(let entry) in changes { return entry }
        return nil
    }

    fileprivate var verb: String {
        if isFreed { return "freed" }
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

    fileprivate var fields: [(key: String, value: String)] {
        var fields = [("caller", caller)]
        if !traceID.isEmpty { fields.append(("trace_id", traceID)) }
        switch command {
        case .createPool(let pool), .updatePool(let pool, _): return fields + [("pool", pool.name)]
        case .deletePool(let name): return fields + [("pool", name)]
        default: break
        }
        guard let binding else { return fields }
        func text(_ addresses: some Sequence<IPAddress>) -> String {
            addresses.map(\.description).joined(separator: ",")
        }
        fields += [
            ("owner", "\(binding.owner.key)"), ("addresses", text(binding.assignments.lazy.map(\.address))),
            ("pool", binding.pool),
        ]
        if let active = binding.active {
            fields += [("node", active.node), ("pod", active.pod)]
        } else if let past, !past.node.isEmpty {
            fields += [("node", past.node), ("pod", past.pod)]
        }
        if case .transfer(let request) = command { fields.append(("migration", request.migrationUID)) }
        if let target = binding.target { fields.append(("target", "\(target.node)/\(target.pod)")) }
        if let past, past.end == .transferred { fields.append(("from", "\(past.owner.key)")) }
        if let past, past.end == .readdressed { fields.append(("before", text(past.addresses))) }
        fields.append(("revision", "\(binding.revision)"))
        return fields
    }
}
