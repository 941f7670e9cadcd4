/// A set of the addresses of one prefix, as offsets from its first, that finds its lowest non-member in the same time
/// whatever the prefix's size and however full it is: a bitmap trie with 64 children to a node.
///
/// Level 0 has a bit for each address, level k a bit for each 64^k of them; a set bit says "all of that is in the set".
/// Words that are all clear, and all below a set bit, are not stored. Every operation visits one word a level at most,
/// and there are `ceil(hostBits / 6)` levels: 1 in a /28, 4 in a /8, 11 in a /64.
package struct AddressSet: Sendable {
    /// Words by their index within the level; the last level has only word 0.
    private var levels: [[UInt128: UInt64]]
    /// All of the top word's bits that stand for addresses.
    private let topMask: UInt64

    /// A set of addresses with `hostBits` (0...128) bits that has the members of `ranges`, which may overlap.
    package init(hostBits: Int, ranges: [ClosedRange<UInt128>] = []) {
        let count = max(1, (hostBits + 5) / 6)
        levels = Array(repeating: [:], count: count)
        let topBits = 1 << (hostBits - (count - 1) * 6)
        topMask = topBits == 64 ? .max : (1 << UInt64(topBits)) - 1
        for range in ranges.merged() { fill(range, level: count - 1, word: 0) }
    }

    /// How many levels there are.
    package var depth: Int { levels.count }

    /// The lowest address that is not in the set, or nil when all are.
    package var firstMissing: UInt128? {
        var visited = 0
        return firstMissing(visited: &visited)
    }

    /// The same; adds the number of words it looked at to `visited`.
    package func firstMissing(visited: inout Int) -> UInt128? {
        var index: UInt128 = 0
        for level in levels.indices.reversed() {
            visited += 1
            let missing = ~(levels[level][index] ?? 0) & fullWord(level)
            // Only the top word can have none: a full word below it is a set bit above.
            guard missing != 0 else { return nil }
            index = index << 6 | UInt128(missing.trailingZeroBitCount)
        }
        return index
    }

    package func contains(_ offset: UInt128) -> Bool { coveringLevel(of: offset) != nil }

    /// Whether it was not in the set before.
    @discardableResult
    package mutating func insert(_ offset: UInt128) -> Bool {
        guard coveringLevel(of: offset) == nil else { return false }
        var index = offset
        for level in levels.indices {
            let bit = index.bit
            index >>= 6
            let word = levels[level][index, default: 0] | bit
            guard word == fullWord(level), level + 1 < levels.count else {
                levels[level][index] = word
                break
            }
            levels[level][index] = nil
        }
        return true
    }

    /// Whether it was in the set before.
    @discardableResult
    package mutating func remove(_ offset: UInt128) -> Bool {
        guard let top = coveringLevel(of: offset) else { return false }
        for level in stride(from: top, through: 0, by: -1) {
            let index = offset >> UInt128(6 * level)
            // Below the level that covered it nothing was stored: all of that was in the set.
            let word = (level == top ? levels[level][index >> 6, default: 0] : .max) & ~index.bit
            levels[level][index >> 6] = word == 0 ? nil : word
        }
        return true
    }

    /// The level whose set bit has `offset` in the set.
    private func coveringLevel(of offset: UInt128) -> Int? {
        var index = offset
        for level in levels.indices {
            let bit = index.bit
            index >>= 6
            // A stored word is neither below a set bit nor above anything that is full unless it says so itself.
            if let word = levels[level][index] { return word & bit == 0 ? nil : level }
        }
        return nil
    }

    private func fullWord(_ level: Int) -> UInt64 { level + 1 == levels.count ? topMask : .max }

    /// Adds a range that has no member in the set yet and lies within word `word` of `level`.
    private mutating func fill(_ range: ClosedRange<UInt128>, level: Int, word: UInt128) {
        let shift = UInt128(6 * level)
        let below: UInt128 = (1 << shift) - 1
        var (first, last) = (range.lowerBound >> shift, range.upperBound >> shift)
        let (cutsFirst, cutsLast) = (range.lowerBound & below != 0, range.upperBound & below != below)
        if first == last, cutsFirst || cutsLast { return fill(range, level: level - 1, word: first) }
        if cutsFirst {
            fill(range.lowerBound...(first << shift | below), level: level - 1, word: first)
            first += 1
        }
        if cutsLast {
            fill((last << shift)...range.upperBound, level: level - 1, word: last)
            guard last > first else { return }
            last -= 1
        }
        guard first <= last else { return }
        let mask = (UInt64.max >> UInt64(63 - (last - first))) << UInt64(first & 63)
        levels[level][word, default: 0] |= mask
    }
}

extension UInt128 {
    /// The bit of its word that stands for this index.
    fileprivate var bit: UInt64 { 1 << UInt64(truncatingIfNeeded: self & 63) }
}

extension [ClosedRange<UInt128>] {
    /// The same members in ascending ranges that neither overlap nor touch.
    package func merged() -> Self {
        var result: Self = []
        for range in sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = result.last, last.upperBound == .max || range.lowerBound <= last.upperBound + 1 {
                result[result.count - 1] = last.lowerBound...Swift.max(last.upperBound, range.upperBound)
            } else {
                result.append(range)
            }
        }
        return result
    }
}
