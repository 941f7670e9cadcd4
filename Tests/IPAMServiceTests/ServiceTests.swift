import Addresses
import Foundation
import IPAMAPI
import IPAMModel
import Ledger
import LedgerStore
import Logging
import RPC
import Synchronization
import Testing

@testable import IPAMService

/// A store that fails, or holds a commit back, when told to.
private final class MoodyStore: LedgerStore {
    struct Mood {
        var fails = false
        /// Whether a commit was made by a task, which must not block.
        var wasTask = false
        /// Commits that have come to the gate.
        var begun = 0
        /// Who reads the whole now, and how many did at most.
        var (loading, mostLoading) = (0, 0)
        var committed: [[Change]] = []
    }

    let mood = Synchronization.Mutex(Mood())
    /// Held by a test: a commit waits for it.
    let gate = DispatchSemaphore(value: 0)
    let isGated = Atomic(false)
    private let whole: Snapshot

    init(_ whole: Snapshot = Snapshot()) { self.whole = whole }

    func load() throws(StoreError) -> Snapshot {
        mood.withLock { mood in
            mood.loading += 1
            mood.mostLoading = max(mood.mostLoading, mood.loading)
        }
        if isGated.load(ordering: .acquiring) { gate.wait() }
        mood.withLock { $0.loading -= 1 }
        return whole
    }

    /// Whether a test lets it get ready only once it says so, and what came of that.
    let isReadyGated = Atomic(false)
    let gotReady = Synchronization.Mutex<DispatchTimeoutResult?>(nil)

    func getReady() {
        guard isReadyGated.exchange(false, ordering: .acquiringAndReleasing) else { return }
        let result = gate.wait(timeout: .now() + 20)
        gotReady.withLock { $0 = result }
    }

    func commit(_ changes: [Change], revision: UInt64) throws(StoreError) {
        mood.withLock { $0.begun += 1 }
        let isTask = withUnsafeCurrentTask { unsafe $0 != nil }
        mood.withLock { $0.wasTask = $0.wasTask || isTask }
        if isGated.load(ordering: .acquiring) { gate.wait() }
        if mood.withLock({ $0.fails }) { throw StoreError(.failed, "the disk is gone") }
        mood.withLock { $0.committed.append(changes) }
    }

    func history(
        of subject: HistorySubject, before revision: UInt64, limit: Int
    ) throws(StoreError) -> [HistoryEntry] { [] }
    func history(after revision: UInt64, limit: Int) throws(StoreError) -> [HistoryEntry] { [] }
    var batching: Batching { Batching() }
    func close() {}
}

private final class Replies: Sendable {
    let count = Synchronization.Mutex(0)
}

/// The service in this process, over a real connection.
@Suite struct ServiceTests {
    private static let timeout = Duration.seconds(10)

