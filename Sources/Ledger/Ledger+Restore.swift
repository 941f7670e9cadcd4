package import IPAMModel

// A ledger that comes from a backup does not know what was given after that was made.
extension Ledger {
    /// Nothing of it is lost where another takes its place, but for pools and what was.
    package var hasNoBindings: Bool {
        slots.count == vacantSlots.count
            && spaces.allSatisfy { $0?.prefixes.allSatisfy { $0.freed.isEmpty } ?? true }
    }

    /// Until its reuse delay has passed, no pool chooses an address for anybody: whoever has one that is not known here is
    /// there to ask for it by name. Returns when the last pool does again.
    package mutating func holdUnknown(at now: Timestamp) -> Timestamp {
        restoredAt = now
        var last = now
        for index in spaces.indices {
            guard let delay = spaces[index]?.pool.reuseDelay else { continue }
            let until = now.advanced(by: delay)
            spaces[index]?.choosesFrom = until
            last = max(last, until)
        }
        return last
    }
}
