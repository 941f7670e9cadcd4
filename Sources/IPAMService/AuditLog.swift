import Addresses
import IPAMModel
import Ledger
package import Logging
import Synchronization

/// A log line for each durable change: who asked for it, what it was, for which owner. The thread that commits only leaves
/// the changes here; they are put into words by another.
package final class AuditLog: Sendable {
    /// One command's changes.
    struct Deed: Sendable {
        var caller: String
        var command: Command
        var changes: ArraySlice<Change>
    }

    /// Batches that wait at most: what a log that stands still for long would take of the memory.
    private static let waitingBatches = 4096

    private let logger: Logger
    private let batches: AsyncStream<[Deed]>
    private let waiting: AsyncStream<[Deed]>.Continuation
    private let lost = Atomic(0)

    /// Nil where `logger` takes no lines of level info.
    package init?(_ logger: Logger) {
        guard logger.logLevel <= .info else { return nil }
        self.logger = logger
        (batches, waiting) = AsyncStream.makeStream(
            of: [Deed].self, bufferingPolicy: .bufferingOldest(Self.waitingBatches))
    }

    func tell(_ deeds: [Deed]) {
        if case .dropped = waiting.yield(deeds) { lost.wrappingAdd(deeds.count, ordering: .relaxed) }
    }

    /// Returns once it is closed and all is written.
    func run() async {
        for await deeds in batches {
            for deed in deeds { logger.info("\(deed.verb)", metadata: deed.metadata) }
            let lost = lost.exchange(0, ordering: .relaxed)
            if lost > 0 {
                logger.error(
                    "changes were not logged: the log is too slow; see `holdfast history`",
                    metadata: ["changes": "\(lost)"])
            }
        }
    }

    /// Nothing comes any more.
    func close() { waiting.finish() }
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
        case .allocate(let request):
            if let binding, binding.id == binding.revision { return "allocated" }
            return request.attachment == nil || past == nil ? "changed" : "attached"
        case .release: return past == nil ? "changed" : "detached"
        case .transfer(let request):
            switch request.phase {
            case .prepare: return "migration prepared"
            case .commit: return past?.end == .transferred ? "transferred" : "migration committed"
            case .abort: return "migration aborted"
            }
        case .renewCopies: return "changed"
        case .createPool: return "pool created"
        case .updatePool: return "pool updated"
        case .deletePool: return "pool deleted"
        }
    }

    fileprivate var metadata: Logger.Metadata {
        var metadata: Logger.Metadata = ["caller": "\(caller)"]
        switch command {
        case .createPool(let pool), .updatePool(let pool):
            metadata["pool"] = "\(pool.name)"
            return metadata
        case .deletePool(let name):
            metadata["pool"] = "\(name)"
            return metadata
        default: break
        }
        guard let binding else { return metadata }
        metadata["owner"] = "\(binding.owner.key)"
        metadata["addresses"] = "\(binding.assignments.map(\.address.description).joined(separator: ","))"
        metadata["pool"] = "\(binding.pool)"
        metadata["revision"] = "\(binding.revision)"
        if let active = binding.active {
            metadata["node"] = "\(active.node)"
            metadata["pod"] = "\(active.pod)"
        } else if let past, !past.node.isEmpty {
            metadata["node"] = "\(past.node)"
            metadata["pod"] = "\(past.pod)"
        }
        if let past, past.end == .transferred { metadata["from"] = "\(past.owner.key)" }
        if let past, past.end == .readdressed {
            metadata["before"] = "\(past.addresses.map(\.description).joined(separator: ","))"
        }
        if case .transfer(let request) = command { metadata["migration"] = "\(request.migrationUID)" }
        if let target = binding.target { metadata["target"] = "\(target.node)/\(target.pod)" }
        return metadata
    }
}