    private func withServer(
        store: MoodyStore = MoodyStore(), gate: Gate = .open,
        _ body: (IPAMClient, MoodyStore, Writer) async throws -> Void
    ) async throws {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let ledger = Ledger()
        let writer = Writer(
            ledger, store: store,
            clock: LedgerClock(wallClock: Timestamp(seconds: 1_800_000_000), notBefore: Timestamp(seconds: 0)),
            logger: logger)
        let server = try RPCServer(
            configuration: RPCServer.Configuration(listeners: [RPCServer.Listener("127.0.0.1:0")]),
            services: writer.services(gate))
        let address = try #require(try server.start().first)
        let client = try IPAMClient(server: address)
        let prefix = try #require(IPPrefix("10.16.0.0/24"))
        _ = try await client.createPool(
            Pool(
                name: "vm-net", prefixes: [PoolPrefix(prefix: prefix, gateway: IPAddress("10.16.0.1"))],
                routes: [Route(destination: try #require(IPPrefix("10.0.0.0/8")))], dns: DNS(domain: "example.org"),
                isDefault: true),
            timeout: Self.timeout)
        do {
            try await body(client, store, writer)
        } catch {
            Issue.record(error)
        }
        await client.close()
        await server.shutdown(grace: .seconds(1))
        writer.close()
    }

    private func owner(_ name: String) -> Owner {
        Owner(kind: .virtualMachine, namespace: "default", name: name, uid: "uid-\(name)", network: "vm-net/eth0")
    }

    private func pod(_ name: String, node: String = "node-a", second: Int64 = 1) -> Attachment {
        Attachment(
            node: node, pod: name, podUID: "uid-\(name)", containerID: "c-\(name)",
            createdAt: Timestamp(seconds: 1_800_000_000 + second))
    }

    @Test func `backups are made one after the other`() async throws {
        let calls = Atomic(0)
        let gate = Gate { call in
            if call.method.hasSuffix("/Backup") { calls.add(1, ordering: .relaxed) }
            return .admitted(.anyone)
        }
        try await withServer(gate: gate) { client, store, _ in
            store.isGated.store(true, ordering: .releasing)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<2 { group.addTask { try await client.backup(withoutHistory: true) { _ in } } }
                // One was refused, and asks again.
                let deadline = ContinuousClock.now + Self.timeout
                while calls.load(ordering: .relaxed) < 3, ContinuousClock.now < deadline {
                    try await Task.sleep(for: .milliseconds(5))
                }
                store.isGated.store(false, ordering: .releasing)
                for _ in 0..<2 { store.gate.signal() }
                try await group.waitForAll()
            }
            #expect(calls.load(ordering: .relaxed) >= 3 && store.mood.withLock(\.mostLoading) == 1)
        }
    }

    @Test(.timeLimit(.minutes(1))) func `a backup whose client takes no more makes room for the next`() async throws {
        // More than a connection holds.
        let pool = Pool(name: String(repeating: "n", count: 200_000), prefixes: [])
        let writer = Writer(
            Ledger(), store: MoodyStore(Snapshot(pools: Array(repeating: pool, count: 40))),
            clock: LedgerClock(wallClock: Timestamp(seconds: 1_800_000_000), notBefore: Timestamp(seconds: 0)),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let server = try RPCServer(
            configuration: RPCServer.Configuration(listeners: [RPCServer.Listener("127.0.0.1:0")]),
            services: [Maintenance(writer, patience: .seconds(2)).service(.open)])
        let address = try #require(try server.start().first)
        let (stuck, next) = (try IPAMClient(server: address), try IPAMClient(server: address))
        let (pieces, took) = AsyncStream.makeStream(of: Void.self)
        let (isOver, over) = AsyncStream.makeStream(of: Void.self)
        let first = Task {
            try await stuck.backup(withoutHistory: true) { _ in
                took.yield()
                for await _ in isOver {}
            }
        }
        for await _ in pieces.prefix(1) {}
        let size = Atomic(0)
        do {
            try await next.backup(withoutHistory: true) { size.add($0.count, ordering: .relaxed) }
        } catch {
            Issue.record(error)
        }
        #expect(size.load(ordering: .relaxed) > 40 * 200_000)
        over.finish()
        let failure = await #expect(throws: IPAMError.self) { try await first.value }
        #expect(failure?.code == .aborted && failure?.reason == .backupTooSlow)
        await stuck.close()
        await next.close()
        await server.shutdown(grace: .seconds(1))
        writer.close()
    }

    @Test func `a restore whose client sends no more is forgotten`() async throws {
        let writer = Writer(
            Ledger(), store: MoodyStore(Snapshot(pools: [Pool(name: "vms", prefixes: [])])),
            clock: LedgerClock(wallClock: Timestamp(seconds: 1_800_000_000), notBefore: Timestamp(seconds: 0)),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let server = try RPCServer(
            configuration: RPCServer.Configuration(listeners: [RPCServer.Listener("127.0.0.1:0")]),
            services: [Maintenance(writer, patience: .milliseconds(300)).service(.open)])
        let client = try IPAMClient(server: try #require(try server.start().first))
        var file: [UInt8] = []
        try await client.backup(withoutHistory: true) { file += $0 }
        let half = file.count / 2
        func send(_ data: ArraySlice<UInt8>) async throws(IPAMError) {
            _ = try await client.restore(
                RestorePiece(
                    uploadID: "one", offset: UInt64(data.startIndex), data: Array(data), finishes: false),
                timeout: Self.timeout)
        }
        try await send(file[..<half])
        var refusal: IPAMError?
        let deadline = ContinuousClock.now + .seconds(20)
        while refusal == nil, ContinuousClock.now < deadline {
            // Nothing new: tells only whether what came before is still there.
            do throws(IPAMError) { try await send(file[half..<half]) } catch { refusal = error }
            try await Task.sleep(for: .milliseconds(20))
        }
        #expect(refusal?.reason == .restoreBroken)
        await client.close()
        await server.shutdown(grace: .seconds(1))
        writer.close()
    }

    @Test func `a client waits as long as an overloaded server says, and calls again within its time`() async throws {
        let refusals = Atomic(0)
        let calls = Atomic(0)
        // Every other role's calls are let in: the pool is made before.
        let gate = Gate { call in
            guard call.method.hasSuffix("/Allocate") else { return .admitted(.anyone) }
            calls.add(1, ordering: .relaxed)
            let isRefused = refusals.subtract(1, ordering: .relaxed).newValue >= 0
            return isRefused ? .refused(.overloaded("busy")) : .admitted(.anyone)
        }
        try await withServer(gate: gate) { client, _, _ in
            func allocate(within timeout: Duration) async throws {
                _ = try await client.allocate(AllocateRequest(owner: owner("testvm")), timeout: timeout)
            }
            refusals.store(2, ordering: .relaxed)
            let began = ContinuousClock.now
            try await allocate(within: Self.timeout)
            // 200 ms at least, twice.
            #expect(ContinuousClock.now - began >= .milliseconds(400) && calls.load(ordering: .relaxed) == 3)

            refusals.store(.max, ordering: .relaxed)
            var failure: IPAMError?
            // A machine that stands still for so long hears no answer: then once more.
            repeat {
                calls.store(0, ordering: .relaxed)
                failure = await #expect(throws: IPAMError.self) { try await allocate(within: .milliseconds(150)) }
            } while failure?.reason == .noAnswer
            #expect(failure?.code == .resourceExhausted && failure?.reason == .overloaded)
            #expect(calls.load(ordering: .relaxed) == 1, "there is no time to wait as long as the server says")
        }
    }

    @Test func `a call whose caller is found out by a task is not committed by it`() async throws {
        let isSlow = Atomic(false)
        let gate = Gate { _ in
            isSlow.load(ordering: .relaxed) ? .pending { () throws(RPCStatus) in .anyone } : .admitted(.anyone)
        }
        try await withServer(gate: gate) { client, store, _ in
            isSlow.store(true, ordering: .relaxed)
            _ = try await client.allocate(AllocateRequest(owner: owner("testvm")), timeout: Self.timeout)
            #expect(store.mood.withLock { !$0.wasTask && $0.committed.count == 2 })
        }
    }

    @Test("a restore that the store did not take is asked for again by its last piece")
    func restoreAgain() async throws {
        try await withServer { client, store, _ in
            var file: [UInt8] = []
            try await client.backup(withoutHistory: false) { file += $0 }
            let half = file.count / 2
            func send(_ data: ArraySlice<UInt8>) async throws -> RestoreOutcome {
                try await client.restore(
                    RestorePiece(
                        uploadID: "one", offset: UInt64(data.startIndex), data: Array(data),
                        finishes: data.endIndex == file.count),
                    timeout: Self.timeout)
            }
            _ = try await send(file[..<half])
            store.mood.withLock { $0.fails = true }
            let refusal = await #expect(throws: IPAMError.self) { try await send(file[half...]) }
            #expect(refusal?.reason == .storeUnavailable)
            store.mood.withLock { $0.fails = false }
            #expect(try await send(file[half...]).pools == 1)
        }
    }

    @Test("a binding moves on once the nodes that have copies have dropped them, and nobody else's move waits")
    func copies() async throws {
        try await withServer { client, _, _ in
            let (vm, other) = (owner("testvm"), owner("restored"))
            func allocate() async throws -> DescribedBinding {
                try await client.allocate(
                    AllocateRequest(owner: vm, attachment: pod("a"), keepsCopy: true), timeout: Self.timeout
                ).binding
            }
            func move(_ from: Owner, _ to: Owner, _ uid: String, target: Attachment) async throws -> DescribedBinding {
                _ = try await client.transfer(
                    TransferRequest(owner: from, migrationUID: uid, phase: .prepare(target: target)),
                    timeout: Self.timeout)
                return try await client.transfer(
                    TransferRequest(owner: from, migrationUID: uid, phase: .commit(targetOwner: to)),
                    timeout: Self.timeout)
            }
            let plain = try await client.allocate(
                AllocateRequest(owner: owner("plain"), attachment: pod("p")), timeout: Self.timeout)
            #expect(plain.binding.copyValidFor == nil)
            _ = try await move(owner("plain"), owner("moved"), "m-1", target: pod("q", node: "node-b", second: 2))

            let copy = try await allocate()
            #expect(copy.copyValidFor == Pool.defaultReuseDelay)
            let copies = [BindingCopy(owner: vm, revision: copy.binding.revision)]
            func renew(_ copies: [BindingCopy], dropped: [DroppedCopy] = []) async throws -> [RenewedCopy] {
                try await client.renewCopies(
                    RenewCopiesRequest(node: "node-a", copies: copies, dropped: dropped), timeout: Self.timeout)
            }
            #expect(try await renew(copies) == [RenewedCopy(validFor: Pool.defaultReuseDelay)])
            let target = pod("c", node: "node-b", second: 4)
            let prepared = try await client.transfer(
                TransferRequest(owner: vm, migrationUID: "m-3", phase: .prepare(target: target)),
                timeout: Self.timeout)
            #expect(prepared.copyValidFor == nil, "the target's node has not said that it keeps one")
            let refusal = await #expect(throws: IPAMError.self) { try await move(vm, other, "m-3", target: target) }
            #expect(refusal?.reason == .copiesOutstanding && refusal?.code == .unavailable)
            #expect(refusal?.isRetryable == true)
            let gone = try #require(try await renew(copies).first)
            #expect(gone.validFor == nil)
            _ = try await renew([], dropped: [DroppedCopy(owner: vm, ticket: gone.ticket)])
            #expect(try await move(vm, other, "m-3", target: target).binding.owner == other)
        }
    }

    @Test("a VM's life: allocate, migrate, stop, start, delete") func life() async throws {
        try await withServer { client, _, _ in
            let vm = owner("testvm")
            let (first, created) = try await client.allocate(
                AllocateRequest(owner: vm, attachment: pod("a")), timeout: Self.timeout)
            #expect(created)
            #expect(first.binding.assignments.map(\.address) == [IPAddress("10.16.0.2")].compactMap(\.self))
            #expect(first.binding.assignments.first?.gateway == IPAddress("10.16.0.1"))
            #expect(first.routes.count == 1 && first.dns?.domain == "example.org")

            let open = try await client.transfer(
                TransferRequest(
                    owner: vm, migrationUID: "m-1", phase: .prepare(target: pod("b", node: "node-b", second: 2))),
                timeout: Self.timeout)
            #expect(open.binding.state == .migrating)
            let moved = try await client.transfer(
                TransferRequest(owner: vm, migrationUID: "m-1", phase: .commit(targetOwner: nil)), timeout: Self.timeout
            )
            #expect(moved.binding.active?.node == "node-b" && moved.binding.state == .bound)

            let halted = try await client.release(
                .attachment(AttachmentID(podUID: "", containerID: "c-b"), owner: nil, network: "vm-net/eth0"),
                timeout: Self.timeout)
            #expect(halted?.binding.state == .reserved)
            #expect(halted?.binding.assignments == first.binding.assignments)
            #expect(try await client.binding(of: vm, timeout: Self.timeout).binding == halted?.binding)

            let (again, createdAgain) = try await client.allocate(
                AllocateRequest(owner: vm, attachment: pod("c", second: 3)), timeout: Self.timeout)
            #expect(
                !createdAgain && again.binding.assignments == first.binding.assignments
                    && again.binding.mac == first.binding.mac)

            #expect(try await client.release(.binding(vm), timeout: Self.timeout) == nil)
            #expect(try await client.release(.binding(vm), timeout: Self.timeout) == nil)
            let address = try #require(IPAddress("10.16.0.2"))
            let error = await #expect(throws: IPAMError.self) {
                try await client.binding(holding: address, timeout: Self.timeout)
            }
            #expect(error?.code == .notFound && error?.reason == .addressQuarantined)
            #expect(error?.metadata["lastOwner"]?.contains("testvm") == true)
            let usage = try await client.pool(named: "vm-net", timeout: Self.timeout).usage
            #expect(usage.first?.quarantined == 1)
        }
    }

    @Test("a commit that fails fails its calls and leaves the ledger as it was") func failedCommit() async throws {
        try await withServer { client, store, _ in
            store.mood.withLock { $0.fails = true }
            let request = AllocateRequest(owner: owner("vm"), attachment: pod("a"))
            let error = await #expect(throws: IPAMError.self) {
                try await client.allocate(request, timeout: Self.timeout)
            }
            #expect(error?.code == .unavailable && error?.reason == .storeUnavailable)
            #expect(
                try await client.bindings(matching: BindingFilter(), pageSize: 0, pageToken: nil, timeout: Self.timeout)
                    .bindings.isEmpty)
            store.mood.withLock { $0.fails = false }
            let (binding, created) = try await client.allocate(request, timeout: Self.timeout)
            #expect(created && binding.binding.assignments.first?.address == IPAddress("10.16.0.2"))
        }
    }

