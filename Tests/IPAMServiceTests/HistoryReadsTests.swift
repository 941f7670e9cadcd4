import Foundation
import IPAMAPI
import IPAMModel
import Ledger
import LedgerStore
import Logging
import Synchronization
import Testing

@testable import IPAMService

/// A store whose history is read once a test says so.
private final class SlowStore: LedgerStore {
    let gate = DispatchSemaphore(value: 0)

    func load() throws(StoreError) -> Snapshot { Snapshot() }
    func commit(_ changes: [Change], revision: UInt64) throws(StoreError) {}
    func history(
        of subject: HistorySubject, before revision: UInt64, limit: Int
    ) throws(StoreError) -> [HistoryEntry] {
        gate.wait()
        return []
    }
    func history(after revision: UInt64, limit: Int) throws(StoreError) -> [HistoryEntry] { [] }
    var batching: Batching { Batching() }
    func close() {}
}

@Suite(.timeLimit(.minutes(1))) struct HistoryReadsTests {
    /// Else a caller could take every thread of the pool that tasks run on.
    @Test func `a few reads of the history wait for the store, more are refused as overloaded`() async {
        let store = SlowStore()
        let writer = Writer(
            Ledger(), store: store,
            clock: LedgerClock(wallClock: Timestamp(seconds: 1_800_000_000), notBefore: Timestamp(seconds: 0)),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let listing = HistoryListing(subject: .object(namespace: "default", name: "vm"), pageSize: 10)
        let (pages, answers) = AsyncStream.makeStream(of: Result<HistoryPage, IPAMError>.self)
        for _ in 0..<20 { writer.history(listing) { answers.yield($0) } }
        var next = pages.makeAsyncIterator()
        for _ in 0..<4 {
            let answer = await next.next()
            let refusal = #expect(throws: IPAMError.self) { try answer?.get() }
            #expect(refusal?.code == .resourceExhausted && refusal?.reason == .overloaded)
        }
        for _ in 0..<16 { store.gate.signal() }
        for _ in 0..<16 { if case .failure(let refusal)? = await next.next() { Issue.record(refusal) } }
        // And there is room again.
        writer.history(listing) { answers.yield($0) }
        store.gate.signal()
        if case .failure(let refusal)? = await next.next() { Issue.record(refusal) }
    }
}
