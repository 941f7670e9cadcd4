import Foundation
import IPAMModel
import Ledger
import LedgerStore
import RPC
import StoreConformance
import Testing

@testable import EtcdStore

@Suite(.serialized, .enabled(if: EtcdCluster.isInstalled)) struct `A term of leadership` {
    private static let cluster = Result { try EtcdCluster() }

    private let cluster: EtcdCluster
    private let prefix = "/holdfast/\(UUID())/"

    init() throws { cluster = try Self.cluster.get() }

    private func open() throws -> EtcdTenure { try EtcdTenure.open(cluster.configuration(prefix), as: "test") }

    /// The lease is taken away behind its back, so that only the comparison in etcd stands between it and the ledger.
    @Test func `is over in etcd before its holder knows: nothing that it sends then takes effect`() throws {
        let old = try open()
        try old.commit([.putBinding(Example.binding(owner: 1, address: 7))], revision: 1)
        try cluster.ctl("lease", "revoke", String(old.lease.id, radix: 16))
        #expect(old.lease.isHeld)
        #expect { try old.commit([.putBinding(Example.binding(owner: 2, address: 8))], revision: 2) } throws: {
            ($0 as? StoreError)?.code == .notLeader
        }
        #expect(!old.lease.isHeld)

        // Nor once another leads, and has given the same address.
        let older = try open()
        try cluster.ctl("lease", "revoke", String(older.lease.id, radix: 16))
        let new = try open()
        try new.commit([.putBinding(Example.binding(owner: 3, address: 8))], revision: 2)
        #expect(throws: StoreError.self) {
            try older.commit([.putBinding(Example.binding(owner: 2, address: 8))], revision: 2)
        }
        #expect(try Set(new.load().bindings.map(\.owner.name)) == ["vm-1", "vm-3"])
        new.close()
    }

    @Test func `a history of which much is forgotten while it is read does not end there`() throws {
        let tenure = try open()
        defer { tenure.close() }
        let entries = (1...5).map { (number: UInt64) in
            var entry = HistoryEntry(Example.binding(owner: 1, address: 1))
            entry.revision = number
            return entry
        }
        try tenure.commit(entries.map(Change.putHistory), revision: 10)
        // As who has read the index finds it, when the entries are trimmed before they are read.
        let gone = (UInt64(3)...5).map { EtcdOperation.delete(tenure.keys.history($0)) }
        _ = try tenure.client.commit(EtcdTransaction(success: gone), timeout: .seconds(10))
        let subject = HistorySubject.object(namespace: entries[0].owner.namespace, name: entries[0].owner.name)
        #expect(try tenure.history(of: subject, before: .max, limit: 2).map(\.revision) == [2, 1])
        #expect(try tenure.history(of: subject, before: 2, limit: 2).map(\.revision) == [1])
    }

    @Test func `is refused while another lasts`() throws {
        let first = try open()
        #expect { try open() } throws: { ($0 as? StoreError)?.code == .inUse }
        first.close()
        let second = try open()
        second.close()
    }

    @Test func `makes the largest batch a fact in one transaction`() throws {
        let alone = try EtcdCluster()
        let tenure = try EtcdTenure.open(alone.configuration(prefix), as: "test")
        defer { tenure.close() }
        let most = tenure.batching
        let bindings = (1...most.mostAddresses).map { Example.binding(owner: $0, address: $0) }
        let entries = (most.mostAddresses..<most.mostChanges).map { number in
            var entry = HistoryEntry(bindings[0])
            entry.revision = UInt64(number)
            return entry
        }
        func revision() throws -> Int64 {
            try tenure.client.range(from: tenure.keys.leader, timeout: .seconds(10)).revision
        }
        let before = try revision()
        try tenure.commit(bindings.map(Change.putBinding) + entries.map(Change.putHistory), revision: 1000)
        #expect(try revision() == before + 1)
        #expect(try tenure.load().bindings.count == most.mostAddresses)
        #expect(try tenure.history(after: 0, limit: 1000).count == entries.count)
    }

    @Test func `ends by itself when etcd is away for longer than the lease`() throws {
        let alone = try EtcdCluster()
        let configuration = alone.configuration(prefix, lease: .seconds(2))
        let tenure = try EtcdTenure.open(configuration, as: "test")
        alone.send(SIGSTOP, to: 0)
        #expect(eventually { !tenure.lease.isHeld })
        #expect { try tenure.checkIsCurrent() } throws: { ($0 as? StoreError)?.code == .notLeader }
        alone.send(SIGCONT, to: 0)
        var refusal: StoreError?
        let isOpened = eventually {
            do throws(StoreError) {
                try EtcdTenure.open(configuration, as: "test").close()
                return true
            } catch {
                refusal = error
                return false
            }
        }
        #expect(isOpened, "\(refusal.debugDescription)")
    }

    @Test func `stays over once it is, though etcd renews the lease late`() async throws {
        let alone = try EtcdCluster()
        let client = try EtcdClient(alone.configuration())
        let granted = try client.grantLease(seconds: 60, timeout: .seconds(20))
        // Shorter here than there.
        let lease = EtcdLease(client, id: granted.id, length: .seconds(2), since: .now)
        lease.keep()
        alone.send(SIGSTOP, to: 0)
        #expect(eventually { !lease.isHeld })
        alone.send(SIGCONT, to: 0)
        #expect(stays(for: .seconds(1)) { !lease.isHeld })
        lease.giveUp()
        lease.waitUntilLost()
        await client.close()
    }

    /// A member of etcd's that hangs on its disk goes on renewing leases that have ended (etcd issue 15247).
    @Test func `ends where etcd renews the lease, and the leader's key is gone or cannot be read`() throws {
        let configuration = cluster.configuration(prefix, lease: .seconds(4))
        let tenure = try EtcdTenure.open(configuration, as: "test")
        #expect(stays(for: .seconds(5)) { tenure.lease.isHeld })
        try cluster.ctl("del", tenure.keys.leader)
        #expect(eventually { !tenure.lease.isHeld })
        tenure.close()

        let client = try EtcdClient(configuration)
        let granted = try client.grantLease(seconds: 60, timeout: .seconds(20))
        let lease = EtcdLease(client, id: granted.id, length: .seconds(2), since: .now)
        lease.keep { throw RPCStatus(.deadlineExceeded, "a member that hangs") }
        #expect(eventually { !lease.isHeld })
        lease.waitUntilLost()
        Task { await client.close() }
    }

    /// What this server has in memory is not what is in etcd.
    @Test func `ends with an address that etcd says is taken, and is not begun while no binding has it`() throws {
        let tenure = try open()
        try tenure.commit([.putPool(Example.pool)], revision: 1)
        let new = Example.binding(owner: 1, address: 7)
        let key = tenure.keys.address(new.assignments[0].address)
        try cluster.ctl("put", key, "somebody")
        let refusal = #expect(throws: StoreError.self) { try tenure.commit([.putBinding(new)], revision: 2) }
        #expect(refusal?.message.contains(key) == true, "\(refusal?.message ?? "")")
        #expect(!tenure.lease.isHeld)
        tenure.close()

        let damage = #expect(throws: StoreError.self) { try open() }
        #expect(damage?.code == .damaged && damage?.message.contains(key) == true, "\(damage?.message ?? "")")
        try cluster.ctl("del", key)
        let after = try open()
        try after.commit([.putBinding(new)], revision: 2)
        after.close()
        try cluster.ctl("del", key)
        let hole = #expect(throws: StoreError.self) { try open() }
        #expect(hole?.code == .damaged && hole?.message.contains(key) == true, "\(hole?.message ?? "")")
    }

    @Test func `takes nothing into a full etcd, says what to do, and goes on after that is done`() throws {
        let small = try EtcdCluster(flags: ["--quota-backend-bytes", "\(4 << 20)"])
        let tenure = try EtcdTenure.open(small.configuration(prefix), as: "test")
        var (revision, failure) = (UInt64(0), StoreError?.none)
        while failure == nil, revision < 2000 {
            let changes = (0..<50).map { Change.putBinding(Example.binding(owner: $0 + 1, address: $0 + 1)) }
            do throws(StoreError) {
                try tenure.commit(changes, revision: revision + 1)
                revision += 1
            } catch { failure = error }
        }
        #expect(failure?.code == .full, "\(failure?.message ?? "never full")")
        #expect(tenure.lease.isHeld)
        #expect(try tenure.load().revision == revision)
        let status = try small.ctl("get", "nothing", "-w", "json")
        try small.ctl(
            "compact", "--physical", String(status.split(separator: "\"revision\":").last?.prefix { $0.isNumber } ?? "")
        )
        try small.ctl("defrag")
        try small.ctl("alarm", "disarm")
        #expect(
            try eventually {
                // etcd raises the alarm on its own time, also once more after this.
                try small.ctl("alarm", "disarm")
                return
                    (try? tenure.commit([.putBinding(Example.binding(owner: 90, address: 90))], revision: revision + 1))
                    != nil
            })
        #expect(try tenure.load().revision == revision + 1)
        tenure.close()
    }

    @Test func `leaves nothing in etcd of a large commit that finds no room, nor what a dead leader left`() throws {
        let small = try EtcdCluster(flags: ["--quota-backend-bytes", "\(4 << 20)"])
        let tenure = try EtcdTenure.open(small.configuration(prefix), as: "test")
        try tenure.commit([.putPool(Example.pool)], revision: 1)
        let refusal = #expect(throws: StoreError.self) {
            try tenure.commit((1...30_000).map { .putBinding(Example.binding(owner: $0, address: $0)) }, revision: 2)
        }
        #expect(refusal?.code == .full && tenure.lease.isHeld, "\(refusal?.message ?? "")")
        #expect(try small.ctl("get", "--prefix", "--keys-only", prefix + "journal/") == "")
        tenure.close()

        let next = try open()
        try next.commit([.putPool(Example.pool)], revision: 1)
        next.close()
        try cluster.ctl("put", prefix + "journal/000001", "part")
        let last = try open()
        #expect(try cluster.ctl("get", "--prefix", "--keys-only", prefix + "journal/") == "")
        last.close()
    }

    /// As a leader leaves it that dies after the journal has become a fact and before it is all written.
    @Test(arguments: [false, true])
    func `begins with what an earlier one had committed and not written yet`(asServer: Bool) throws {
        let before = try open()
        let old = Example.binding(owner: 1, address: 7)
        try before.commit([.putPool(Example.pool), .putBinding(old)], revision: 1)
        before.close()
        let keys = EtcdKeys(prefix: prefix)
        let changes: [Change] =
            [.removeBinding(old)] + (2..<400).map { .putBinding(Example.binding(owner: $0, address: $0)) }
        let plan = try CommitPlan(changes, keys: keys, before: HeldAddresses([old]))
        let client = try EtcdClient(cluster.configuration(prefix))
        func write(_ operations: [EtcdOperation]) throws {
            #expect(try client.commit(EtcdTransaction(success: operations), timeout: .seconds(20)).succeeded)
        }
        try write([.put(keys.journal(1), EtcdJournal.bytes(of: Array(plan.operations[..<200])))])
        try write([.put(keys.journal(2), EtcdJournal.bytes(of: Array(plan.operations[200...])))])
        // Of a longer commit that broke off before.
        let other = try CommitPlan([.putBinding(old)], keys: keys, before: HeldAddresses([])).operations
        try write([.put(keys.journal(3), EtcdJournal.bytes(of: other))])
        try write([.put(keys.revision, EtcdMark(revision: 2, journalParts: 2).bytes)])
        try write(Array(plan.operations[..<90]))

        var model = Model()
        for change in [.putPool(Example.pool)] + changes { model.apply(change) }
        model.revision = 2
        // Seen whole by whoever only reads, and by the next leader, who writes it out.
        #expect(model.difference(from: try EtcdReader(client: client, keys: keys).read().snapshot) == nil)
        let after: any LedgerStore
        if asServer {
            let leading = try LeadingStore(cluster.configuration(prefix, lease: .seconds(2)))
            #expect(model.difference(from: leading.warm.snapshot) == nil)
            after = leading
        } else {
            after = try open()
        }
        #expect(model.difference(from: try after.load()) == nil)
        #expect(try cluster.ctl("get", "--prefix", "--keys-only", prefix + "journal/") == "")
        #expect(
            try cluster.ctl("get", "--print-value-only", prefix + "revision").hasPrefix("format 1 revision 2 step "))
        #expect(throws: StoreError.self) {
            try after.commit([.putBinding(Example.binding(owner: 500, address: 300))], revision: 3)
        }
        after.close()
    }

    /// More than etcd may put into one answer.
    @Test func `reads a journal of any length`() throws {
        let keys = EtcdKeys(prefix: prefix)
        let client = try EtcdClient(cluster.configuration(prefix))
        let parts = 66
        for part in 1...parts {
            let record = EtcdOperation.put(keys.history(UInt64(part)), [UInt8](repeating: 7, count: 512 << 10))
            let transaction = EtcdTransaction(success: [.put(keys.journal(part), EtcdJournal.bytes(of: [record]))])
            #expect(try client.commit(transaction, timeout: .seconds(20)).succeeded)
        }
        let mark = EtcdTransaction(success: [.put(keys.revision, EtcdMark(revision: 2, journalParts: parts).bytes)])
        #expect(try client.commit(mark, timeout: .seconds(20)).succeeded)
        #expect(try EtcdReader(client: client, keys: keys).read().openJournal.count == parts)
    }

    @Test func `does not take a copy that broke off for a ledger`() throws {
        let keys = EtcdKeys(prefix: prefix)
        let key = keys.address(Example.binding(owner: 1, address: 7).assignments[0].address)
        try cluster.ctl("put", key, "somebody")
        #expect { try open() } throws: { ($0 as? StoreError)?.code == .damaged }
        // As one leaves it whose last transaction was made void.
        try cluster.ctl("put", keys.revision, EtcdMark(revision: 0).text)
        let refusal = #expect(throws: StoreError.self) { try open() }
        #expect(refusal?.message.contains("a copy into it was not finished") == true, "\(refusal?.message ?? "")")
        try cluster.ctl("del", key)
        let tenure = try open()
        try tenure.fill(Snapshot(revision: 7, pools: [Example.pool], bindings: [], freed: []))
        try tenure.takePlace()
        #expect(try cluster.ctl("get", "--print-value-only", keys.revision).hasPrefix("format 1 revision 7 step "))
        tenure.close()
    }

    @Test func `is no older program's than the ledger's`() throws {
        try cluster.ctl("put", prefix + "revision", "format 2 revision 4711")
        #expect { try open() } throws: { ($0 as? StoreError)?.code == .newerSchema }
        #expect(try cluster.ctl("get", "--print-value-only", prefix + "revision") == "format 2 revision 4711\n")
    }

    @Test func `finds damage in a record`() throws {
        let first = try open()
        try first.commit([.putBinding(Example.binding(owner: 1, address: 7))], revision: 1)
        first.close()
        try cluster.ctl("put", prefix + "binding/vm/default/vm-1/vm-net/eth0", "nonsense")
        #expect { try open() } throws: { ($0 as? StoreError)?.code == .damaged }
    }
}

@Suite struct `Keys in etcd` {
    @Test func `say who owns what, whatever the names hold`() {
        let keys = EtcdKeys(prefix: "/h/")
        let texts = ["", "a", "a/b", "%2F", "täst\n", "🦊", "/", "//"]
        var seen: Set<String> = []
        for namespace in texts {
            for name in texts {
                for network in texts {
                    for kind in OwnerKind.allCases {
                        let owner = OwnerKey(kind: kind, namespace: namespace, name: name, network: network)
                        let key = keys.binding(owner)
                        #expect(seen.insert(key).inserted)
                        #expect(keys.owner(of: key) == owner)
                    }
                }
            }
        }
    }

    @Test func `of a list of URLs are taken only where all are alike`() {
        #expect(EtcdConfiguration.endpoints(of: "http://a:2379,http://[::1]:1/")?.endpoints == ["a:2379", "[::1]:1"])
        #expect(EtcdConfiguration.endpoints(of: "https://a:2379")?.isTLS == true)
        for text in [
            "", "a:2379", "http://a:2379,https://b:2379", "http://a", "http://a:x", "http://a:1/path", "http://:1",
        ] {
            #expect(EtcdConfiguration.endpoints(of: text) == nil, "\(text)")
        }
    }
}
