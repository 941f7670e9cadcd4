import Addresses
import CMessages
import IPAMAPI
import IPAMModel
import LedgerStore
import Testing

@testable import EtcdStore
@testable import Ledger
@testable import RPC

@Suite struct EtcdTransactionTests {
    /// What etcd's quota counts is at its top level. A commit that is a fact is to be done also where etcd is full.
    @Test(arguments: [1, 128, 129, 3000])
    func `is counted by etcd's quota, however large it is, but where it is owed`(count: Int) {
        for isOwed in [false, true] {
            let operations = (0..<count).map { EtcdOperation.put("\($0)", []) }
            let arena = MessageArena()
            let message = EtcdTransaction(success: operations, isOwed: isOwed).wire(in: arena)
            var (counted, nested) = (0, 0)
            for index in 0..<message.pointee.n_success {
                guard let operation = message.pointee.success[index] else { continue }
                if operation.pointee.request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN {
                    nested += operation.pointee.request_txn.pointee.n_success
                    #expect(operation.pointee.request_txn.pointee.n_success <= EtcdTransaction.limit / 2)
                } else {
                    counted += 1
                }
            }
            #expect(counted + nested == count)
            #expect((counted > 0) == !isOwed)
        }
    }

    /// A change is four operations at most, and one more where it gives two other addresses, which are few. Mostly it is one or
    /// two.
    @Test func `has room for the largest batch`() {
        let most = EtcdTenure.mostAtOnce
        let addresses = (0..<most.mostAddresses).map { EtcdComparison.createRevision(of: "\($0)", 0) }
        var transaction = EtcdTransaction(
            comparisons: [.createRevision(of: "leader", 1), .modRevision(of: "revision", 1)] + addresses)
        transaction.success = (0..<3 * most.mostChanges).map { EtcdOperation.put("\($0)", []) }
        #expect(transaction.fits)
        // As etcd counts: along each path.
        let arena = MessageArena()
        let message = transaction.wire(in: arena)
        let top = max(message.pointee.n_compare, message.pointee.n_success, message.pointee.n_failure)
        for index in 0..<message.pointee.n_success {
            guard let operation = message.pointee.success[index] else { continue }
            let isNested = operation.pointee.request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN
            #expect(top + (isNested ? operation.pointee.request_txn.pointee.n_success : 0) <= EtcdTransaction.limit)
        }
        transaction.comparisons += addresses
        #expect(!transaction.fits)
    }
}

@Suite struct EtcdReaderTests {
    /// What agents can make of a binding must not be what no server can read.
    @Test func `a page of the largest bindings fits a message`() throws {
        let longest = String(repeating: "n", count: 253)
        #expect(throws: IPAMError.self) { try Rules.identifier(longest + "n", "") }
        let name = try Rules.identifier(try Rules.objectName(longest, ""), "")
        let label = try Rules.namespace(try Rules.poolName(String(repeating: "n", count: 63), ""), "")
        // Three bytes each in a key.
        let network = try Rules.identifier(String(repeating: "%", count: 253), "")
        let time = Timestamp(nanoseconds: 1_800_000_000_000_000_001)
        let pod = Attachment(node: name, pod: name, podUID: name, containerID: name, createdAt: time)
        let address = try #require(IPAddress("fd00:10:16:ffff:ffff:ffff:ffff:ffff"))
        let assignment = Assignment(address: address, prefixLength: 64, gateway: address)
        let binding = Binding(
            id: .max, owner: Owner(kind: .virtualMachine, namespace: label, name: name, uid: name, network: network),
            pool: label, assignments: [assignment, assignment], mac: MACAddress(bits: 0x0200_0a10_ab1f), active: pod,
            released: pod.id, target: pod, migrationUID: name,
            endedMigration: EndedMigration(uid: name, outcome: .aborted, released: pod.id), newestAttachment: time,
            // Pods, and sandboxes of pods that go on.
            superseded: Array(repeating: pod.id, count: 2 * Binding.supersededLimit), isCopied: true, heldSince: time,
            heldBy: name + name, revision: .max, createdAt: time, updatedAt: time)
        let key = EtcdKeys(prefix: "/\(name)/").binding(binding.owner.key)
        // Its three revisions, its lease, and what frames it all.
        let size = key.utf8.count + StoredRecord.bytes(binding).count + 100
        #expect(size > 16_000)
        #expect(size * EtcdReader.pageSize <= EtcdClient.largestMessage)
    }
}
