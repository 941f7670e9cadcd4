import Addresses
import Foundation
import IPAMAPI
import IPAMModel
import Ledger
import LedgerStore
import Logging
import Synchronization
import TestLog
import Testing

@testable import IPAMService

/// A store whose commits have room for one new binding each, and wait for a test.
private final class NarrowStore: LedgerStore {
    let gate = DispatchSemaphore(value: 0)
    private let isGated = Atomic(false)
    /// From now on each commit is refused, or none.
    let isFull = Atomic(false)
    private let commits = Atomic(0)
    /// Commits that have begun.
    var count: Int { commits.load(ordering: .acquiring) }

    /// From now on each commit waits for a signal of `gate`.
    func close(the gate: Bool) { isGated.store(gate, ordering: .releasing) }

    func load() throws(StoreError) -> Snapshot { Snapshot() }
    func commit(_ changes: [Change], revision: UInt64) throws(StoreError) {
        commits.add(1, ordering: .acquiringAndReleasing)
        if isGated.load(ordering: .acquiring) { gate.wait() }
        if isFull.load(ordering: .acquiring) { throw StoreError(.failed, "the disk is full") }
    }
    func history(
        of subject: HistorySubject, before revision: UInt64, limit: Int
    ) throws(StoreError) -> [HistoryEntry] { [] }
    func history(after revision: UInt64, limit: Int) throws(StoreError) -> [HistoryEntry] { [] }
    var batching: Batching { Batching(mostAddresses: 2) }
    func close() {}
}

private struct Nothing: Error {}

/// What the audit log has told.
private final class Told: Sendable {
    let bytes = Mutex<[UInt8]>([])
    var lines: [Substring] { String(decoding: bytes.withLock(\.self), as: UTF8.self).split(separator: "\n") }
}

