import IPAMModel
package import Ledger
package import LedgerStore
import RPC

extension EtcdTenure {
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

    /// Writes a whole ledger where there is none yet. The revision comes last: until then it is no ledger, so that a copy
    /// that broke off is not taken for one. Throws `.inUse` where there is one.
    package func fill(_ snapshot: Snapshot) throws(StoreError) {
        try fill(snapshot.changes, revision: snapshot.revision)
    }

    /// The ledger goes on elsewhere: no server takes what is left here for one.
    package func moveAway() throws(StoreError) {
        let answer: EtcdTransactionAnswer
        do throws(RPCStatus) {
            let mark = EtcdOperation.put(keys.revision, EtcdMark.moved(at: revision))
            answer = try client.commit(
                EtcdTransaction(comparisons: [.createRevision(of: keys.leader, term)], success: [mark]),
                timeout: lease.patience)
        } catch { throw StoreError(etcd: error) }
        if !answer.succeeded { throw .notLeader(nil) }
    }
}
