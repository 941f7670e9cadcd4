import IPAMModel
import Testing

@testable import Ledger

@Suite struct CopyBookTests {
    /// The ledger's lock is held meanwhile, and there may be a million.
    @Test func `what has no effect any more is forgotten, a few at each grant`() {
        var book = CopyBook()
        func grant(_ owner: Owner, at seconds: Int64) {
            let now = Timestamp(seconds: seconds)
            book.grant(owner.key, to: "node-a", until: now.advanced(by: .seconds(60)), at: now)
        }
        for number in 0..<1_000 { grant(vm("vm\(number)"), at: 0) }
        book.close(vm("moves").key, at: Timestamp(seconds: 590))
        #expect(book.count == 999)
        grant(vm("vm1"), at: 600)
        #expect(book.count >= 997)
        for second in 0..<1_100 { grant(vm("vm1"), at: 600 + Int64(second) / 60) }
        #expect(book.count == 2)
        #expect(book.isClosed(vm("moves").key, at: Timestamp(seconds: 619)))
        #expect(book.until(vm("vm1").key, on: "node-a") == Timestamp(seconds: 678))
        // Owners that come and go, and are never renewed.
        for number in 0..<10_000 { grant(vm("short\(number)"), at: 1_000 + Int64(number)) }
        #expect(book.count < 200, "\(book.count)")
    }
}
