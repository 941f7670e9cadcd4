import IPAMModel
import Ledger
package import LedgerStore

/// What every store must do. Each check works on storage of its own and throws `Failure` where the store falls short.
package struct StoreConformance: Sendable {
    package struct Failure: Error, CustomStringConvertible {
        package var description: String
    }

    /// Opens one storage, each time it is called.
    package typealias Opener = () throws -> any LedgerStore

    private let newStorage: @Sendable () throws -> Opener

    /// `newStorage` makes an empty storage and returns what opens it.
    package init(newStorage: @escaping @Sendable () throws -> Opener) { self.newStorage = newStorage }

    package func aNewStoreIsEmpty() throws {
        let open = try newStorage()
        for _ in 0..<2 {
            let store = try open()
            defer { store.close() }
            try check(try store.load(), equals: Model(), "a new store")
        }
    }

    /// Random batches against a dictionary, read back before and after reopening at random points.
    package func aHistoryIsReadBackAsItWasCommitted(seed: UInt64, batches: Int) throws {
        var random = SeededGenerator(seed: seed)
        var history = RandomHistory()
        let open = try newStorage()
        var store = try open()
        defer { store.close() }
        for batch in 0..<batches {
            let changes = history.batch(using: &random)
            for _ in 0..<Int.random(in: 0..<3, using: &random) { store.getReady() }
            try store.commit(changes, revision: history.model.revision)
            if Int.random(in: 0..<8, using: &random) == 0 {
                if Bool.random(using: &random) { store.getReady() }
                store.close()
                store = try open()
            }
            if Int.random(in: 0..<4, using: &random) == 0 || batch == batches - 1 {
                try check(try store.loadWithHistory(), equals: history.model, "seed \(seed), batch \(batch)")
                try checkHistory(of: store, equals: history.model, "seed \(seed), batch \(batch)")
            }
        }
        store.close()
        store = try open()
        try check(try store.loadWithHistory(), equals: history.model, "seed \(seed), at the end")

        let other = try newStorage()()
        defer { other.close() }
        try other.fill(try store.loadWithHistory())
        try check(try other.loadWithHistory(), equals: history.model, "seed \(seed), filled")
    }

    /// Each address and each object finds its own, newest first, in pages.
    private func checkHistory(of store: any LedgerStore, equals model: Model, _ context: String) throws {
        let entries = model.history.values.sorted { $0.revision > $1.revision }
        let addresses = Set(entries.flatMap(\.addresses)).map(HistorySubject.address)
        let objects = Set(
            entries.map { HistorySubject.object(namespace: $0.owner.namespace, name: $0.owner.name) })
        for subject in addresses + objects {
            let expected = entries.filter { entry in
                switch subject {
                case .address(let address): entry.addresses.contains(address)
                case .object(let namespace, let name):
                    entry.owner.namespace == namespace && entry.owner.name == name
                }
            }
            var found: [HistoryEntry] = []
            while true {
                let page = try store.history(of: subject, before: found.last?.revision ?? .max, limit: 3)
                found += page
                if page.count < 3 { break }
            }
            if found != expected { throw Failure(description: "\(context): \(subject) has \(found), not \(expected)") }
        }
    }

    /// One batch in which an address is freed and given again, twice over: the last word counts.
    package func changesOfABatchTakeEffectInOrder() throws {
        let open = try newStorage()
        let store = try open()
        defer { store.close() }
        let (a, b) = (Example.binding(owner: 1, address: 7), Example.binding(owner: 2, address: 7))
        let freed = FreedAddress(
            address: a.assignments[0].address, pool: a.pool, lastOwner: a.owner, freedAt: a.updatedAt, revision: 3)
        let changes: [Change] = [
            .putBinding(a), .removeBinding(a), .putFreed(freed), .removeFreed(freed.address), .putBinding(b),
            .removeBinding(b), .putBinding(a),
        ]
        try store.commit(changes, revision: 7)
        var model = Model()
        for change in changes { model.apply(change) }
        model.revision = 7
        try check(try store.load(), equals: model, "one batch")
    }

    /// One batch of many bindings, in which one moves twice and others get its addresses: the last word counts.
    package func aBindingThatComesAgainInABatchMoves() throws {
        let open = try newStorage()
        let store = try open()
        defer { store.close() }
        let places = [
            (1, 10), (2, 11), (3, 12), (1, 13), (4, 10), (5, 14), (6, 15), (7, 16), (8, 17), (1, 18), (9, 13),
        ]
        let changes = places.map { Change.putBinding(Example.binding(owner: $0, address: $1)) }
        try store.commit(changes, revision: 1)
        var model = Model()
        for change in changes { model.apply(change) }
        model.revision = 1
        try check(try store.load(), equals: model, "one batch")
    }

    /// Promise 1, kept by the store itself: an address of another binding fails the whole batch, and what is stored stays
    /// as it was.
    package func aBatchThatBreaksUniquenessIsRefusedWhole() throws {
        let open = try newStorage()
        var store = try open()
        defer { store.close() }
        let holder = Example.binding(owner: 1, address: 7)
        try store.commit([.putBinding(holder)], revision: 1)
        var model = Model()
        model.apply(.putBinding(holder))
        model.revision = 1

        store.getReady()
        let (bystander, intruder) = (Example.binding(owner: 4, address: 11), Example.binding(owner: 2, address: 7))
        do {
            try store.commit([.putBinding(bystander), .putBinding(intruder)], revision: 2)
            throw Failure(description: "committed \(intruder) beside \(holder)")
        } catch is StoreError {}
        // Whoever wanted it does not know the ledger as it is, and may have to read it first.
        store.close()
        store = try open()
        try check(try store.load(), equals: model, "after the refusal")
        store.getReady()
        let later = Example.binding(owner: 2, address: 8)
        try store.commit([.putBinding(later)], revision: 2)
        model.apply(.putBinding(later))
        model.revision = 2
        store.close()
        store = try open()
        try check(try store.load(), equals: model, "after the refusal, a commit and reopening")
    }

    package func aClosedStoreTakesNothing() throws {
        let open = try newStorage()
        let store = try open()
        store.close()
        store.close()
        store.getReady()
        do {
            try store.commit([.putBinding(Example.binding(owner: 1, address: 7))], revision: 1)
            throw Failure(description: "a closed store took a commit")
        } catch is StoreError {}
        let again = try open()
        defer { again.close() }
        try check(try again.load(), equals: Model(), "after a commit to a closed store")
    }

    private func check(_ found: Snapshot, equals expected: Model, _ context: String) throws {
        if let difference = found.history.isEmpty && expected.history.isEmpty
            ? expected.difference(from: found) : expected.differenceWithHistory(from: found)
        {
            throw Failure(description: "\(context): \(difference)")
        }
    }
}
