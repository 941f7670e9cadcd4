import Addresses
package import IPAMModel

/// The rules: a pure state machine of pools, bindings and freed addresses. No clock, no I/O, no randomness.
///
/// Commands are applied in batches: `apply` any number of times, then `commit` once their changes are durable, or
/// `rollback`. Everything that reads answers from the last committed state, also while a batch is open.
///
/// A command that is refused changes nothing: each looks first, proposes, and only then puts its facts.
package struct Ledger: Sendable {
    /// Bindings, each in one slot for its whole life; pages walk them.
    var slots = SlotTable()
    var vacantSlots: [Int] = []
    /// Where to find them: by object (a slot for each NIC), by address, by MAC, and by an attachment's container and node.
    var owners = SlotIndex()
    var holders = SlotIndex()
    var macs = SlotIndex()
    var containers = SlotIndex()
    var nodes: [String: Set<Int>] = [:]
    /// The slots with an open migration.
    var migratingSlots: Set<Int> = []

    var spaces: [PoolSpace?] = []
    var spaceIndexes: [String: Int] = [:]
    var poolChoice = PoolChoice()
    var copies = CopyBook()
    /// When it took a backup's place.
    var restoredAt: Timestamp?

    var batch = Batch()
    package internal(set) var revision: UInt64 = 0
    package internal(set) var committedRevision: UInt64 = 0
    /// The revision at start: tells a page token of this ledger from one of before a restart, whose slots are others.
    var firstRevision: UInt64

    package init() { firstRevision = 0 }

    init(startingAt revision: UInt64) {
        firstRevision = revision
        self.revision = revision
        committedRevision = revision
    }

    /// Applies one command of `caller` to the open batch. `now` never goes back.
    package mutating func apply(
        _ command: Command, by caller: Caller = .server, at now: Timestamp
    ) throws(IPAMError) -> Outcome {
        try check(command, of: caller)
        batch.caller = caller.name
        return switch command {
        case .allocate(let request): try allocate(request, at: now)
        case .release(let request): release(request, at: now)
        case .transfer(let request): .transferred(try transfer(request, at: now))
        case .renewCopies(let request): .copiesRenewed(renewCopies(request, at: now))
        case .createPool(let pool): .pool(try createPool(pool, at: now))
        case .updatePool(let pool, _): .pool(try updatePool(pool, at: now))
        case .deletePool(let name): try deletePool(named: name, at: now)
        }
    }

    /// The open batch's changes, in order.
    package var pending: [Change] { batch.changes }

    package mutating func commit() {
        for index in batch.touchedSpaces { commitSpace(index) }
        batch.clear()
        committedRevision = revision
    }

    package mutating func rollback() {
        for step in batch.undo.reversed() { undo(step) }
        batch.clear()
        revision = committedRevision
    }
}

/// What the commands since the last commit did, and how to take it back.
struct Batch: Sendable {
    enum Undo: Sendable {
        case added(slot: Int)
        // Boxed, as most steps are not so large.
        indirect case changed(slot: Int, before: Binding)
        case putFreed(FreedAddress)
        case removeFreed(FreedAddress)
        case space(index: Int, before: PoolSpace?)
    }

    var changes: [Change] = []
    /// Whose command is applied.
    var caller = ""
    var undo: [Undo] = []
    /// Where in `undo` a slot's committed binding is.
    var firstTouch: [Int: Int] = [:]
    /// And where the committed pool of a space is that has another.
    var firstPut: [Int: Int] = [:]
    private(set) var touchedSpaces: Set<Int> = []
    private var lastTouched: Int?

    mutating func touch(space index: Int) {
        if lastTouched == index { return }
        lastTouched = index
        touchedSpaces.insert(index)
    }

    /// Keeps its room for the next batch, unless that is more than a usual one takes.
    mutating func clear() {
        guard changes.count <= 2048 else {
            self = Batch()
            return
        }
        // Whoever commits has these still: to keep their room would be to allocate it.
        let usual = changes.count
        changes = []
        changes.reserveCapacity(usual)
        undo.removeAll(keepingCapacity: true)
        firstTouch.removeAll(keepingCapacity: true)
        firstPut.removeAll(keepingCapacity: true)
        touchedSpaces.removeAll(keepingCapacity: true)
        lastTouched = nil
    }
}
