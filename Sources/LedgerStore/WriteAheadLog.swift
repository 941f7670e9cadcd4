/// The bytes of a `-wal` file (https://sqlite.org/fileformat2.html#the_write_ahead_log).
///
/// SQLite takes the first frame whose checksum is wrong for the end of the log, and forgets all commits after it. That
/// is right for what a crash leaves, the last commit half written; a byte that changed earlier would silently take
/// back commits that callers were told of.
struct WriteAheadLog {
    private let bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    private static let headerLength = 32
    private static let frameHeaderLength = 24

    /// False where a frame is bad although more than one commit, of the same log, stands from it on: each commit is on
    /// disk before the next is written, so a crash leaves one of them incomplete at most.
    var isWhole: Bool {
        // Never written, or begun anew with nothing in it yet.
        guard bytes.count >= Self.headerLength, bytes.prefix(Self.headerLength).contains(where: { $0 != 0 }) else {
            return true
        }
        let pageSize = Int(integer(at: 8))
        guard integer(at: 0) & ~1 == 0x377f_0682, (512...65536).contains(pageSize) else { return false }
        var sum = Checksum(isBigEndian: integer(at: 0) & 1 == 1)
        sum.add(bytes[0..<24])
        guard sum.matches(integer(at: 24), integer(at: 28)) else { return false }

        var isBroken = false
        var commitsSinceBreak = 0
        let frameLength = Self.frameHeaderLength + pageSize
        for frame in stride(from: Self.headerLength, through: bytes.count - frameLength, by: frameLength) {
            let isOfThisLog = bytes[(frame + 8)..<(frame + 16)] == bytes[16..<24]
            if !isBroken {
                sum.add(bytes[frame..<(frame + 8)])
                sum.add(bytes[(frame + Self.frameHeaderLength)..<(frame + frameLength)])
                isBroken = !isOfThisLog || !sum.matches(integer(at: frame + 16), integer(at: frame + 20))
            }
            // A frame that ends a commit has the size of the database in it.
            if isBroken, isOfThisLog, integer(at: frame + 4) != 0 { commitsSinceBreak += 1 }
        }
        return commitsSinceBreak < 2
    }

    private func integer(at offset: Int) -> UInt32 {
        bytes[offset..<(offset + 4)].reduce(0) { $0 << 8 | UInt32($1) }
    }

    /// Section 4.4, "checksum algorithm".
    private struct Checksum {
        let isBigEndian: Bool
        private var first: UInt32 = 0
        private var second: UInt32 = 0

        init(isBigEndian: Bool) { self.isBigEndian = isBigEndian }

        func matches(_ first: UInt32, _ second: UInt32) -> Bool { self.first == first && self.second == second }

        /// A multiple of eight bytes.
        mutating func add(_ bytes: ArraySlice<UInt8>) {
            var index = bytes.startIndex
            while index < bytes.endIndex {
                first &+= word(bytes, index) &+ second
                second &+= word(bytes, index + 4) &+ first
                index += 8
            }
        }

        private func word(_ bytes: ArraySlice<UInt8>, _ index: Int) -> UInt32 {
            let word =
                UInt32(bytes[index]) | UInt32(bytes[index + 1]) << 8 | UInt32(bytes[index + 2]) << 16
                | UInt32(bytes[index + 3]) << 24
            return isBigEndian ? word.byteSwapped : word
        }
    }
}
