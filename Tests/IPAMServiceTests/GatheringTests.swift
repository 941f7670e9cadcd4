import IPAMModel
import Ledger
import LedgerStore
import StoreConformance
import Testing

@testable import IPAMService

@Suite struct GatheringTests {
    /// How many times `wait` looks, when one more waits at each look.
    private func looks(_ gathering: Gathering) -> Int {
        var count = 0
        gathering.wait {
            count += 1
            return count
        }
        return count
    }

    @Test func `nobody who is not expected is waited for`() { #expect(looks(Gathering()) == 1) }

    @Test func `as many as are expected are waited for, by the last word`() {
        var gathering = Gathering()
        gathering.expect(5, within: .seconds(60))
        #expect(looks(gathering) == 5)
        gathering.expect(3, within: .seconds(60))
        #expect(looks(gathering) == 3)
    }

    @Test(.timeLimit(.minutes(1))) func `those who do not come are not waited for without end`() {
        var gathering = Gathering()
        gathering.expect(1, within: .zero)
        gathering.wait { 0 }
        gathering.expect(1, within: .milliseconds(20))
        gathering.wait { 0 }
    }
}

@Suite struct CommitSizeTests {
    private let batching = Batching(mostChanges: 6, mostAddresses: 4)

    private func size(_ pending: [Change]) -> CommitSize {
        var size = CommitSize()
        size.grow(to: pending)
        return size
    }

    private func put(_ number: Int) -> Change { .putBinding(Example.binding(owner: number, address: number)) }

    @Test func `the first command has room whatever the store says`() {
        #expect(CommitSize().hasRoom(Batching(mostChanges: 0, mostAddresses: 0)))
    }

    @Test func `a commit has room until it has as many changes as the store likes`() {
        let removals = (1...6).map { Change.removeBinding(Example.binding(owner: $0, address: $0)) }
        #expect(size(Array(removals[..<5])).hasRoom(batching))
        #expect(!size(removals).hasRoom(batching))
        #expect(size(removals).hasRoom(Batching()))
    }

    @Test func `room is kept for the two addresses that one more command may give`() {
        #expect(size([put(1), put(2)]).hasRoom(batching))
        #expect(!size([put(1), put(2), put(3)]).hasRoom(batching))
    }

    @Test func `each change is counted once, as the commit grows`() {
        var size = CommitSize()
        for pending in [[put(1)], [put(1)], [put(1), put(2)]] { size.grow(to: pending) }
        #expect(size.hasRoom(batching))
        size.grow(to: [put(1), put(2), put(3)])
        #expect(!size.hasRoom(batching))
    }
}
