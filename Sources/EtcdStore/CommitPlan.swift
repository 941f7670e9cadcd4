import Addresses
import IPAMModel
import Ledger
import LedgerStore

/// What a batch of changes comes to in etcd: every key once, with its last value.
struct CommitPlan {
    let operations: [EtcdOperation]
    /// The keys of addresses that nobody has before this commit.
    let unheld: [String]
    /// Which addresses the bindings have after it.
    let held: [UInt64: [IPAddress]]

    /// Throws `.failed` where two bindings would have one address.
    init(_ changes: [Change], keys: EtcdKeys, before: HeldAddresses) throws(StoreError) {
        var holders = Holders(before: before)
        var places: [String: Int] = [:]
        places.reserveCapacity(2 * changes.count)
        var operations: [EtcdOperation] = []
        operations.reserveCapacity(2 * changes.count)
        func add(_ operation: EtcdOperation) {
            if let place = places.updateValue(operations.count, forKey: operation.key) {
                places[operation.key] = place
                operations[place] = operation
            } else {
                operations.append(operation)
            }
        }
        for change in changes {
            switch change {
            case .putBinding(let binding):
                let (lost, won) = try holders.give(binding.assignments.map(\.address), to: binding.id)
                for address in lost { add(.delete(keys.address(address))) }
                let owner = won.isEmpty ? [] : Array(binding.owner.key.description.utf8)
                for address in won { add(.put(keys.address(address), owner)) }
                add(.put(keys.binding(binding.owner.key), StoredRecord.bytes(binding)))
            case .removeBinding(let binding):
                for address in try holders.give([], to: binding.id).lost { add(.delete(keys.address(address))) }
                add(.delete(keys.binding(binding.owner.key)))
            case .putFreed(let freed): add(.put(keys.freed(freed.address), StoredRecord.bytes(freed)))
            case .removeFreed(let address): add(.delete(keys.freed(address)))
            case .putPool(let pool): add(.put(keys.pool(pool.name), StoredRecord.bytes(pool)))
            case .removePool(let name): add(.delete(keys.pool(name)))
            case .putHistory(let entry):
                add(.put(keys.history(entry.revision), StoredRecord.bytes(entry)))
                for key in keys.historyIndex(entry) { add(.put(key, [])) }
            case .removeHistory(let entry):
                add(.delete(keys.history(entry.revision)))
                for key in keys.historyIndex(entry) { add(.delete(key)) }
            }
        }
        self.operations = operations
        unheld = holders.newlyHeld.map(keys.address)
        held = holders.held
    }
}

/// Who has which address in the course of a batch.
private struct Holders {
    let before: HeldAddresses
    /// Of the bindings that the batch touches.
    private(set) var held: [UInt64: [IPAddress]] = [:]
    private var holder: [IPAddress: UInt64] = [:]
    private var heldBefore: Set<IPAddress> = []

    init(before: HeldAddresses) { self.before = before }

    var newlyHeld: [IPAddress] { holder.keys.filter { !heldBefore.contains($0) } }

    /// Throws `.failed` where another binding has one of them.
    mutating func give(
        _ new: [IPAddress], to id: UInt64
    ) throws(StoreError) -> (lost: [IPAddress], won: [IPAddress]) {
        if held[id] == nil {
            for address in before[id] {
                if holder.updateValue(id, forKey: address) != nil { throw Self.taken(address) }
                heldBefore.insert(address)
            }
        }
        let old = held[id] ?? before[id]
        let (lost, won) = (old.filter { !new.contains($0) }, new.filter { !old.contains($0) })
        for address in lost { holder[address] = nil }
        for address in won {
            if holder.updateValue(id, forKey: address) != nil { throw Self.taken(address) }
        }
        held[id] = new
        return (lost, won)
    }

    private static func taken(_ address: IPAddress) -> StoreError {
        StoreError(.failed, "\(address) would be in two bindings: nothing was changed")
    }
}