    /// What refuses the second, and has the third change nothing, is the first one's change: and that is undone.
    @Test(
        "a commit that fails fails its whole batch, also what was refused and what had nothing to change",
        .timeLimit(.minutes(1)))
    func failedBatch() async throws {
        try await withServer { _, store, writer in
            let commits = store.mood.withLock(\.begun)
            func waitForCommit(_ number: Int) async {
                while store.mood.withLock({ $0.begun < commits + number }), !Task.isCancelled { await Task.yield() }
            }
            store.isGated.store(true, ordering: .releasing)
            let first = Command.allocate(AllocateRequest(owner: owner("first")))
            Thread.detachNewThread { writer.submit(first, by: .server) { _ in } }
            await waitForCommit(1)
            let address = try #require(IPAddress("10.16.0.15"))
            let (errors, error) = AsyncStream.makeStream(of: IPAMError?.self)
            for name in ["vm", "other", "vm"] {
                let command = Command.allocate(AllocateRequest(owner: owner(name), addresses: [address]))
                // Does not block: another thread leads.
                writer.submit(command, by: .server) { result in
                    if case .failure(let failure) = result { error.yield(failure) } else { error.yield(nil) }
                }
            }
            store.gate.signal()
            await waitForCommit(2)
            store.mood.withLock { $0.fails = true }
            store.isGated.store(false, ordering: .releasing)
            store.gate.signal()
            var reasons: [IPAMError.Reason?] = []
            for await error in errors.prefix(3) { reasons.append(error?.reason) }
            #expect(reasons == [.storeUnavailable, .storeUnavailable, .storeUnavailable])
            store.mood.withLock { $0.fails = false }
        }
    }

