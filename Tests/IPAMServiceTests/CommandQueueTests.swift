import Testing

@testable import IPAMService

@Suite struct CommandQueueTests {
    /// As a class, for `#expect` takes no mutation.
    private final class Queue {
        static let largestBatch = CommandQueue<String>.largestBatch
        static let longestLine = CommandQueue<String>.longestLine
        static let mostInLines = CommandQueue<String>.mostInLines
        private var queue = CommandQueue<String>()
        var isEmpty: Bool { queue.isEmpty }
        func append(_ element: String, of namespace: String) -> Bool { queue.append(element, of: namespace) }
        func takeBatch(atMost size: Int) -> [String] { queue.takeBatch(atMost: size) }
        func putBack(_ elements: [String]) { queue.putBack(elements) }
        var count: Int { queue.count }
    }

    @Test func `what fits one batch is taken in the order of arrival`() {
        let queue = Queue()
        for number in 0..<5 { #expect(queue.append("\(number)", of: number.isMultiple(of: 2) ? "a" : "b")) }
        #expect(queue.takeBatch(atMost: 100) == ["0", "1", "2", "3", "4"])
        #expect(queue.takeBatch(atMost: 100) == [] && queue.isEmpty)
    }

    @Test func `a call waits for two batches however much another namespace asks for`() {
        let queue = Queue()
        for _ in 0..<5000 { _ = queue.append("flood", of: "loud") }
        #expect(queue.append("call", of: "quiet"))
        #expect(!queue.takeBatch(atMost: .max).contains("call"))
        #expect(queue.takeBatch(atMost: .max).contains("call"))
    }

    @Test func `namespaces take turns, each in its own order`() {
        let queue = Queue()
        for namespace in ["a", "b", "c"] {
            for number in 0..<700 { #expect(queue.append("\(namespace)\(number)", of: namespace)) }
        }
        _ = queue.takeBatch(atMost: .max)
        let batch = queue.takeBatch(atMost: .max)
        #expect(batch.count == Queue.largestBatch)
        for namespace in ["b", "c"] {
            let own = batch.filter { $0.hasPrefix(namespace) }
            #expect(own == (0..<own.count).map { "\(namespace)\($0)" } && own.count >= Queue.largestBatch / 3)
        }
    }

    @Test func `all that was taken in comes out once, in batches as small as the store wants them`() {
        let queue = Queue()
        var taken: [String] = []
        for number in 0..<4000 where queue.append("\(number)", of: "\(number % 7)") { taken.append("\(number)") }
        #expect(taken.count == Queue.largestBatch + Queue.mostInLines)
        var out: [String] = []
        while !queue.isEmpty {
            let batch = queue.takeBatch(atMost: 60)
            #expect(batch.count <= 60)
            out += batch
        }
        #expect(out.sorted() == taken.sorted())
        #expect(queue.append("more", of: "0"))
    }

    @Test func `a namespace has a bounded line, and leaves room for others`() {
        let queue = Queue()
        let taken = (0..<10_000).filter { queue.append("\($0)", of: "loud") }.count
        #expect(taken == Queue.largestBatch + Queue.longestLine)
        #expect(queue.append("call", of: "quiet"))
    }

    @Test func `what a batch had no room for comes first in the next, in its order, and is refused to nobody`() {
        let queue = Queue()
        for number in 0..<2000 { _ = queue.append("\(number)", of: number.isMultiple(of: 2) ? "a" : "b") }
        let count = queue.count
        let batch = queue.takeBatch(atMost: .max)
        #expect(batch.count == Queue.largestBatch)
        let rest = Array(batch[10...])
        queue.putBack(rest)
        #expect(queue.count == count - 10 && !queue.isEmpty)
        #expect(queue.append("late", of: "c"))
        let next = queue.takeBatch(atMost: .max)
        #expect(Array(next.prefix(rest.count)) == rest)
        #expect(next.count == Queue.largestBatch)
        // More than one batch in the order of arrival, where nothing is in the lines.
        let small = Queue()
        for number in 0..<5 { _ = small.append("\(number)", of: "a") }
        small.putBack(Array(small.takeBatch(atMost: 5)[2...]))
        #expect(small.append("5", of: "b"))
        #expect(small.takeBatch(atMost: 2) == ["2", "3"])
        #expect(small.takeBatch(atMost: 2) == ["4", "5"] && small.isEmpty)
    }
}
