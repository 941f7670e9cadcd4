import Foundation
import IPAMModel
import Ledger
import LedgerStore
import RPC
import StoreConformance
import Synchronization
import Testing

@testable import EtcdStore

/// What comes late, or never, between a leader and etcd.
@Suite(.serialized, .enabled(if: EtcdCluster.isInstalled)) struct `What etcd has not answered` {
    private static let cluster = Result { try EtcdCluster() }
    private static let lease = Duration.seconds(4)

    private let cluster: EtcdCluster
    private let wire: Wire
    private let keys = EtcdKeys(prefix: "/holdfast/\(UUID())/")

    init() throws {
        cluster = try Self.cluster.get()
        wire = try Wire(to: cluster.members[0].client)
    }

    /// A term with one commit. `isAlone`: the wire is its only way to etcd.
    private func open(isAlone: Bool = true, lease: Duration = lease) throws -> EtcdTenure {
        var configuration = cluster.configuration(keys.prefix, lease: lease)
        configuration.endpoints = [wire.endpoint] + (isAlone ? [] : cluster.endpoints)
        let tenure = try EtcdTenure.open(configuration, as: "test")
        try tenure.commit([.putPool(Example.pool), .putBinding(Example.binding(owner: 1, address: 7))], revision: 1)
        return tenure
    }

    /// Which VMs have bindings, as etcd itself says.
    private func names() throws -> [String] {
        try cluster.ctl("get", "--prefix", "--keys-only", keys.bindings).split(separator: "\n").map {
            String($0.dropFirst(keys.bindings.count).split(separator: "/")[2])
        }
    }

    /// Of vm-2, as revision 2.
    private func commit(_ tenure: EtcdTenure) -> Commit {
        Commit(tenure, [.putBinding(Example.binding(owner: 2, address: 8))], revision: 2)
    }

    @Test func `is found out: a commit that took effect goes on as if it had been answered`() throws {
        defer { wire.close() }
        // A fourth of the lease is waited for the answer, and the rest must do for what follows.
        let tenure = try open(lease: .seconds(20))
        let before = wire.count(.requests)
        wire.hold(.answers)
        let commit = commit(tenure)
        // The mark of before is written again: that is how it is found out.
        #expect(eventually { wire.has(EtcdMark(revision: 1).text, in: .requests, after: before) })
        wire.release(.answers)
        #expect(commit.error() == nil)
        #expect(try names() == ["vm-1", "vm-2"])
        try tenure.commit([.putBinding(Example.binding(owner: 3, address: 9))], revision: 3)
        #expect(try names() == ["vm-1", "vm-2", "vm-3"])
        tenure.close()
    }

    /// On one way to etcd the commit takes very long; on the other the leader makes it void meanwhile.
    @Test func `is void once it was given up, however late it comes`() throws {
        defer { wire.close() }
        let tenure = try open(isAlone: false, lease: .seconds(20))
        wire.hold(.requests)
        #expect(commit(tenure).error()?.code == .failed)
        let before = wire.count(.answers)
        wire.deliver(.requests, upTo: "vm-2")
        // Refused: with what is there.
        #expect(eventually { wire.has(EtcdMark(revision: 1).text, in: .answers, after: before) })
        #expect(try names() == ["vm-1"])
        // Its address is another's.
        try tenure.commit([.putBinding(Example.binding(owner: 3, address: 8))], revision: 2)
        #expect(try names() == ["vm-1", "vm-3"])
        // Nor is the one taken for the other, though both made revision 2.
        #expect(wire.has("format 1 revision 2 step 2 by ", in: .requests, after: 0))
        #expect(try cluster.ctl("get", "--print-value-only", keys.revision).hasPrefix("format 1 revision 2 step 3 by "))
        tenure.close()
    }

    @Test func `ends the term where it cannot be found out, and the next leader knows`() throws {
        defer { wire.close() }
        let tenure = try open()
        wire.hold(.answers)
        #expect(commit(tenure).error()?.code == .notLeader)
        #expect(!tenure.lease.isHeld)
        let next = try LeadingStore(cluster.configuration(keys.prefix))
        #expect(try names() == ["vm-1", "vm-2"])
        #expect(Set(next.warm.snapshot.bindings.map(\.owner.name)) == ["vm-1", "vm-2"])
        next.close()
    }

    /// In the words of etcd's api/v3rpc/rpctypes/error.go. The transaction that makes it full takes effect, and which one that
    /// is nobody can choose.
    @Test func `may have taken effect where etcd is full, and has not where it was too much for one request`() {
        let full = RPCStatus(.resourceExhausted, "etcdserver: mvcc: database space exceeded")
        #expect(!full.saysThatNothingHappened && StoreError(etcd: full).code == .full)
        let slower = RPCStatus(.resourceExhausted, "etcdserver: too many requests")
        #expect(slower.saysThatNothingHappened && StoreError(etcd: slower).code == .failed)
        #expect(RPCStatus(.invalidArgument, "etcdserver: request is too large").saysThatNothingHappened)
        #expect(!RPCStatus(.dataLoss, "a broken message").saysThatNothingHappened)
        for code in [RPCStatus.Code.unavailable, .deadlineExceeded, .unknown, .cancelled, .internalError] {
            #expect(!RPCStatus(code, "etcdserver: request timed out").saysThatNothingHappened)
        }
    }

    /// Leases are renewed and keys are read all the while, so that nothing else would end it.
    @Test func `has not taken effect where etcd's members differ, also where they do so later`() async throws {
        let alone = try EtcdCluster()
        let wire = try Wire(to: alone.members[0].client)
        defer { wire.close() }
        var configuration = alone.configuration(keys.prefix)
        configuration.endpoints = [wire.endpoint] + alone.endpoints
        let tenure = try EtcdTenure.open(configuration, as: "test")
        try tenure.commit([.putPool(Example.pool), .putBinding(Example.binding(owner: 1, address: 7))], revision: 1)
        try await alone.raiseCorrupt()
        let refusal = commit(tenure).error()
        #expect(refusal?.code == .failed && refusal?.message.contains("what its members have differs") == true)
        try alone.ctl("alarm", "disarm")

        wire.hold(.requests)
        let late = commit(tenure)
        #expect(eventually { wire.has("vm-2", in: .requests, after: 0) })
        try await alone.raiseCorrupt()
        let error = late.error()
        #expect(error?.code == .failed && error?.message.contains("what its members have differs") == true)
        #expect(tenure.lease.isHeld)
        try alone.ctl("alarm", "disarm")
        try tenure.commit([.putBinding(Example.binding(owner: 3, address: 8))], revision: 2)
        tenure.close()
    }

    /// etcd counts from when the renewal comes. Counted from the answer, the lease would seem longer here than it is there.
    @Test func `makes no lease longer: it counts from when its renewal was sent`() throws {
        defer { wire.close() }
        let lease = Duration.seconds(12)
        let tenure = try open(lease: lease)
        let before = wire.count(.requests)
        wire.hold(.answers)
        #expect(eventually { wire.has(varint(tenure.lease.id), in: .requests, after: before) })
        let end = ContinuousClock.now + lease
        // An answer may take three times as long.
        usleep(1_000_000)
        let renewed = wire.count(.requests)
        wire.release(.answers)
        // It looks for its key, and that is answered; no other renewal after this one, three seconds later.
        #expect(eventually { wire.has(keys.leader, in: .requests, after: renewed) })
        wire.hold(.requests)
        #expect(eventually { ContinuousClock.now >= end })
        #expect(!tenure.lease.isHeld)
    }

    /// As protobuf writes a number.
    private func varint(_ number: Int64) -> [UInt8] {
        var rest = UInt64(bitPattern: number)
        var bytes: [UInt8] = []
        while rest > 0x7f {
            bytes.append(UInt8(rest & 0x7f) | 0x80)
            rest >>= 7
        }
        return bytes + [UInt8(rest)]
    }
}

/// A commit, on a thread of its own.
private final class Commit: Sendable {
    private let result = Mutex<Result<Void, StoreError>?>(nil)

    init(_ tenure: EtcdTenure, _ changes: [Change], revision: UInt64) {
        Thread.detachNewThread { [self] in
            let outcome = Result { () throws(StoreError) in try tenure.commit(changes, revision: revision) }
            result.withLock { $0 = outcome }
        }
    }

    /// Returns once it has ended: why it failed, nil where it did not.
    func error() -> StoreError? {
        var found: Result<Void, StoreError>?
        #expect(
            eventually {
                found = result.withLock { $0 }
                return found != nil
            })
        guard case .failure(let error) = found else { return nil }
        return error
    }
}
