import Addresses
import EtcdStore
import Foundation
import IPAMModel
import Ledger
import LedgerStore
import StoreConformance
import Testing

@Suite(.serialized, .enabled(if: EtcdCluster.isInstalled)) struct `The etcd store` {
    private static let cluster = Result { try EtcdCluster() }

    private let cluster: EtcdCluster
    private let conformance: StoreConformance

    init() throws {
        let cluster = try Self.cluster.get()
        self.cluster = cluster
        conformance = StoreConformance {
            let prefix = "/holdfast/\(UUID())/"
            return { try EtcdTenure.open(cluster.configuration(prefix), as: "test") }
        }
    }

    @Test func `is empty when new`() throws { try conformance.aNewStoreIsEmpty() }

    @Test(arguments: [UInt64.random(in: 0 ... .max), 1])
    func `reads a history back as it was committed`(seed: UInt64) throws {
        try conformance.aHistoryIsReadBackAsItWasCommitted(seed: seed, batches: 60)
    }

    @Test func `lets the changes of a batch take effect in order`() throws {
        try conformance.changesOfABatchTakeEffectInOrder()
    }

    @Test func `lets a binding come again in a batch`() throws { try conformance.aBindingThatComesAgainInABatchMoves() }

    @Test func `refuses a batch that breaks uniqueness, whole`() throws {
        try conformance.aBatchThatBreaksUniquenessIsRefusedWhole()
    }

    @Test func `takes nothing once closed`() throws { try conformance.aClosedStoreTakesNothing() }

    @Test func `keeps a commit that no transaction has room for, whole`() throws {
        let prefix = "/holdfast/\(UUID())/"
        let store = try EtcdTenure.open(cluster.configuration(prefix), as: "test")
        defer { store.close() }
        var model = Model()
        for (count, revision) in [(60, 1), (130, 2), (3000, 3), (9000, 4)] as [(Int, UInt64)] {
            let base = Int(revision) * 10_000
            let changes = (0..<count).map { Change.putBinding(Example.binding(owner: base + $0, address: base + $0)) }
            try store.commit(changes, revision: revision)
            for change in changes { model.apply(change) }
            model.revision = revision
            #expect(model.difference(from: try store.load()) == nil)
        }
        // One of very many is taken already.
        let intruder = (0..<1000).map { Change.putBinding(Example.binding(owner: 80_000 + $0, address: 41_000 - $0)) }
        #expect(throws: StoreError.self) { try store.commit(intruder, revision: 5) }
        #expect(model.difference(from: try store.load()) == nil)
        #expect(try cluster.ctl("get", "--prefix", "--keys-only", prefix + "journal/") == "")
    }

    @Test func `can be read with etcdctl`() throws {
        let prefix = "/holdfast/\(UUID())/"
        let store = try EtcdTenure.open(cluster.configuration(prefix), as: "10.0.0.1:7440")
        defer { store.close() }
        try store.commit([.putBinding(Example.binding(owner: 1, address: 7))], revision: 1)
        let keys = try cluster.ctl("get", "--prefix", "--keys-only", prefix).split(separator: "\n").map {
            String($0.dropFirst(prefix.count))
        }
        #expect(keys == ["address/10.16.0.7", "binding/vm/default/vm-1/vm-net/eth0", "leader", "revision"])
        #expect(
            try cluster.ctl("get", "--print-value-only", prefix + "address/10.16.0.7")
                == "vm default/vm-1 (vm-net/eth0)\n")
        #expect(try cluster.ctl("get", "--print-value-only", prefix + "leader") == "10.0.0.1:7440\n")
        #expect(
            try cluster.ctl("get", "--print-value-only", prefix + "revision")
                .hasPrefix("format 1 revision 1 step 1 by "))
    }
}
