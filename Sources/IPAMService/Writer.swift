import Dispatch
package import IPAMModel
package import Ledger
package import LedgerStore
package import Logging
import RPC
import Synchronization
import Telemetry

/// The one place where the ledger changes. It takes all waiting commands as a batch, applies each to the ledger in
/// memory, makes the batch's changes durable in one store commit, and only then answers every command of the batch
/// (promise 3). So one fsync serves as many calls as were waiting, and no call waits for more than two, unless more wait
/// than one batch takes: see `CommandQueue`.
///
/// Reads take the last committed state, also while a commit is under way.
package final class Writer: Sendable {
    package typealias Completion = @Sendable (Result<Answer, IPAMError>) -> Void

    /// A class, because a batch goes through many hands and a command has many strings.
    private final class Waiting: Sendable {
        let command: Command
        let caller: Caller
        let complete: Completion

        init(_ command: consuming Command, by caller: consuming Caller, _ complete: @escaping Completion) {
            self.command = command
            self.caller = caller
            self.complete = complete
        }
    }

    private struct Queue: Sendable {
        var waiting = CommandQueue<Waiting>()
        var isDraining = false
        var isClosed = false

        /// Whether the caller is to.
        mutating func beginDraining() -> Bool {
            if isDraining || waiting.isEmpty { return false }
            isDraining = true
            return true
        }
    }

    /// Whatever the last commit took: one of seconds says nothing of how soon callers call again.
    private static let mostPatience = Duration.milliseconds(20)

    private let ledger: Mutex<Ledger>
    private let queue = Mutex(Queue())
    /// Held by the thread that runs batches.
    private let lead = Mutex(Gathering())
    /// The threads that run batches, or answer one.
    private let drains = DispatchGroup()
    /// Where the ledger is durable. Changed together with it, by who holds `lead`.
    private let store: Mutex<any LedgerStore>
    private let clock: Mutex<LedgerClock>
    let logger: Logger
    private let audit: AuditLog?
    package let watches = WatchHub()
    let metrics = WriterMetrics()
    /// Why the store takes no changes, or nil once it does again; the newest only.
    package let storeStates: AsyncStream<String?>
    private let storeState: AsyncStream<String?>.Continuation
    /// Changed by the thread that leads only.
    private let isFailing = Atomic(false)
    private let isProbeDue = Atomic(false)
    /// That commits fail.
    private let complaint = Mutex(Complaint())
    /// Whether an empty ledger waits for a backup: what it would give may be in use.
    private let awaitsRestore: Bool
    private let awaitsRestoreNow = Atomic(false)
    private let ledgers = Atomic<UInt64>(1)
    /// How many ledgers have been served, this one included. Who reads it before them does not take an old one for a new.
    var ledgerCount: UInt64 { ledgers.load(ordering: .acquiring) }
    /// Calls that read the history now.
    let historyReads = Atomic(0)

    package init(
        _ ledger: Ledger, store: any LedgerStore, clock: LedgerClock, logger: Logger, audit: AuditLog? = nil,
        awaitsRestore: Bool = false
    ) {
        self.awaitsRestore = awaitsRestore
        awaitsRestoreNow.store(awaitsRestore && ledger.hasNoBindings, ordering: .relaxed)
        self.ledger = Mutex(ledger)
        self.store = Mutex(store)
        self.clock = Mutex(clock)
        self.logger = logger
        self.audit = audit
        (storeStates, storeState) = AsyncStream.makeStream(of: String?.self, bufferingPolicy: .bufferingNewest(1))
    }

    /// Answers through `complete`, on whatever thread leads then, once the command's changes are durable or it is refused.
    /// May run other callers' commands as well: it blocks for as long as commits take.
    package func submit(_ command: consuming Command, by caller: consuming Caller, _ complete: @escaping Completion) {
        if isAwaitingRestore, command.isOfBindings {
            do throws(IPAMError) {
                // A server that follows says first who leads.
                try checkIsCurrent()
                throw .awaitsRestore
            } catch { return complete(.failure(error)) }
        }
        let waiting = Waiting(command, by: caller, complete)
        let (refusal, wake) = queue.withLock { queue -> (IPAMError?, Bool) in
            if queue.isClosed { return (.shuttingDown, false) }
            if !queue.waiting.append(waiting, of: waiting.command.namespace) {
                return (.tooManyWait(waiting.command.namespace), false)
            }
            let wake = queue.beginDraining()
            if wake { drains.enter() }
            return (nil, wake)
        }
        if let refusal {
            if refusal.reason == .overloaded { metrics.refusedCommands.add(1, ordering: .relaxed) }
            complete(.failure(refusal))
        } else if wake {
            PollingThread.afterCalls { self.drain() }
        }
    }

    /// What the server does by itself. A task never leads: it would go on only once nothing waits.
    package func submit(_ command: Command) async throws(IPAMError) -> Answer {
        try await withCheckedContinuation { continuation in
            DispatchQueue.blocking.async {
                self.submit(command, by: .server) { continuation.resume(returning: $0) }
            }
        }.get()
    }

    /// Serves another ledger from now on, out of another store: the server leads, or no longer does. Waits for the batch
    /// that is under way; ends all watches, whose revisions were the other ledger's.
    package func serve(_ handed: LedgerInHand, from store: any LedgerStore) {
        lead.withLock { _ in
            begin(handed.take())
            self.store.withLock { $0 = store }
            ledgers.add(1, ordering: .releasing)
            failureEnded()
        }
        watches.endAll()
    }

    /// Puts another ledger in the place of this one, with the changes that make it so durably, in one commit; it knows nothing
    /// of what was given after it was made. Returns from when on it gives addresses by its own choice. Blocks.
    func replace<Value>(
        _ make: (borrowing Ledger) throws(IPAMError) -> (next: Ledger, changes: [Change], value: Value)
    ) throws(IPAMError) -> (choosesFrom: Timestamp, value: Value) {
        let result = try lead.withLock { _ throws(IPAMError) in
            try checkIsCurrent()
            // Reads go on: nobody else changes it.
            let (next, changes, value) = try make(ledger.withLock { $0 })
            do throws(StoreError) {
                try commit(changes, next.committedRevision)
            } catch { throw IPAMError(error) }
            let choosesFrom = begin(next) { $0.holdUnknown(at: $1) }
            ledgers.add(1, ordering: .releasing)
            return (choosesFrom, value)
        }
        watches.endAll()
        return result
    }

    /// Reads and changes are of `ledger` from now on. Returns what `hold` does with it, and when that is.
    @discardableResult
    private func begin<Value>(
        _ ledger: consuming Ledger, _ hold: (inout Ledger, Timestamp) -> Value = { _, _ in }
    ) -> Value {
        let clock = self.clock.withLock { $0 }.carriedOn(notBefore: ledger.newestTime)
        let now = clock.now()
        ledger.start(at: now)
        let value = hold(&ledger, now)
        self.clock.withLock { $0 = clock }
        awaitsRestoreNow.store(awaitsRestore && ledger.hasNoBindings, ordering: .relaxed)
        // What was is let go of once others may read.
        self.ledger.withLock { swap(&$0, &ledger) }
        return value
    }

    /// Throws NOT_LEADER where another server may have changed the ledger: then nothing is told of this one's.
    package func checkIsCurrent() throws(IPAMError) { try checkIsCurrent(currentStore) }

    /// Also where this server leads again since, with another store.
    func checkIsCurrent(_ store: any LedgerStore) throws(IPAMError) {
        do throws(StoreError) {
            try store.checkIsCurrent()
        } catch { throw IPAMError(error) }
    }

    /// Whether it refuses all but pools until a backup is restored.
    var isAwaitingRestore: Bool { awaitsRestoreNow.load(ordering: .relaxed) }

    /// Where the ledger is durable now.
    var currentStore: any LedgerStore { store.withLock { $0 } }

    /// Reads the last committed state. `body` holds the ledger: it must be short.
    package func read<Value: Sendable, Failure: Error>(
        _ body: @Sendable (borrowing Ledger, Timestamp) throws(Failure) -> Value
    ) throws(Failure) -> Value {
        let now = clock.withLock { $0.now() }
        return try ledger.withLock { ledger throws(Failure) in try body(ledger, now) }
    }

    /// No later than it is, also where the wall clock was ahead when the process started: what is deleted by it is old.
    var earliestTime: Timestamp { clock.withLock { $0.earliest() } }

    /// Takes no more commands, and returns once those it has are answered.
    package func close() {
        queue.withLock { $0.isClosed = true }
        lead.withLock { _ in }
        drains.wait()
        audit?.close()
    }

    /// The thread that finds nobody at work leads: it runs its own command and, batch after batch, what others have left
    /// in the meantime. So a lone call needs no other thread, and the answers leave from a thread that polls.
    private func drain() {
        // Who was answered just now may be the one who calls.
        Replies.letGo()
        repeat { leadOnce()() } while queue.withLock({ $0.beginDraining() })
        drains.leave()
    }

    /// Who holds `lead` otherwise may do so for long.
    private func leadOnce() -> () -> Void {
        lead.withLockIfAvailable { runBatches(&$0) }
            ?? PollingThread.blocking { lead.withLock { runBatches(&$0) } }
    }

    /// Runs all that waits. Where more waits than the store takes at once, whoever calls next is to lead while this thread
    /// answers, which the returned closure does.
    private func runBatches(_ gathering: inout Gathering) -> () -> Void {
        while true {
            let batching = store.withLock { $0.batching }
            // Where this thread takes the calls itself, none comes while it waits.
            if !PollingThread.takesCalls { gathering.wait { queue.withLock(\.waiting.count) } }
            let batch = queue.withLock { queue in
                queue.isDraining = !queue.waiting.isEmpty
                return queue.waiting.takeBatch(atMost: batching.mostChanges)
            }
            if batch.isEmpty { return {} }
            let started = ContinuousClock.now
            let ran = run(batch[...], batching)
            let rest = ran.rest
            let taken = batch.count - rest.count
            // Who came from elsewhere does not stay: while calls come in without a pause, that would be for ever.
            let staysLeader = rest.isEmpty && PollingThread.isCurrent
            if staysLeader { ran.answer() }
            // After the answers, where they are given here: the log's thread would run before the callers else. And while
            // this one leads: that keeps the order of the commits.
            ran.tell()
            if staysLeader { PollingThread.blocking { store.withLock { $0 }.getReady() } }
            let waiting = queue.withLock { queue in
                queue.waiting.putBack(Array(rest))
                if !staysLeader { queue.isDraining = false }
                return queue.waiting.count
            }
            // What has filled a commit will fill the next.
            let patience = min((.now - started) * batching.patience, Self.mostPatience)
            gathering.expect(rest.isEmpty ? waiting + taken : taken, within: patience)
            if !staysLeader { return ran.answer }
        }
    }

    /// What is left to do of a batch that was run.
    private struct Ran {
        /// What the commit had no room for.
        var rest: ArraySlice<Waiting>
        /// Answers the others.
        var answer: () -> Void
        /// Tells the audit log; in the order of the commits.
        var tell: () -> Void = {}
    }

    private func run(_ batch: ArraySlice<Waiting>, _ batching: Batching) -> Ran {
        do throws(IPAMError) {
            try checkIsCurrent()
        } catch {
            return Ran(rest: []) { for waiting in batch { waiting.complete(.failure(error)) } }
        }
        let now = clock.withLock { $0.now() }
        // Where in the changes each command's end.
        var ends: [Int] = []
        let (results, changes, revision) = ledger.withLock { ledger in
            var size = CommitSize()
            var results: [Result<Outcome, IPAMError>] = []
            results.reserveCapacity(batch.count)
            for waiting in batch where size.hasRoom(batching) {
                results.append(
                    Result { () throws(IPAMError) in
                        try ledger.apply(waiting.command, by: waiting.caller, at: now)
                    })
                if audit != nil { ends.append(ledger.pending.count) }
                size.grow(to: ledger.pending)
            }
            return (results, ledger.pending, ledger.revision)
        }
        let rest = batch.dropFirst(results.count)
        let batch = batch.prefix(results.count)
        do {
            if !changes.isEmpty {
                metrics.commands.observe(Double(batch.count))
                try commit(changes, revision)
            }
        } catch {
            // Also those that were refused: what refused them may have been a change that is now undone.
            ledger.withLock { $0.rollback() }
            return Ran(rest: rest) { for waiting in batch { waiting.complete(.failure(IPAMError(error))) } }
        }
        let answers = ledger.withLock { ledger in
            ledger.commit()
            watches.publish { changes.compactMap { LedgerEvent($0, in: ledger) } }
            var answers: [Result<Answer, IPAMError>] = []
            answers.reserveCapacity(batch.count)
            for (waiting, result) in zip(batch, results) {
                let keeper = waiting.command.copyKeeper
                switch result {
                case .success(let outcome): answers.append(.success(ledger.answer(outcome, keptBy: keeper, at: now)))
                case .failure(let error): answers.append(.failure(error))
                }
            }
            return answers
        }
        return Ran(
            rest: rest,
            answer: { [metrics, logger] in
                metrics.count(
                    allocations: zip(batch, results).lazy.filter { $0.0.command.isAllocation }.map { $0.1 })
                if logger.logLevel <= .debug {
                    for (waiting, result) in zip(batch, results) {
                        logger.tell(waiting.command, by: waiting.caller, result)
                    }
                }
                Replies.together { for (waiting, answer) in zip(batch, answers) { waiting.complete(answer) } }
            },
            tell: { self.tell(batch, changes, ends, at: now) })
    }

    private func tell(_ batch: ArraySlice<Waiting>, _ changes: [Change], _ ends: [Int], at now: Timestamp) {
        guard let audit, !changes.isEmpty else { return }
        var start = 0
        var deeds: [AuditLog.Deed] = []
        deeds.reserveCapacity(batch.count)
        for (waiting, end) in zip(batch, ends) where end > start {
            deeds.append(
                AuditLog.Deed(
                    caller: waiting.caller.name, traceID: waiting.caller.traceID, command: waiting.command,
                    changes: changes[start..<end]))
            start = end
        }
        audit.tell(deeds, at: now)
    }
}