    @Test("no reply before the commit, reads see the committed state, and waiting calls share the next commit")
    func groupCommit() async throws {
        try await withServer { client, store, _ in
            store.mood.withLock { ($0.begun, $0.committed) = (0, []) }
            store.isGated.store(true, ordering: .releasing)
            let replies = Replies()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<20 {
                    group.addTask {
                        _ = try await client.allocate(
                            AllocateRequest(owner: owner("vm-\(index)"), attachment: pod("p-\(index)")),
                            timeout: Self.timeout)
                        replies.count.withLock { $0 += 1 }
                    }
                }
                let deadline = ContinuousClock.now + .seconds(20)
                while store.mood.withLock({ $0.begun }) == 0, .now < deadline {
                    try await Task.sleep(for: .milliseconds(1))
                }
                // The first commit is held at the gate; a read does not wait for it, and does not see it.
                #expect(store.mood.withLock { ($0.begun, $0.committed.count) } == (1, 0))
                let page = try await client.bindings(
                    matching: BindingFilter(), pageSize: 0, pageToken: nil, timeout: Self.timeout)
                #expect(page.bindings.isEmpty)
                #expect(replies.count.withLock { $0 } == 0)
                store.isGated.store(false, ordering: .releasing)
                for _ in 0..<20 { store.gate.signal() }
                try await group.waitForAll()
            }
            let commits = store.mood.withLock { $0.committed }
            #expect(commits.flatMap(\.self).count == 20)
            #expect(commits.count < 20)
        }
    }

    @Test func `the store gets ready for the next commit once callers have their answers, and nobody waits for it`()
        async throws
    {
        try await withServer { client, store, _ in
            store.isReadyGated.store(true, ordering: .releasing)
            let held = try await client.allocate(
                AllocateRequest(owner: owner("one"), attachment: pod("one-1")), timeout: Self.timeout)
            #expect(try await client.binding(of: owner("one"), timeout: Self.timeout) == held.binding)
            #expect(store.gotReady.withLock(\.self) == nil)
            store.gate.signal()
            _ = try await client.allocate(
                AllocateRequest(owner: owner("two"), attachment: pod("two-1")), timeout: Self.timeout)
            #expect(store.gotReady.withLock(\.self) == .success)
        }
    }

    @Test("the store's state is told: failing, and well again without any call") func storeStates() async throws {
        try await withServer { client, store, writer in
            store.mood.withLock { $0.fails = true }
            let error = await #expect(throws: IPAMError.self) {
                try await client.allocate(AllocateRequest(owner: owner("vm")), timeout: Self.timeout)
            }
            #expect(error?.reason == .storeUnavailable)
            var states = writer.storeStates.makeAsyncIterator()
            let failing = await states.next()
            #expect(failing??.contains("the disk is gone") == true)
            store.mood.withLock { $0.fails = false }
            let well = await states.next()
            #expect(well == .some(nil))
        }
    }

    @Test func `a store that comes and goes is probed once a second, not once for each time`() async throws {
        try await withServer { client, store, writer in
            for number in 0..<20 {
                store.mood.withLock { $0.fails = true }
                _ = try? await client.allocate(AllocateRequest(owner: owner("lost-\(number)")), timeout: Self.timeout)
                store.mood.withLock { $0.fails = false }
                _ = try await client.allocate(AllocateRequest(owner: owner("vm-\(number)")), timeout: Self.timeout)
            }
            store.mood.withLock { $0.fails = true }
            _ = try? await client.allocate(AllocateRequest(owner: owner("lost")), timeout: Self.timeout)
            let (tried, since) = (store.mood.withLock(\.begun), ContinuousClock.now)
            var probes = 0
            while probes < 3, since.duration(to: .now) < .seconds(20) {
                try await Task.sleep(for: .milliseconds(5))
                probes = store.mood.withLock(\.begun) - tried
            }
            // One may have been due when the last failure came.
            #expect(probes >= 3 && probes <= 1 + Int(since.duration(to: .now) / .seconds(1)))
        }
    }

    @Test("a server that stops ends its watches at once, and says so") func watchAtShutdown() async throws {
        try await withServer { client, _, writer in
            var events = client.watch(BindingFilter()).makeAsyncIterator()
            let first = try await events.next()
            #expect(first?.kind == .synced)
            writer.watches.close()
            do throws(IPAMError) {
                while try await events.next() != nil {}
                Issue.record("the watch ended well")
            } catch {
                #expect(error.code == .unavailable && error.reason == .shuttingDown)
            }
        }
    }

    @Test("a watch that does not keep up ends, and its client learns why") func slowWatch() async throws {
        try await withServer { client, _, writer in
            var events = client.watch(BindingFilter()).makeAsyncIterator()
            let first = try await events.next()
            #expect(first?.kind == .synced)
            writer.watches.publish {
                (1...100_000).map { revision in
                    LedgerEvent.put(
                        DescribedBinding(
                            binding: Binding(
                                owner: owner("busy"), pool: "vm-net", assignments: [], mac: MACAddress(bits: 2),
                                revision: revision, createdAt: Timestamp(seconds: 0), updatedAt: Timestamp(seconds: 0)))
                    )
                }
            }
            do throws(IPAMError) {
                while try await events.next() != nil {}
                Issue.record("the watch ended well")
            } catch {
                #expect(error.code == .aborted && error.reason == .watchTooSlow)
            }
        }
    }

    @Test("a watch sends the present state, SYNCED, then changes in revision order, through its filter")
    func watch() async throws {
        try await withServer { client, _, _ in
            _ = try await client.allocate(
                AllocateRequest(owner: owner("before"), attachment: pod("a")), timeout: Self.timeout)
            _ = try await client.allocate(
                AllocateRequest(owner: owner("elsewhere"), attachment: pod("x", node: "node-x")), timeout: Self.timeout)
            var events: [String] = []
            var revision: UInt64 = 0
            for try await event in client.watch(BindingFilter(node: "node-a")) {
                events.append("\(event.kind) \(event.binding?.binding.owner.name ?? "")")
                #expect(event.revision >= revision)
                revision = event.revision
                switch events.count {
                case 2:  // synced: now something happens
                    _ = try await client.allocate(
                        AllocateRequest(owner: owner("new"), attachment: pod("b")), timeout: Self.timeout)
                    _ = try await client.allocate(
                        AllocateRequest(owner: owner("other"), attachment: pod("y", node: "node-x")),
                        timeout: Self.timeout)
                    _ = try await client.transfer(
                        TransferRequest(
                            owner: owner("before"), migrationUID: "m",
                            phase: .prepare(target: pod("c", node: "node-b", second: 2))),
                        timeout: Self.timeout)
                    _ = try await client.transfer(
                        TransferRequest(owner: owner("before"), migrationUID: "m", phase: .commit(targetOwner: nil)),
                        timeout: Self.timeout)
                    _ = try await client.release(.binding(owner("new")), timeout: Self.timeout)
                default: break
                }
                if events.count == 6 { break }
            }
            #expect(
                events == ["created before", "synced ", "created new", "updated before", "freed before", "freed new"])
        }
    }

    @Test("pages cover every binding once") func pages() async throws {
        try await withServer { client, _, _ in
            for index in 0..<25 {
                _ = try await client.allocate(AllocateRequest(owner: owner("vm-\(index)")), timeout: Self.timeout)
            }
            var names: [String] = []
            var token: String?
            repeat {
                let page = try await client.bindings(
                    matching: BindingFilter(), pageSize: 7, pageToken: token, timeout: Self.timeout)
                #expect(page.bindings.count <= 7)
                names += page.bindings.map(\.binding.owner.name)
                token = page.nextPageToken
            } while token != nil
            #expect(names.sorted() == (0..<25).map { "vm-\($0)" }.sorted())
            let error = await #expect(throws: IPAMError.self) {
                try await client.bindings(
                    matching: BindingFilter(), pageSize: 7, pageToken: "none-of-its-own", timeout: Self.timeout)
            }
            #expect(error?.code == .invalidArgument && error?.metadata["field"] == "page_token")
            let all = try await client.bindings(
                matching: BindingFilter(), pageSize: 100_000, pageToken: nil, timeout: Self.timeout)
            #expect(all.bindings.count == 25 && all.nextPageToken == nil)
        }
    }
}
