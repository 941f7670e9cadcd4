import CMessages
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
}