// MARK: - The store's state

extension Writer {
    private static let probeInterval = DispatchTimeInterval.seconds(1)

    private func commit(_ changes: [Change], _ revision: UInt64) throws(StoreError) {
        let started = ContinuousClock.now
        do throws(StoreError) {
            try PollingThread.blocking { () throws(StoreError) in
                try store.withLock { $0 }.commit(changes, revision: revision)
            }
            metrics.commits.observe(.now - started)
        } catch {
            if error.code == .notLeader { throw error }
            metrics.failedCommits.add(1, ordering: .relaxed)
            let isFirst = !isFailing.exchange(true, ordering: .relaxed)
            complain(error)
            if isFirst { storeState.yield("\(error)") }
            probeSoon()
            throw error
        }
        if failureEnded() { logger.notice("the store takes changes again") }
    }

    /// Whether there was one.
    @discardableResult
    private func failureEnded() -> Bool {
        guard isFailing.exchange(false, ordering: .relaxed) else { return false }
        complaint.withLock { $0 = Complaint() }
        storeState.yield(nil)
        return true
    }

    /// The log may be on the same disk.
    private func complain(_ error: StoreError) {
        guard let failed = complaint.withLock({ $0.count() }) else { return }
        logger.error("commit failed", metadata: ["error": "\(error)", "failed": "\(failed)"])
    }

