import IPAMModel

/// The bindings by slot, in blocks that stay where they are: an array that grows would be copied as a whole now and then, a
/// pause for all callers that is as long as the ledger is large.
struct SlotTable: RandomAccessCollection, MutableCollection, Sendable {
    private static let blockSize = 256

    private var blocks: [[Binding?]] = []
    private(set) var count = 0

    var startIndex: Int { 0 }
    var endIndex: Int { count }

    subscript(slot: Int) -> Binding? {
        // Not a copy: most who look want one field of it.
        _read { yield blocks[slot / Self.blockSize][slot % Self.blockSize] }
        _modify { yield &blocks[slot / Self.blockSize][slot % Self.blockSize] }
    }

    mutating func append(_ binding: Binding?) {
        if count % Self.blockSize == 0 {
            blocks.append([])
            blocks[blocks.count - 1].reserveCapacity(Self.blockSize)
        }
        blocks[blocks.count - 1].append(binding)
        count += 1
    }
}
