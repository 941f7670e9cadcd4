import Addresses
import IPAMModel

/// The slots of the bindings that have something, found by a hash of it: a word for each, of half a hash and a slot. What they
/// have the bindings know themselves, so that it is neither kept nor, where the table grows, hashed a second time.
///
/// Open addressing with linear probing; what is removed leaves no mark.
struct SlotIndex: Sendable {
    /// A power of two of them, or none; 0 is no entry.
    private var words: [UInt64] = []
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    /// A slot of `hash` that is the one: others may have the same hash.
    func first(_ hash: UInt32, where isOne: (Int) -> Bool) -> Int? {
        guard !words.isEmpty else { return nil }
        var index = home(hash)
        while words[index] != 0 {
            if words[index].hash == hash, isOne(words[index].slot) { return words[index].slot }
            index = after(index)
        }
        return nil
    }

    /// All slots of `hash`, others' too.
    func all(_ hash: UInt32) -> [Int] {
        var slots: [Int] = []
        _ = first(hash) {
            slots.append($0)
            return false
        }
        return slots
    }

    mutating func insert(_ slot: Int, _ hash: UInt32) {
        count += 1
        // At most two thirds are in use: then few are looked at.
        if 3 * count > 2 * words.count { grow() }
        place(UInt64(hash: hash, slot: slot))
    }

    /// Takes away one of its entries of `hash`.
    mutating func remove(_ slot: Int, _ hash: UInt32) {
        guard !words.isEmpty else { return }
        let word = UInt64(hash: hash, slot: slot)
        var hole = home(hash)
        while words[hole] != word {
            if words[hole] == 0 { return }
            hole = after(hole)
        }
        count -= 1
        // Whoever would no longer be found beyond the hole moves into it.
        var index = after(hole)
        while words[index] != 0 {
            if distance(from: home(words[index].hash), to: index) >= distance(from: hole, to: index) {
                words[hole] = words[index]
                hole = index
            }
            index = after(index)
        }
        words[hole] = 0
    }

    private mutating func grow() {
        let old = words
        words = Array(repeating: 0, count: max(16, 2 * old.count))
        for word in old where word != 0 { place(word) }
    }

    private mutating func place(_ word: UInt64) {
        var index = home(word.hash)
        while words[index] != 0 { index = after(index) }
        words[index] = word
    }

    private func home(_ hash: UInt32) -> Int { Int(hash) & (words.count - 1) }
    private func after(_ index: Int) -> Int { (index + 1) & (words.count - 1) }
    private func distance(from start: Int, to end: Int) -> Int { (end - start) & (words.count - 1) }
}

extension UInt64 {
    /// One more than the slot, of which there are fewer than 2^32: so that no entry is 0.
    fileprivate init(hash: UInt32, slot: Int) { self = UInt64(hash) << 32 | UInt64(UInt32(slot) + 1) }

    fileprivate var hash: UInt32 { UInt32(truncatingIfNeeded: self >> 32) }
    fileprivate var slot: Int { Int(UInt32(truncatingIfNeeded: self)) - 1 }
}

// The hashes are seeded for each process: callers choose names and addresses, and cannot choose them so that all meet.
extension OwnerKey {
    /// Of the object, for all its NICs.
    var objectHash: UInt32 { Self.objectHash(kind, namespace: namespace, name: name) }

    static func objectHash(_ kind: OwnerKind, namespace: String, name: String) -> UInt32 {
        var hasher = Hasher()
        hasher.combine(kind.rawValue)
        hasher.combine(namespace)
        hasher.combine(name)
        return UInt32(truncatingIfNeeded: hasher.finalize())
    }
}

extension String {
    var slotHash: UInt32 { UInt32(truncatingIfNeeded: hashValue) }
}

extension IPAddress {
    var slotHash: UInt32 {
        (UInt64(truncatingIfNeeded: bits) ^ UInt64(truncatingIfNeeded: bits >> 64).folded).folded.half
    }
}

extension MACAddress {
    var slotHash: UInt32 { bits.folded.half }
}

extension UInt64 {
    private static let seeds = (random(in: 0...max), random(in: 0...max) | 1)

    /// As wyhash folds a word: the two halves of a product in which every bit of it counts.
    fileprivate var folded: UInt64 {
        let product = (self ^ Self.seeds.0).multipliedFullWidth(by: Self.seeds.1)
        return product.high ^ product.low
    }

    fileprivate var half: UInt32 { UInt32(truncatingIfNeeded: self ^ self >> 32) }
}
