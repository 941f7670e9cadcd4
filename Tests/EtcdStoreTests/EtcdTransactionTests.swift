import CMessages
import LedgerStore
import Testing

@testable import EtcdStore
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
