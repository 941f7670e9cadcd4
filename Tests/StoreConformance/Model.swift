package import Addresses
package import IPAMModel
package import Ledger

/// What a store should hold, as plain dictionaries.
package struct Model {
    package var revision: UInt64 = 0
    package private(set) var pools: [String: Pool] = [:]
    package private(set) var bindings: [OwnerKey: Binding] = [:]
    package private(set) var freed: [IPAddress: FreedAddress] = [:]
    /// By revision.
    package private(set) var history: [UInt64: HistoryEntry] = [:]

    package init() {}

    package mutating func apply(_ change: Change) {
        switch change {
        case .putBinding(let binding): bindings[binding.owner.key] = binding
        case .removeBinding(let binding): bindings[binding.owner.key] = nil
        case .putFreed(let address): freed[address.address] = address
        case .removeFreed(let address): freed[address] = nil
        case .putPool(let pool): pools[pool.name] = pool
        case .removePool(let name): pools[name] = nil
        case .putHistory(let entry): history[entry.revision] = entry
        case .removeHistory(let entry): history[entry.revision] = nil
        }
    }

    /// What `snapshot` has otherwise, in words; nil where it is the same, in whatever order.
    package func difference(from snapshot: Snapshot) -> String? {
        guard snapshot.revision == revision else { return "revision \(snapshot.revision), not \(revision)" }
        return difference(of: snapshot.pools, from: pools, by: \.name)
            ?? difference(of: snapshot.bindings, from: bindings, by: \.owner.key)
            ?? difference(of: snapshot.freed, from: freed, by: \.address)
    }

    /// The same with the history.
    package func differenceWithHistory(from snapshot: Snapshot) -> String? {
        difference(from: snapshot) ?? difference(of: snapshot.history, from: history, by: \.revision)
    }

    private func difference<Key: Hashable, Value: Equatable>(
        of found: [Value], from expected: [Key: Value], by key: (Value) -> Key
    ) -> String? {
        guard found.count == expected.count else {
            return "\(found.count) \(Value.self)s, not \(expected.count)"
        }
        for value in found where expected[key(value)] != value {
            return "found \(value), expected \(expected[key(value)].map { "\($0)" } ?? "none")"
        }
        return nil
    }
}