    /// Makes the store forget what is too old, in one commit of its own. Blocks.
    func forget(_ entries: [HistoryEntry]) throws(StoreError) {
        try lead.withLock { _ throws(StoreError) in
            try commit(entries.map(Change.removeHistory), ledger.withLock(\.committedRevision))
        }
    }

    /// A server that says that it cannot serve gets no calls that would show that it can again: so it tries by itself. One
    /// probe at a time, however often the store comes and goes.
    private func probeSoon() {
        guard !isProbeDue.exchange(true, ordering: .relaxed) else { return }
        DispatchQueue.blocking.asyncAfter(deadline: .now() + Self.probeInterval) { [self] in
            lead.withLock { _ in
                isProbeDue.store(false, ordering: .relaxed)
                tryStore()
            }
        }
    }

    private func tryStore() {
        guard isFailing.load(ordering: .relaxed) else { return }
        do throws(StoreError) {
            try commit([], ledger.withLock(\.committedRevision))
        } catch {
            probeSoon()
        }
    }
}

extension IPAMError {
    /// A refusal of the store's.
    init(_ error: StoreError) {
        if error.code == .notLeader {
            self.init(
                .unavailable, .notLeader, "\(error): ask that one, or try again",
                metadata: error.leader.map { ["leader": $0] } ?? [:])
        } else {
            self.init(
                .unavailable, .storeUnavailable,
                "the store did not take the change (\(error)): nothing was changed, try again")
        }
    }

