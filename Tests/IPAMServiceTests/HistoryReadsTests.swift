import Addresses
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

/// A store with this past, newest first.
private final class PastStore: LedgerStore {
    private let past: [HistoryEntry]

    init(_ past: [HistoryEntry]) { self.past = past }

    func load() throws(StoreError) -> Snapshot { Snapshot() }
    func commit(_ changes: [Change], revision: UInt64) throws(StoreError) {}
    func history(
        of subject: HistorySubject, before revision: UInt64, limit: Int
    ) throws(StoreError) -> [HistoryEntry] { Array(past.filter { $0.revision < revision }.prefix(limit)) }
    func history(after revision: UInt64, limit: Int) throws(StoreError) -> [HistoryEntry] { [] }
    var batching: Batching { Batching() }
    func close() {}
}

@Suite(.timeLimit(.minutes(1))) struct HistoryReadsTests {
    private static let now = Timestamp(seconds: 1_800_000_000)

    private func writer(_ ledger: Ledger, _ past: [HistoryEntry]) -> Writer {
        Writer(
            ledger, store: PastStore(past), clock: LedgerClock(wallClock: Self.now, notBefore: Self.now),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    /// A pod goes and another comes in one commit, at one time: so the binding's present and what ended then began together.
    private func replaced(networks: Int = 1) throws -> (ledger: Ledger, past: [HistoryEntry]) {
        var ledger = Ledger()
        let prefix = PoolPrefix(prefix: try #require(IPPrefix("10.16.0.0/24")))
        _ = try ledger.apply(.createPool(Pool(name: "vm-net", prefixes: [prefix], isDefault: true)), at: Self.now)
        for number in 0..<networks {
            let vm = Owner(
                kind: .virtualMachine, namespace: "default", name: "vm", uid: "u", network: "vm-net/eth\(number)")
            func pod(_ name: String) -> Attachment {
                Attachment(node: "node-a", pod: name, podUID: name, containerID: name)
            }
            for command in [
                Command.allocate(AllocateRequest(owner: vm, attachment: pod("a"))),
                .release(.attachment(pod("a").id, owner: vm, network: vm.network)),
                .allocate(AllocateRequest(owner: vm, attachment: pod("b"))),
            ] {
                _ = try ledger.apply(command, at: Self.now)
            }
        }
        let past = ledger.pending.compactMap { if case .putHistory(let entry) = $0 { entry } else { nil } }
        ledger.commit()
        return (ledger, past.reversed())
    }

    private let listing = HistoryListing(subject: .object(namespace: "default", name: "vm"), pageSize: 10)

    @Test func `who has it now is told, also where what was before ended in the same moment`() throws {
        let (ledger, past) = try replaced()
        let entries = try writer(ledger, past).history(listing).entries
        #expect(entries.map(\.end) == [nil, .attached, .detached])
        #expect(entries.map(\.pod) == ["b", "", "a"])
    }

    @Test func `what ends while it is asked for is told once`() throws {
        let (ledger, past) = try replaced()
        var ended = try #require(try writer(ledger, past).history(listing).entries.first)
        (ended.until, ended.end, ended.revision) = (Self.now, .freed, ended.revision + 1)
        let entries = try writer(ledger, [ended] + past).history(listing).entries
        #expect(entries.map(\.end) == [.freed, .attached, .detached])
    }

    @Test(arguments: 1...6)
    func `a page is as long as it is asked for, but that what is now is whole`(size: Int) throws {
        let (ledger, past) = try replaced(networks: 3)
        let writer = writer(ledger, past)
        var entries: [HistoryEntry] = []
        var listing = listing
        listing.pageSize = size
        repeat {
            let page = try writer.history(listing)
            #expect(page.entries.count <= (listing.before == nil ? max(3, size) : size))
            entries += page.entries
            listing.before = page.before
        } while listing.before != nil
        #expect(entries.map(\.end) == [nil, nil, nil] + past.map(\.end))
    }

    private func writer(_ store: SlowStore) -> Writer {
        Writer(
            Ledger(), store: store, clock: LedgerClock(wallClock: Self.now, notBefore: Self.now),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    /// Each has a thread.
    @Test func `a few reads of the history wait for the store, more are refused as overloaded`() async {
        let store = SlowStore()
        let writer = writer(store)
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

    /// Those that tell who probes that all is well are tasks.
    @Test func `tasks go on while all reads of the history that there may be wait for the store`() async {
        let store = SlowStore()
        let writer = writer(store)
        let (pages, answers) = AsyncStream.makeStream(of: Result<HistoryPage, IPAMError>.self)
        for _ in 0..<16 { writer.history(listing) { answers.yield($0) } }
        let isLate = Atomic(false)
        // No task: it would not go on either.
        DispatchQueue(label: "deadline").asyncAfter(deadline: .now() + 5) {
            isLate.store(true, ordering: .releasing)
            for _ in 0..<16 { store.gate.signal() }
        }
        await Task.detached {}.value
        let wasLate = isLate.load(ordering: .acquiring)
        #expect(!wasLate)
        for _ in 0..<16 { store.gate.signal() }
        for await _ in pages.prefix(16) {}
    }
}
