import DequeModule

/// What waits for the writer, of which it takes a batch at a time.
///
/// In the order of arrival, as long as it fits the next batch. What comes beyond waits in a line of its namespace, and each
/// batch after the next takes from all lines in turn: so a call waits for the batch under way and for two more at most,
/// unless hundreds of namespaces are busy, however much one of them asks for.
struct CommandQueue<Element: Sendable>: Sendable {
    /// One commit of this many takes milliseconds, and an fsync for each does not cost more than for a larger one.
    static var largestBatch: Int { 512 }
    /// In the line of a namespace.
    static var longestLine: Int { 1024 }
    /// In all lines: less than the calls that a server may have open, so that reads find room.
    static var mostInLines: Int { 2560 }

    private var next: [Element] = []
    /// None of them empty.
    private var lines: [String: Deque<Element>] = [:]
    /// The namespaces of the lines, whose turn it is first.
    private var turns: Deque<String> = []
    private var countInLines = 0
    private var batchSize = largestBatch

    var isEmpty: Bool { next.isEmpty }
    var count: Int { next.count + countInLines }

    /// False where so many wait that this one is not taken in.
    mutating func append(_ element: Element, of namespace: @autoclosure () -> String) -> Bool {
        if turns.isEmpty, next.count < batchSize {
            next.append(element)
            return true
        }
        let namespace = namespace()
        let length = lines[namespace]?.count ?? 0
        guard length < Self.longestLine, countInLines < Self.mostInLines else { return false }
        if length == 0 { turns.append(namespace) }
        lines[namespace, default: []].append(element)
        countInLines += 1
        return true
    }

    /// The next batch, of at most `size`.
    mutating func takeBatch(atMost size: Int) -> [Element] {
        batchSize = min(size, Self.largestBatch)
        var batch: [Element] = []
        if next.count <= batchSize {
            swap(&batch, &next)
        } else {
            batch = Array(next.prefix(batchSize))
            next.removeFirst(batchSize)
        }
        while next.count < batchSize, let namespace = turns.popFirst() {
            guard let element = lines[namespace]?.popFirst() else { continue }
            next.append(element)
            countInLines -= 1
            if lines[namespace]?.isEmpty == true { lines[namespace] = nil } else { turns.append(namespace) }
        }
        return batch
    }

    /// What a batch had no room for is the first of the next.
    mutating func putBack(_ elements: [Element]) { next.insert(contentsOf: elements, at: 0) }
}