@Suite(.timeLimit(.minutes(1))) struct WriterTests {
    private let store = NarrowStore()
    private let told = Told()
    private let writer: Writer

    init() async throws {
        let audit = AuditLog(isJSON: false) { [told] line in told.bytes.withLock { $0 += line } }
        writer = Writer(
            Ledger(), store: store,
            clock: LedgerClock(wallClock: Timestamp(seconds: 1_800_000_000), notBefore: Timestamp(seconds: 0)),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, audit: audit)
        let prefix = PoolPrefix(prefix: try #require(IPPrefix("10.16.0.0/24")))
        _ = try await writer.submit(.createPool(Pool(name: "vm-net", prefixes: [prefix], isDefault: true)))
    }

    private static func owner(_ name: String) -> Owner {
        Owner(kind: .virtualMachine, namespace: "a", name: name, uid: name, network: "vm-net/eth0")
    }

    private func allocate(_ name: String) -> Command { .allocate(AllocateRequest(owner: Self.owner(name))) }

    /// On a thread of its own, as a call comes.
    private func submit(_ name: String, _ complete: @escaping @Sendable () -> Void) {
        let command = allocate(name)
        Thread.detachNewThread { [writer] in writer.submit(command, by: .server) { _ in complete() } }
    }

    /// Two callers wait for the commit under way, which has its own thread: one more than the next has room for.
    private func fill(_ second: @escaping @Sendable () -> Void, _ third: @escaping @Sendable () -> Void) async {
        store.close(the: true)
        let before = store.count
        submit("first") {}
        while store.count == before, !Task.isCancelled { await Task.yield() }
        // They do not block: another thread leads.
        writer.submit(allocate("second"), by: .server) { _ in second() }
        writer.submit(allocate("third"), by: .server) { _ in third() }
        store.close(the: false)
    }

    @Test func `a page is whole though the ledger is let go of in between`() async throws {
        for number in 1...30 {
            var owner = Self.owner("vm-\(number)")
            // Three are another's: among the first, in the middle, and the last.
            if number == 2 || number == 15 || number == 30 { owner.namespace = "b" }
            _ = try await writer.submit(.allocate(AllocateRequest(owner: owner)))
        }
        for (size, most) in [(1, 1), (2, 7), (3, 4), (10, 30), (10, 31)] {
            var names: [String] = []
            var token: String?
            repeat {
                let listing = BindingListing(
                    filter: BindingFilter(namespace: "b"), pageSize: size, pageToken: token)
                let page = try writer.page(listing, lookingAt: most)
                // Only the last may have fewer.
                #expect(page.bindings.count == size || page.nextPageToken == nil)
                names += page.bindings.map(\.binding.owner.name)
                token = page.nextPageToken
            } while token != nil
            #expect(names == ["vm-2", "vm-15", "vm-30"], "pages of \(size), \(most) at once")
        }
    }

    @Test func `who had an address is told, and that others have to wait only where they have`() async throws {
        func refusal(_ address: IPAddress) -> IPAMError? {
            #expect(throws: IPAMError.self) { try writer.binding(.address(address)) }
        }
        func freed(_ pool: Pool) async throws -> IPAddress {
            _ = try await writer.submit(.createPool(pool))
            var request = AllocateRequest(owner: Self.owner(pool.name))
            request.pool = pool.name
            guard case .binding(let binding?, _) = try await writer.submit(.allocate(request)) else { throw Nothing() }
            _ = try await writer.submit(.release(.binding(request.owner)))
            return try #require(binding.binding.assignments.first?.address)
        }
        let held = Owner(kind: .virtualMachine, namespace: "default", name: "held", uid: "new", network: "n/eth0")
        let other = Owner(kind: .virtualMachine, namespace: "default", name: "held", uid: "old", network: "n/eth0")
        _ = try await writer.submit(.allocate(AllocateRequest(owner: held)))
        let another = #expect(throws: IPAMError.self) { try writer.binding(.owner(other)) }
        #expect(another?.reason == .bindingNotFound && another?.metadata["uid"] == "new")
        let never = try #require(IPAddress("10.16.0.99"))
        #expect(refusal(never)?.reason == .bindingNotFound && refusal(never)?.metadata["lastOwner"] == nil)
        var waiting = Pool(name: "waiting", prefixes: [PoolPrefix(prefix: try #require(IPPrefix("10.1.0.0/24")))])
        let address = try await freed(waiting)
        let quarantined = refusal(address)
        #expect(quarantined?.reason == .addressQuarantined && quarantined?.metadata["availableAt"] != nil)

        let ready = try await freed(
            Pool(
                name: "ready", prefixes: [PoolPrefix(prefix: try #require(IPPrefix("10.2.0.0/24")))],
                reuseDelay: .seconds(0)))
        waiting.prefixes[0].excluded = [AddressRange(from: address, through: address)]
        _ = try await writer.submit(.updatePool(waiting))
        for (address, name) in [(ready, "ready"), (address, "waiting")] {
            let error = refusal(address)
            #expect(error?.reason == .bindingNotFound && error?.code == .notFound && error?.isRetryable == false)
            #expect(error?.metadata["lastOwner"] == Self.owner(name).key.object && error?.metadata["freedAt"] != nil)
            #expect(error?.metadata["availableAt"] == nil)
        }
    }

    /// A line for each of hundreds of batches a second would take what room there is.
    @Test func `of commits that fail one after the other the first is told`() async throws {
        let log = RecordedLog(.error)
        let writer = Writer(
            Ledger(), store: store,
            clock: LedgerClock(wallClock: Timestamp(seconds: 1_800_000_000), notBefore: Timestamp(seconds: 0)),
            logger: log.logger)
        let prefix = PoolPrefix(prefix: try #require(IPPrefix("10.16.0.0/24")))
        let command = Command.createPool(Pool(name: "vm-net", prefixes: [prefix]))
        for outages in 1...2 {
            store.isFull.store(true, ordering: .releasing)
            for _ in 0..<3 {
                let error = await #expect(throws: IPAMError.self) { try await writer.submit(command) }
                #expect(error?.reason == .storeUnavailable)
            }
            #expect(log.lines == Array(repeating: "commit failed error=the disk is full failed=1", count: outages))
            store.isFull.store(false, ordering: .releasing)
            _ = try await writer.submit(outages == 1 ? command : .deletePool(name: "vm-net"))
            _ = try await writer.submit(.deletePool(name: "vm-net"))
        }
    }

    /// More than a page of a watch.
    private func fillWide(_ count: Int) async throws {
        let prefix = PoolPrefix(prefix: try #require(IPPrefix("10.17.0.0/16")))
        _ = try await writer.submit(.createPool(Pool(name: "wide", prefixes: [prefix])))
        for number in 0..<count {
            _ = try await writer.submit(
                .allocate(AllocateRequest(owner: Self.owner("vm-\(number)"), pool: "wide")))
        }
    }

    /// Until the present state is sent.
    private func watch(onFirst act: @Sendable () -> Void = {}) async -> Result<Int, IPAMError> {
        var sent = 0
        do {
            var watch = try BindingWatch(BindingFilter(), by: .anyone, writer: writer) { _ in }
            try await watch.run(failure: { $0 as any Error }) { event in
                if sent == 0 { act() }
                if event.kind == .synced { throw Nothing() }
                sent += 1
            }
        } catch let error as IPAMError {
            return .failure(error)
        } catch {}
        return .success(sent)
    }

    @Test func `a watch that another ledger comes in between ends as one to begin again`() async throws {
        try await fillWide(BindingWatch.pageSize + 1)
        let result = await watch { [writer, store] in
            var next = Ledger()
            next.begin(term: 7)
            writer.serve(LedgerInHand(next), from: store)
        }
        let error = #expect(throws: IPAMError.self) { try result.get() }
        #expect(error?.code == .aborted && error?.reason == .watchTooSlow)
    }

    @Test func `what all watches remember is bounded, and given back`() async throws {
        let count = BindingWatch.pageSize + 1
        try await fillWide(count)
        writer.watches.remember(WatchHub.mostRemembered - count + 1)
        let error = await #expect(throws: IPAMError.self) { try await watch().get() }
        #expect(error?.code == .resourceExhausted && error?.reason == .overloaded)
        writer.watches.remember(-1)
        #expect(try await watch().get() == count)
        #expect(try await watch().get() == count)
    }

    @Test func `while the answers of a full commit are given, whoever calls next leads`() async {
        let (begun, answered) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        let wasAnswered = Mutex<DispatchTimeoutResult?>(nil)
        await fill {
            begun.signal()
            wasAnswered.withLock { $0 = answered.wait(timeout: .now() + 20) }
            begun.signal()
        } _: {
        }
        store.gate.signal()
        #expect(begun.wait(timeout: .now() + 30) == .success)
        submit("fourth") { answered.signal() }
        #expect(begun.wait(timeout: .now() + 30) == .success)
        #expect(wasAnswered.withLock { $0 } == .success)
        writer.close()
    }

    /// Else one thread would commit and another take calls for as long as there is a load. What is told of both has the order of
    /// their commits all the same.
    @Test func `who takes no calls leads for one batch: while it answers, whoever calls next leads`() {
        let (begun, answered) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        let wasAnswered = Mutex<DispatchTimeoutResult?>(nil)
        submit("first") {
            begun.signal()
            wasAnswered.withLock { $0 = answered.wait(timeout: .now() + 20) }
            begun.signal()
        }
        #expect(begun.wait(timeout: .now() + 30) == .success)
        submit("second") { answered.signal() }
        #expect(begun.wait(timeout: .now() + 30) == .success)
        #expect(wasAnswered.withLock { $0 } == .success)
        writer.close()
        let allocated = told.lines.filter { $0.contains(" allocated ") }
        #expect(allocated.count == 2)
        for (line, name) in zip(allocated, ["first", "second"]) { #expect(line.contains("owner=vm a/\(name) ")) }
    }

    @Test(.timeLimit(.minutes(1))) func `reads go on while a backup is made a ledger of`() async throws {
        let writer = writer
        let pools = Mutex(0)
        await withCheckedContinuation { continuation in
            Thread.detachNewThread {
                _ = try? writer.replace { (_) throws(IPAMError) in
                    Thread.detachNewThread {
                        pools.withLock { $0 = writer.read { ledger, _ in ledger.pools.count } }
                        continuation.resume()
                    }
                    while pools.withLock({ $0 == 0 }) { usleep(1000) }
                    return (Ledger(), [], ())
                }
            }
        }
        #expect(pools.withLock(\.self) == 1)
        writer.close()
    }

    @Test func `it is closed once all is answered that it has taken in`() async {
        let answers = Mutex<[String]>([])
        let begun = DispatchSemaphore(value: 0)
        await fill {
            begun.signal()
            usleep(100_000)
            answers.withLock { $0.append("second") }
        } _: {
            answers.withLock { $0.append("third") }
        }
        store.gate.signal()
        #expect(begun.wait(timeout: .now() + 30) == .success)
        writer.close()
        #expect(answers.withLock { Set($0) } == ["second", "third"])
    }

    @Test func `what is refused because too many wait is counted, and no other refusal`() async {
        store.close(the: true)
        let before = store.count
        submit("first") {}
        while store.count == before, !Task.isCancelled { await Task.yield() }
        let refusals = Mutex<[IPAMError.Reason]>([])
        @Sendable func ask(_ name: String) {
            writer.submit(.release(.binding(Self.owner(name))), by: .server) { answer in
                if case .failure(let error) = answer { refusals.withLock { $0.append(error.reason) } }
            }
        }
        // They do not block: the thread that waits for the commit leads.
        for number in 0..<5000 { ask("\(number)") }
        let refused = refusals.withLock(\.self)
        #expect(!refused.isEmpty && refused.allSatisfy { $0 == .overloaded })
        #expect(writer.metrics.refusedCommands.load(ordering: .relaxed) == refused.count)
        store.close(the: false)
        store.gate.signal()
        writer.close()
        ask("late")
        #expect(refusals.withLock(\.self) == refused + [.shuttingDown])
        #expect(writer.metrics.refusedCommands.load(ordering: .relaxed) == refused.count)
    }

    /// A load that never lets the queue run empty: each answer calls again.
    @Test func `what the server does by itself is answered with its commit, however much comes after it`() async throws
    {
        let deadline = ContinuousClock.now + .seconds(20)
        let isOver = Atomic(false)
        let calls = Atomic(0)
        @Sendable func callAgain() {
            if isOver.load(ordering: .acquiring) || .now > deadline { return }
            let number = calls.add(1, ordering: .relaxed).newValue
            writer.submit(.release(.binding(Self.owner("\(number)"))), by: .server) { _ in callAgain() }
        }
        store.close(the: true)
        let before = store.count
        async let own = writer.submit(allocate("own"))
        while store.count == before, !Task.isCancelled { await Task.yield() }
        callAgain()
        store.close(the: false)
        store.gate.signal()
        _ = try await own
        #expect(.now < deadline)
        isOver.store(true, ordering: .releasing)
        writer.close()
    }
}
