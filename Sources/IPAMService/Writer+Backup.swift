import Addresses
import IPAMAPI
import IPAMModel
import Ledger
import LedgerStore
import Logging
import RPC

extension Writer {
    /// All that the store has at one revision. Commits go on meanwhile.
    func backup(withoutHistory: Bool) async throws(IPAMError) -> BackupPieces {
        try checkIsCurrent()
        let store = currentStore
        do throws(StoreError) {
            let snapshot = try await blocking { () throws(StoreError) in
                withoutHistory ? try store.load() : try store.loadWithHistory()
            }
            logger.notice("backup begun", metadata: ["revision": "\(snapshot.revision)"])
            return BackupPieces(snapshot, createdAt: read { _, now in now }, hasHistory: !withoutHistory)
        } catch {
            throw IPAMError(reading: error)
        }
    }

    /// Makes a ledger that has no bindings that of a backup, in one commit. Blocks; no other command runs meanwhile.
    ///
    /// A ledger that has some is left alone: it may have given addresses away since the backup was made, and a restore would
    /// forget that (promises 1 to 3). So is one that has a history: the backup's would be mixed with it. Pools that are there
    /// stay as they are. Addresses that were given after the backup may still be in use by pods that the ledger then knows
    /// nothing of: for its reuse delay no pool gives one that nobody asks for by name, and what was freed waits as long.
    func restore(_ backup: Snapshot, by caller: Caller) throws(IPAMError) -> RestoreOutcome {
        let (givesFrom, poolCount) = try replace { (present) throws(IPAMError) in
            guard present.hasNoBindings, try hasNoHistory() else { throw .ledgerNotEmpty(present) }
            var merged = backup
            let names = Set(present.pools.map(\.name))
            let added = backup.pools.filter { !names.contains($0.name) }
            merged.pools = present.pools + added
            merged.revision = max(present.committedRevision, backup.revision) + 1
            let next: Ledger
            do throws(IPAMError) {
                next = try Ledger(merged)
            } catch { throw .misfit(error) }
            let pools = merged.pools.count
            merged.pools = added
            return (next, merged.changes, pools)
        }
        var outcome = RestoreOutcome()
        outcome.pools = UInt64(poolCount)
        outcome.bindings = UInt64(backup.bindings.count)
        outcome.freed = UInt64(backup.freed.count)
        outcome.history = UInt64(backup.history.count)
        outcome.revision = backup.revision
        outcome.givesFrom = givesFrom
        logger.notice(
            "ledger restored",
            metadata: [
                "caller": "\(caller.name)", "revision": "\(outcome.revision)", "bindings": "\(outcome.bindings)",
            ])
        return outcome
    }

    private func hasNoHistory() throws(IPAMError) -> Bool {
        do throws(StoreError) {
            return try currentStore.history(after: 0, limit: 1).isEmpty
        } catch {
            throw IPAMError(reading: error)
        }
    }
}

extension IPAMError {
    fileprivate static func ledgerNotEmpty(_ ledger: borrowing Ledger) -> IPAMError {
        let some = ledger.snapshot
        let holders = some.bindings.prefix(3).map { binding in
            "\(binding.owner.key) has \(binding.assignments.map(\.address.description).joined(separator: ", "))"
        }
        let counts = "\(some.bindings.count) bindings and \(some.freed.count) freed addresses"
        let rest = some.bindings.count > 3 ? "; …" : ""
        return IPAMError(
            .failedPrecondition, .ledgerNotEmpty,
            """
            the ledger has \(counts), or a history, which a restore would forget\(holders.isEmpty ? "" : ": ")\
            \(holders.joined(separator: "; "))\(rest). Nothing was changed. Restore into a store that has none
            """, metadata: ["bindings": "\(some.bindings.count)", "freed": "\(some.freed.count)"])
    }

    fileprivate static func misfit(_ error: IPAMError) -> IPAMError {
        IPAMError(
            .failedPrecondition, .backupMisfit,
            """
            the backup does not fit the pools that are here: \(error.message). Nothing was changed. Start the server with \
            the pools of the backup, or without any
            """)
    }
}
