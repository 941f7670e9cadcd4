import Ledger
import Testing

@Suite struct AddressSetTests {
    @Test(arguments: [0, 1, 4, 5, 6, 7, 11, 12, 13])
    func `filled one by one, a set gives every offset once, lowest first, and then none`(hostBits: Int) {
        var set = AddressSet(hostBits: hostBits)
        for offset in 0..<(UInt128(1) << UInt128(hostBits)) {
            #expect(set.firstMissing == offset)
            #expect([set.insert(offset), set.insert(offset)] == [true, false])
            #expect(set.contains(offset))
        }
        #expect(set.firstMissing == nil)
        let last = (UInt128(1) << UInt128(hostBits)) - 1
        #expect([set.remove(last), set.remove(last)] == [true, false])
        #expect(set.firstMissing == last)
    }

    @Test(arguments: [3, 6, 8, 12, 13, 14])
    func `random ranges, inserts and removals leave the same members as in a plain set`(hostBits: Int) {
        var generator = seededGenerator("AddressSet \(hostBits)")
        let size = UInt128(1) << UInt128(hostBits)
        for _ in 0..<20 {
            let ranges = (0..<Int.random(in: 0...6, using: &generator)).map { _ in
                let lower = UInt128.random(in: 0..<size, using: &generator)
                return lower...UInt128.random(in: lower..<size, using: &generator)
            }
            var set = AddressSet(hostBits: hostBits, ranges: ranges)
            var plain = Set(ranges.joined())
            for step in 0..<300 {
                let offset = UInt128.random(in: 0..<size, using: &generator)
                if Bool.random(using: &generator) {
                    let isNew = set.insert(offset)
                    #expect(isNew == plain.insert(offset).inserted)
                } else {
                    let wasThere = set.remove(offset)
                    #expect(wasThere == (plain.remove(offset) != nil))
                }
                if step % 20 == 0 {
                    #expect(set.firstMissing == (0..<size).first { !plain.contains($0) })
                    #expect((0..<size).allSatisfy { set.contains($0) == plain.contains($0) })
                }
            }
        }
    }

    @Test func `a set of all IPv6 addresses has a last one, and can be full`() {
        var set = AddressSet(hostBits: 128, ranges: [0...(.max - 1)])
        #expect(set.firstMissing == .max)
        set.insert(.max)
        #expect(set.firstMissing == nil)
        set.remove(1 << 127)
        #expect(set.firstMissing == 1 << 127)
        #expect(AddressSet(hostBits: 128, ranges: [0...(.max)]).firstMissing == nil)
    }

    @Test(arguments: [(4, 1), (24, 4), (64, 11), (128, 22)])
    func `finding a free address looks at one word a level, empty or nearly full`(hostBits: Int, depth: Int) {
        func words(_ set: AddressSet) -> Int {
            var visited = 0
            _ = set.firstMissing(visited: &visited)
            return visited
        }
        let last = UInt128.max >> UInt128(128 - hostBits)
        var set = AddressSet(hostBits: hostBits)
        #expect(set.depth == depth)
        #expect(words(set) == depth)
        // All but the last thousandth.
        set = AddressSet(hostBits: hostBits, ranges: [0...(last - last / 1000)])
        #expect(words(set) <= depth)
        // One hole, as far from the front as can be, in a set that was filled.
        set = AddressSet(hostBits: hostBits, ranges: [0...last])
        set.remove(last - 1)
        #expect(set.firstMissing == last - 1)
        #expect(words(set) == depth)
        set = AddressSet(hostBits: hostBits, ranges: [0...last])
        #expect(words(set) == 1)
    }
}
