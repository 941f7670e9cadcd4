package import IPAMModel
package import Ledger
package import LedgerStore
import Logging
import RPC
import Synchronization

/// The store of a server while it leads: from its election to the end of its lease, and never again after.
///
/// Every transaction compares two things. The creation revision of the leader's key, which no other term has: a server
/// that has lost its lease cannot write, however late its packet comes, and whatever it believes. And the modification
/// revision of `revision`, which every commit writes: a packet takes effect once at most, and one that was given up is
/// made void by whichever transaction comes next. So what became of a commit without an answer can always be found out.
package final class EtcdTenure: LedgerStore {
    /// What the last commit left.
    struct Known: Sendable {
        var mark: EtcdMark
        /// The modification revision of `EtcdKeys.revision`; 0 while there is none.
        var lastCommit: Int64
        var held: HeldAddresses
        /// Of the last mark that this term has made, whatever became of it.
        var lastStep = 0

        /// For a transaction that leaves the ledger at `revision`, nil: at the one that it has. No two are alike.
        mutating func nextMark(_ revision: UInt64? = nil, journalParts: Int? = nil, by term: UInt64) -> EtcdMark {
            lastStep += 1
            return EtcdMark(
                revision: revision ?? mark.revision, journalParts: journalParts ?? mark.journalParts, step: lastStep,
                term: term)
        }
    }

    /// What one transaction has room for, each address being a comparison beside the fence's two, and each change a few
    /// operations. A transaction is dear, whatever is in it, so that waiting for more to put into it pays.
    static let mostAtOnce = Batching(mostChanges: 500, mostAddresses: 112, patience: 0.25)
    package var batching: Batching { Self.mostAtOnce }

    let client: EtcdClient
    let keys: EtcdKeys
    /// The creation revision of the leader's key.
    let term: Int64
    let lease: EtcdLease
    /// `EtcdMark.term` of this one.
    private let lot = UInt64.random(in: 1...UInt64(UInt32.max))
    private let known: Mutex<Known>
    /// What makes a ledger of what `fill` has written.
    private let filled = Mutex<EtcdMark?>(nil)
    private let ownsClient: Bool
    private let logger: Logger?

    init(
        _ client: EtcdClient, _ keys: EtcdKeys, term: Int64, lease: EtcdLease, known: Known, ownsClient: Bool = false,
        logger: Logger? = nil
    ) {
        self.ownsClient = ownsClient
        self.logger = logger
        self.client = client
        self.keys = keys
        self.term = term
        self.lease = lease
        self.known = Mutex(known)
    }

    package func load() throws(StoreError) -> Snapshot {
        try read { try $0.read(copy: filled.withLock(\.self)).snapshot }
    }

    package func history(
        of subject: HistorySubject, before revision: UInt64, limit: Int
    ) throws(StoreError) -> [HistoryEntry] {
        try read { try $0.history(of: subject, before: revision, limit: limit) }
    }

    package func history(after revision: UInt64, limit: Int) throws(StoreError) -> [HistoryEntry] {
        try read { try $0.history(after: revision, limit: limit) }
    }

    private func read<Value>(_ body: (EtcdReader) throws -> Value) throws(StoreError) -> Value {
        do {
            return try body(EtcdReader(client: client, keys: keys))
        } catch {
            throw StoreError(etcd: error)
        }
    }

    package func checkIsCurrent() throws(StoreError) {
        if !lease.isHeld { throw .notLeader(nil) }
    }

    package func commit(_ changes: [Change], revision: UInt64) throws(StoreError) {
        try known.withLock { known throws(StoreError) in
            try checkIsCurrent()
            let plan = try CommitPlan(changes, keys: keys, before: known.held)
            let mark = known.nextMark(revision, by: lot)
            let transaction = EtcdTransaction(
                comparisons: fence(known) + plan.unheld.map { .createRevision(of: $0, 0) },
                success: plan.operations + [.put(keys.revision, mark.bytes)], failure: evidence)
            if transaction.fits {
                try decide(transaction, leadingTo: mark, &known)
            } else {
                try commitThroughJournal(plan, revision, &known)
            }
            for (id, addresses) in plan.held { known.held[id] = addresses }
        }
    }

    /// Of the last commit.
    var revision: UInt64 { known.withLock(\.mark.revision) }

    package func close() {
        lease.giveUp()
        guard ownsClient else { return }
        lease.waitUntilLost()
        Task { [client] in await client.close() }
    }

    // MARK: One transaction

    private func fence(_ known: Known) -> [EtcdComparison] {
        [.createRevision(of: keys.leader, term), .modRevision(of: keys.revision, known.lastCommit)]
    }

    /// What says why a comparison failed.
    private var evidence: [EtcdOperation] { [.get(keys.leader), .get(keys.revision)] }

    /// Runs a transaction that writes `mark` if it takes effect, and returns once it is certain that it did. Throws once
    /// it is certain that it did not and never will, or that this server leads no longer.
    private func decide(
        _ transaction: EtcdTransaction, leadingTo mark: EtcdMark, _ known: inout Known
    ) throws(StoreError) {
        let answer: EtcdTransactionAnswer
        do throws(RPCStatus) {
            answer = try client.commit(transaction, timeout: lease.patience)
        } catch {
            if error.saysThatNothingHappened { throw StoreError(etcd: error) }
            return try findOut(mark, &known, because: error)
        }
        if answer.succeeded {
            known.mark = mark
            known.lastCommit = answer.revision
            return
        }
        let found = try checkFence(answer)
        guard found?.modRevision ?? 0 == known.lastCommit else {
            lease.giveUp()
            throw StoreError(.failed, "somebody else has changed \(keys.revision) in etcd: this server leads no longer")
        }
        // So what is in memory is not what is in etcd: it is read anew by whoever leads next.
        let taken = takenKeys(transaction).joined(separator: ", ")
        lease.giveUp()
        throw StoreError(
            .failed,
            "an address of this change is in another binding already (\(taken)): nothing was changed, and this server "
                + "leads no longer")
    }

    /// Of the keys that were to be there not yet, those that are.
    private func takenKeys(_ transaction: EtcdTransaction) -> [String] {
        let reads = transaction.comparisons.compactMap { comparison in
            if case .createRevision(let key, 0) = comparison { EtcdOperation.get(key) } else { nil }
        }
        let answer = try? client.commit(EtcdTransaction(success: reads), timeout: lease.patience)
        return answer?.found.compactMap { $0?.key } ?? []
    }

    /// After a transaction of which it is not known whether it has taken effect. One that was not answered is made void by
    /// writing the old mark again, if it has not taken effect by then. One that found etcd full was decided with its answer,
    /// and is looked for; so is one that an etcd that takes no writes lets nobody make void: should it take effect after all,
    /// the next fence ends this term. Gives up with the lease: then another server finds out.
    private func findOut(_ mark: EtcdMark, _ known: inout Known, because error: RPCStatus) throws(StoreError) {
        var error = error
        let toldAt = ContinuousClock.now + lease.patience
        var isTold = false
        while lease.isHeld {
            let answer: EtcdTransactionAnswer
            do throws(RPCStatus) {
                answer =
                    try error.saysThatNothingIsWritten
                    ? look()
                    : client.commit(
                        EtcdTransaction(
                            comparisons: fence(known), success: [.put(keys.revision, known.mark.bytes)],
                            failure: evidence), timeout: lease.patience)
            } catch let refusal {
                if refusal.saysThatNothingIsWritten { error = refusal }
                if !isTold, ContinuousClock.now > toldAt {
                    logger?.error(
                        "it is not known whether a commit has taken effect: no other is taken until it is",
                        metadata: ["error": "\(StoreError(etcd: refusal))"])
                    isTold = true
                }
                lease.pause()
                continue
            }
            let failure =
                error.saysThatNothingIsWritten
                ? StoreError(etcd: error)
                : StoreError(.failed, "etcd did not take the change in time: nothing was changed")
            if answer.succeeded {
                known.lastCommit = answer.revision
                throw failure
            }
            let current = try checkFence(answer)
            if current?.modRevision ?? 0 == known.lastCommit { throw failure }
            guard let found = current else { break }
            let foundMark = try EtcdMark(found)
            // Either the transaction's own, or that of an attempt to find out whose answer was lost too.
            known.lastCommit = found.modRevision
            if foundMark == mark {
                known.mark = mark
                return
            }
            guard foundMark == known.mark else { break }
            throw failure
        }
        lease.giveUp()
        throw .notLeader(nil)
    }

    /// What `evidence` shows, by reads alone: a full etcd refuses even transactions that write nothing (etcd issue 13429).
    private func look() throws(RPCStatus) -> EtcdTransactionAnswer {
        let revision = try client.range(from: keys.revision, timeout: lease.patience)
        let leader = try client.range(from: keys.leader, revision: revision.revision, timeout: lease.patience)
        return EtcdTransactionAnswer(
            found: [leader.entries.first, revision.entries.first], revision: revision.revision)
    }

    /// The present `revision`; throws `.notLeader` where the leader's key is not this term's.
    private func checkFence(_ answer: EtcdTransactionAnswer) throws(StoreError) -> EtcdEntry? {
        guard answer.found.count == 2, let leader = answer.found[0], leader.createRevision == term else {
            lease.giveUp()
            throw .notLeader(answer.found.first.flatMap { $0?.text })
        }
        return answer.found[1]
    }

    // MARK: Larger commits

    private func commitThroughJournal(
        _ plan: CommitPlan, _ revision: UInt64, _ known: inout Known
    ) throws(StoreError) {
        // Refused by etcd before anything is decided. The fence keeps it true until then: nobody else gives addresses.
        for start in stride(from: 0, to: plan.unheld.count, by: EtcdTransaction.limit / 2) {
            let some = plan.unheld[start..<min(start + EtcdTransaction.limit / 2, plan.unheld.count)]
            let next = known.nextMark(by: lot)
            let check = EtcdTransaction(
                comparisons: fence(known) + some.map { .createRevision(of: $0, 0) },
                success: [.put(keys.revision, next.bytes)], failure: evidence)
            try decide(check, leadingTo: next, &known)
        }
        let parts = EtcdJournal.parts(of: plan.operations)
        do throws(StoreError) {
            for (index, part) in parts.enumerated() {
                let next = known.nextMark(by: lot)
                let note = EtcdTransaction(
                    comparisons: fence(known),
                    success: [
                        .put(keys.journal(index + 1), EtcdJournal.bytes(of: part)), .put(keys.revision, next.bytes),
                    ], failure: evidence)
                try decide(note, leadingTo: next, &known)
            }
            let open = known.nextMark(revision, journalParts: parts.count, by: lot)
            try decide(
                EtcdTransaction(
                    comparisons: fence(known), success: [.put(keys.revision, open.bytes)], failure: evidence),
                leadingTo: open, &known)
        } catch {
            dropJournal(&known)
            throw error
        }
        try finish(parts, &known)
    }

    private var journalsEnd: EtcdOperation { .deleteRange(from: keys.journal, to: EtcdKeys.end(of: keys.journal)) }

    /// Of a commit that is no fact: it may have filled etcd, so that it is deleted as what is owed is written. Where that
    /// fails the next leader does it.
    private func dropJournal(_ known: inout Known) {
        guard lease.isHeld else { return }
        let next = known.nextMark(by: lot)
        try? decide(
            EtcdTransaction(
                comparisons: fence(known), success: [journalsEnd, .put(keys.revision, next.bytes)],
                failure: evidence, isOwed: true), leadingTo: next, &known)
    }

    /// Does what the journal says and is a fact already: until it is done, or this server leads no longer.
    private func finish(_ parts: [[EtcdOperation]], _ known: inout Known) throws(StoreError) {
        for part in parts { try insist(part, leadingTo: known.nextMark(by: lot), &known) }
        try insist([journalsEnd], leadingTo: known.nextMark(journalParts: 0, by: lot), &known)
    }

    private func insist(
        _ operations: [EtcdOperation], leadingTo mark: EtcdMark, _ known: inout Known
    ) throws(StoreError) {
        var isTold = false
        while true {
            do throws(StoreError) {
                return try decide(
                    EtcdTransaction(
                        comparisons: fence(known), success: operations + [.put(keys.revision, mark.bytes)],
                        failure: evidence, isOwed: true), leadingTo: mark, &known)
            } catch {
                guard lease.isHeld else { throw .notLeader(nil) }
                if !isTold {
                    logger?.error(
                        "a commit is in etcd's journal and cannot be written out: no other is taken until it can",
                        metadata: ["error": "\(error)"])
                }
                isTold = true
                lease.pause()
            }
        }
    }

    /// Writes changes of an empty ledger in as many transactions as it takes, and no revision.
    func fill(_ changes: [Change], revision: UInt64) throws(StoreError) {
        try known.withLock { known throws(StoreError) in
            guard known.mark.revision == 0 else {
                throw StoreError(.inUse, "There is a ledger in etcd already (\(keys.revision)): nothing was copied.")
            }
            let plan = try CommitPlan(changes, keys: keys, before: known.held)
            for part in EtcdJournal.parts(of: plan.operations) {
                let answer: EtcdTransactionAnswer
                do throws(RPCStatus) {
                    answer = try client.commit(
                        EtcdTransaction(comparisons: fence(known), success: part, failure: evidence),
                        timeout: .seconds(10))
                } catch { throw StoreError(etcd: error) }
                guard answer.succeeded else { throw .notLeader(nil) }
            }
            for (id, addresses) in plan.held { known.held[id] = addresses }
            let mark = known.nextMark(revision, by: lot)
            filled.withLock { $0 = mark }
        }
    }

    /// Writes the revision of what was filled.
    func beginFilled() throws(StoreError) {
        guard let mark = filled.withLock(\.self) else { return }
        try known.withLock { known throws(StoreError) in
            try decide(
                EtcdTransaction(
                    comparisons: fence(known), success: [.put(keys.revision, mark.bytes)], failure: evidence),
                leadingTo: mark, &known)
        }
    }

    /// Does the rest of a commit that an earlier leader could not finish, and deletes what is left of one that never was.
    func finishJournal(_ operations: [EtcdOperation]) throws(StoreError) {
        try known.withLock { known throws(StoreError) in
            if known.mark.journalParts > 0 { return try finish(EtcdJournal.parts(of: operations), &known) }
            let left = try? client.range(
                from: keys.journal, to: EtcdKeys.end(of: keys.journal), limit: 1, timeout: lease.patience)
            if left?.entries.isEmpty == false { dropJournal(&known) }
        }
    }
}