    static func tooManyWait(_ namespace: String) -> IPAMError {
        let whose = namespace.isEmpty ? "" : " of namespace \(namespace) or of all"
        return IPAMError(
            .resourceExhausted, .overloaded, "too many changes\(whose) are waiting: nothing was changed, try again")
    }

    static let awaitsRestore = IPAMError(
        .unavailable, .awaitsRestore,
        "the ledger is empty and waits for `holdfast restore` (--await-restore): nothing was changed")

    static let shuttingDown = IPAMError(.unavailable, .shuttingDown, "the server is shutting down: try again")
}

extension Command {
    fileprivate var isOfBindings: Bool {
        switch self {
        case .allocate, .release, .transfer, .renewCopies: true
        case .createPool, .updatePool, .deletePool: false
        }
    }

    fileprivate var isAllocation: Bool {
        if case .allocate = self { true } else { false }
    }

    /// Whose share of a busy writer it takes; empty where it is nobody's in particular.
    fileprivate var namespace: String {
        switch self {
        case .allocate(let request): request.owner.namespace
        case .release(.attachment(_, let owner, _)): owner?.namespace ?? ""
        case .release(.binding(let owner)): owner.namespace
        case .transfer(let request): request.owner.namespace
        case .renewCopies, .createPool, .updatePool, .deletePool: ""
        }
    }
}
