#if canImport(Glibc)
    import Glibc
#endif

/// SplitMix64: the same numbers for the same seed.
struct Generator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = (state ^ state >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }

    mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &self) < percent }
}

/// The seed in `HOLDFAST_SEED`, or nil.
var givenSeed: UInt64? {
    // A C string of the process's own environment, read at once.
    unsafe getenv("HOLDFAST_SEED").flatMap { UInt64(unsafe String(cString: $0)) }
}

/// A generator whose seed is printed, so that a failure can be had again with HOLDFAST_SEED.
func seededGenerator(_ name: String, seed: UInt64? = nil) -> Generator {
    let seed = givenSeed ?? seed ?? UInt64.random(in: 1...UInt64(UInt32.max))
    print("\(name): HOLDFAST_SEED=\(seed)")
    return Generator(seed: seed)
}
