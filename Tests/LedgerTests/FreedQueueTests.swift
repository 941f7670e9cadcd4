import Addresses
import IPAMModel
import Testing

@testable import Ledger

@Suite struct FreedQueueTests {
    @Test(arguments: 0..<8)
    func `freed addresses are given in the order in which they are ready, over rollbacks and other delays`(
        number: Int
    ) throws {
        var generator = seededGenerator("freed addresses \(number)")
        var run = FreedRun()
        for step in 0..<4_000 {
            run.step(using: &generator)
            let (next, now) = (run.next, Timestamp(seconds: run.seconds))
            let ready = next.flatMap { run.readyAt($0) <= now ? $0.address : nil }
            try #require(run.space.propose(at: now) == ready, "step \(step)")
            try #require(run.space.nextReady == next.map(run.readyAt), "step \(step)")
            let waiting = run.committed.count(where: { run.readyAt($0) > now })
            try #require(run.space.committedQuarantined(at: now) == waiting, "step \(step)")
        }
    }
}

/// A prefix of sixteen, and beside it what is freed of it, in the order of freeing.
private struct FreedRun {
    private enum Undo {
        case freed(FreedAddress)
        case taken(FreedAddress)
    }

    var space: PrefixSpace
    var seconds: Int64 = 1_000
    private(set) var committed: [FreedAddress] = []
    private var freed: [FreedAddress] = []
    private var held: [IPAddress]
    private var undo: [Undo] = []
    private var (revision, committedRevision) = (UInt64(0), UInt64(0))

    init() {
        space = PrefixSpace(poolPrefix("10.0.0.0/28", usesEdgeAddresses: true), reuseDelay: .seconds(60))
        held = (0..<16).map { address("10.0.0.\($0)") }
        for address in held { space.hold(address, isCarried: false) }
        space.commit()
    }

    var next: FreedAddress? { freed.min { readyAt($0) < readyAt($1) } }

    func readyAt(_ address: FreedAddress) -> Timestamp {
        max(address.freedAt.advanced(by: space.reuseDelay), address.notBefore ?? address.freedAt)
    }

    mutating func step(using generator: inout Generator) {
        func number(_ range: ClosedRange<Int64>) -> Int64 { Int64.random(in: range, using: &generator) }
        seconds += number(0...10)
        switch number(0...11) {
        case 0...4:
            guard let address = held.randomElement(using: &generator) else { return }
            revision += 1
            let notBefore = number(0...2) == 0 ? Timestamp(seconds: seconds + number(-50...400)) : nil
            free(
                FreedAddress(
                    address: address, pool: "p", lastOwner: vm("a"), freedAt: Timestamp(seconds: seconds),
                    revision: revision, notBefore: notBefore))
        case 5...7:
            guard let next else { return }
            take(next)
        case 8:
            guard let any = freed.randomElement(using: &generator) else { return }
            take(any)
        case 9: rollback()
        case 10: commit()
        default:
            commit()
            if number(0...1) == 0 { return space.setReuseDelay(.seconds([1, 60, 300][Int(number(0...2))])) }
            let start = Timestamp(seconds: seconds).advanced(by: space.reuseDelay)
            space.holdFreed(until: start)
            for index in freed.indices { freed[index].notBefore = max(freed[index].notBefore ?? start, start) }
            committed = freed
        }
    }

    private mutating func free(_ address: FreedAddress) {
        space.letGo(address.address, isCarried: false)
        space.putFreed(address)
        freed.append(address)
        held.removeAll { $0 == address.address }
        undo.append(.freed(address))
    }

    private mutating func take(_ address: FreedAddress) {
        space.removeFreed(address.address)
        space.hold(address.address, isCarried: false)
        freed.removeAll { $0 == address }
        held.append(address.address)
        undo.append(.taken(address))
    }

    private mutating func commit() {
        space.commit()
        (committed, undo, committedRevision) = (freed, [], revision)
    }

    private mutating func rollback() {
        for step in undo.reversed() {
            switch step {
            case .freed(let address):
                space.undoPutFreed(address.address)
                space.hold(address.address, isCarried: false)
                held.append(address.address)
            case .taken(let address):
                space.letGo(address.address, isCarried: false)
                space.undoRemoveFreed(address)
                held.removeAll { $0 == address.address }
            }
        }
        (freed, undo, revision) = (committed, [], committedRevision)
    }
}
