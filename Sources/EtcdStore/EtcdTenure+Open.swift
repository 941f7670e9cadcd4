import IPAMModel
package import Ledger
package import LedgerStore
import RPC

extension EtcdTenure: MovableStore {
    /// A term of a program that is no server: while it lasts, no server leads. `name` stands where else a leader's
    /// address does. Throws `.inUse` while a server leads.
    package static func open(_ configuration: EtcdConfiguration, as name: String) throws(StoreError) -> EtcdTenure {
        let client = try EtcdClient(configuration)
        let keys = EtcdKeys(prefix: configuration.prefix)
        do {
            let won = try EtcdElection(client: client, keys: keys, lease: configuration.lease).run(for: name)
            do {
                let image = try EtcdReader(client: client, keys: keys).read()
                let known = Known(
                    mark: image.mark, lastCommit: image.lastCommit, held: HeldAddresses(image.snapshot.bindings))
                let tenure = EtcdTenure(
                    client, keys, term: won.term, lease: won.lease, known: known, ownsClient: true)
                try tenure.finishJournal(image.openJournal)
                return tenure
            } catch {
                won.lease.giveUp()
                won.lease.waitUntilLost()
                throw error
            }
        } catch {
            Task { await client.close() }
            if let error = error as? StoreError, error.code == .notLeader {
                throw StoreError(
                    .inUse,
                    "The server at \(error.leader ?? "an unknown address") leads the ledger in etcd: stop all servers "
                        + "first, then try again.", leader: error.leader)
            }
            throw StoreError(etcd: error)
        }
    }

    /// All but the revision: without it nobody takes it for a ledger.
    package func fill(_ snapshot: Snapshot) throws(StoreError) {
        try fill(snapshot.changes, revision: snapshot.revision)
    }

    package func takePlace() throws(StoreError) {
        do throws(StoreError) {
            try beginFilled()
        } catch {
            throw StoreError(
                error.code,
                "The copy is whole, and the source is set aside, but it is not certain that the copy is the ledger now "
                    + "(\(error)). It is where `etcdctl get \(keys.revision)` shows a revision above 0. Else delete what is there "
                    + "with `etcdctl del --prefix \(keys.prefix)`, give the source its name back (mv PATH.moved PATH), and "
                    + "copy again.")
        }
    }

    /// No server takes what is left here for a ledger.
    package func moveAway() throws(StoreError) {
        let answer: EtcdTransactionAnswer
        do throws(RPCStatus) {
            let mark = EtcdOperation.put(keys.revision, EtcdMark.moved(at: revision))
            answer = try client.commit(
                EtcdTransaction(comparisons: [.createRevision(of: keys.leader, term)], success: [mark]),
                timeout: lease.patience)
        } catch { throw Self.stays(because: StoreError(etcd: error)) }
        if !answer.succeeded { throw Self.stays(because: .notLeader(nil)) }
    }

    private static func stays(because error: StoreError) -> StoreError {
        StoreError(
            .failed,
            "The copy is whole, but it is not certain that the ledger in etcd is set aside (\(error)). Copy again: where etcd "
                + "then says that it was copied, the copy is the ledger, with `mv PATH.copy PATH`.")
    }
}
