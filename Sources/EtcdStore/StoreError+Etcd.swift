import IPAMModel
import LedgerStore
import RPC

extension RPCStatus {
    /// Whether a transaction that ended so had no effect and will have none; else it may have one, now or later.
    var saysThatNothingHappened: Bool {
        switch code {
        case .resourceExhausted: !saysThatEtcdIsFull
        case .dataLoss: saysThatEtcdIsCorrupt
        case .invalidArgument, .permissionDenied, .unauthenticated, .failedPrecondition,
            .unimplemented:
            true
        default: false
        }
    }

    /// `ErrGRPCAuthFailed` and `ErrGRPCUserEmpty` are invalid arguments to etcd (api/v3rpc/rpctypes/error.go).
    fileprivate var saysThatNobodyIsLetIn: Bool {
        code == .permissionDenied || code == .unauthenticated || message.contains("authentication failed")
            || message.contains("user name is empty")
    }

    /// etcd answers so also for the transaction that makes it full, which takes effect (`quotaApplierV3.Txn` in its
    /// server/etcdserver/apply.go).
    var saysThatEtcdIsFull: Bool { message.contains("database space exceeded") }

    /// Once etcd's members have found that what they have differs, no transaction has an effect (`applierV3Corrupt` in its
    /// server/etcdserver/apply/corrupt.go). Leases are renewed all the same, and keys are read.
    var saysThatEtcdIsCorrupt: Bool { message.contains("corrupt cluster") }

    /// Whether etcd takes no transaction that writes, whatever is in it, until somebody has mended that.
    var saysThatNothingIsWritten: Bool { saysThatEtcdIsFull || saysThatEtcdIsCorrupt }
}

extension StoreError {
    /// What an answer of etcd's means for the person who runs the server.
    init(etcd error: any Error) {
        switch error {
        case let error as StoreError: self = error
        case let error as IPAMError: self.init(.damaged, error.message)
        case let status as RPCStatus where status.saysThatEtcdIsFull:
            self.init(
                .full,
                "etcd's database is full (\(status.message)): nothing was changed. Compact and defragment it, then "
                    + "`etcdctl alarm disarm`; the server goes on by itself.")
        case let status as RPCStatus where status.saysThatEtcdIsCorrupt:
            self.init(
                .failed,
                "etcd says that what its members have differs (\(status.message)): nothing was changed. Replace the members "
                    + "that are wrong, then `etcdctl alarm disarm`; the server goes on by itself.")
        case let status as RPCStatus where status.saysThatNobodyIsLetIn:
            self.init(
                .unwritable,
                "etcd does not let this server in (\(status.message)): look at --etcd-user and --etcd-password-file, and "
                    + "that the user's role may read and write all keys of --etcd-prefix.")
        case let status as RPCStatus: self.init(.failed, "etcd does not answer as it should: \(status)")
        default: self.init(.failed, "\(error)")
        }
    }
}
