import LedgerStore
import RPC

/// How one becomes the leader: by making the leader's key, which only works while it is not there, on a lease.
struct EtcdElection {
    struct Victory {
        /// The creation revision of the leader's key: no other term has it.
        var term: Int64
        var lease: EtcdLease
        /// The modification revision of the last commit, which no earlier leader can follow with another; 0: none.
        var lastCommit: Int64
        var mark: EtcdMark
    }

    let client: EtcdClient
    let keys: EtcdKeys
    let lease: Duration

    /// Throws `.notLeader` where another has won, and `RPCStatus` where etcd does not answer.
    func run(for address: String) throws -> Victory {
        let patience = lease / 4
        let asked = ContinuousClock.now
        let seconds = max(1, lease.components.seconds + (lease.components.attoseconds > 0 ? 1 : 0))
        let granted = try client.grantLease(seconds: seconds, timeout: patience)
        let held = EtcdLease(client, id: granted.id, length: .seconds(granted.seconds), since: asked)
        do {
            let answer = try client.commit(
                EtcdTransaction(
                    comparisons: [.createRevision(of: keys.leader, 0)],
                    success: [.put(keys.leader, Array(address.utf8), lease: granted.id), .get(keys.revision)],
                    failure: [.get(keys.leader)]), timeout: patience)
            let found = answer.found.first ?? nil
            guard answer.succeeded else { throw StoreError.notLeader(found?.text) }
            let mark = try found.map { try EtcdMark($0) } ?? EtcdMark(revision: 0)
            held.keep { [client, keys] in
                try client.range(from: keys.leader, timeout: patience).entries.first?.createRevision == answer.revision
            }
            return Victory(term: answer.revision, lease: held, lastCommit: found?.modRevision ?? 0, mark: mark)
        } catch {
            // Also where it is not known whether the key was made: without its lease it goes.
            held.giveUp()
            held.keep()
            held.waitUntilLost()
            throw error
        }
    }
}
