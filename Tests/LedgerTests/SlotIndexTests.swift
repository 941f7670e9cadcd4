import Testing

@testable import Ledger

@Suite struct SlotIndexTests {
    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func `has what a dictionary has, whatever the hashes`(seed: UInt64) {
        var random = Generator(seed: seed)
        // Few hashes, so that many are the same, and neighbours, so that runs of entries meet; the last ones of any table too.
        let hashes = (0..<24).map { UInt32($0 % 2 == 0 ? $0 : Int(UInt32.max) - $0) }
        var index = SlotIndex()
        var slots: [UInt32: [Int]] = [:]
        for step in 0..<2000 {
            let hash = hashes.randomElement(using: &random) ?? 0
            // It grows, and shrinks to nothing, and grows.
            if Int.random(in: 0..<10, using: &random) < (step / 500 % 2 == 0 ? 7 : 2) {
                index.insert(step, hash)
                slots[hash, default: []].append(step)
            } else if let slot = slots[hash]?.randomElement(using: &random) {
                index.remove(slot, hash)
                slots[hash]?.removeAll { $0 == slot }
            } else {
                index.remove(step, hash)
            }
            #expect(index.count == slots.values.reduce(0) { $0 + $1.count })
            #expect(index.isEmpty == (index.count == 0))
            #expect(index.all(hash).sorted() == slots[hash, default: []])
            if step % 100 == 0 { for hash in hashes { #expect(index.all(hash).sorted() == slots[hash, default: []]) } }
            if let slot = slots[hash]?.last { #expect(index.first(hash) { $0 == slot } == slot) }
            #expect(index.first(hash) { _ in false } == nil)
        }
    }

    @Test func `an entry that is there twice goes once at a time`() {
        var index = SlotIndex()
        for _ in 1...2 { index.insert(7, 42) }
        index.remove(7, 42)
        #expect(index.all(42) == [7])
        index.remove(7, 42)
        #expect(index.isEmpty && index.all(42).isEmpty)
        index.remove(7, 42)
        #expect(index.isEmpty)
    }

    @Test func `slot 0 with hash 0 is an entry`() {
        var index = SlotIndex()
        index.insert(0, 0)
        #expect(index.all(0) == [0] && index.all(1).isEmpty)
    }

    @Test func `the largest slot and hash`() {
        var index = SlotIndex()
        index.insert(Int(UInt32.max) - 1, .max)
        #expect(index.all(.max) == [Int(UInt32.max) - 1])
    }
}
