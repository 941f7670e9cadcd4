import IPAMModel

// Transfer: a migration is told from others by its UID, so that a late or repeated message acts on its own only.
extension Ledger {
    mutating func transfer(_ request: TransferRequest, at now: Timestamp) throws(IPAMError) -> Binding {
        let uid = request.migrationUID
        if uid.isEmpty { throw .invalidField("migration_uid", "name the migration by its UID") }
        if case .commit(let targetOwner?) = request.phase,
            let done = committed(migrationUID: uid, from: request.owner, to: targetOwner)
        {
            return done
        }
        guard let slot = slot(of: request.owner.key), let old = slots[slot] else {
            throw .noBindingToTransfer(request.owner.key)
        }
        if old.owner.isAnotherObject(than: request.owner.uid) { throw .anotherObjects(old, than: request.owner) }
        var binding = old
        switch request.phase {
        case .prepare(let target, let targetOwner):
            // Told at the end, it would find the guest there already.
            if let targetOwner { try checkMove(of: old, to: targetOwner) }
            try prepare(&binding, target: target, migrationUID: uid)
            noteCopy(of: &binding, keptBy: request.copyKeeper, at: now)
        case .commit(let targetOwner):
            let isOpen = binding.migrationUID == uid
            try end(&binding, migrationUID: uid, as: .committed)
            if let targetOwner {
                let isFinal = !isOpen && binding.endedMigration?.released == nil
                if isFinal, targetOwner.key != old.owner.key || old.owner.isAnotherObject(than: targetOwner.uid) {
                    throw .migrationEnded(binding, uid: uid)
                }
                try give(&binding, to: targetOwner)
                if binding.owner.key != old.owner.key { try awaitCopies(of: old, at: now) }
                binding.endedMigration?.released = nil
            }
        case .abort:
            try end(&binding, migrationUID: uid, as: .aborted)
        }
        if binding != old { put(&binding, in: slot, revision: nextRevision(), at: now) }
        return binding
    }

    private func prepare(
        _ binding: inout Binding, target: Attachment, migrationUID uid: String
    ) throws(IPAMError) {
        if binding.endedMigration?.uid == uid, !binding.reopen(for: target) {
            throw .migrationEnded(binding, uid: uid)
        }
        if binding.migrationUID == uid, binding.target?.id.matches(target.id) == true {
            binding.target?.learn(from: target)
            return
        }
        // Of two migrations the one to the older pod was told of late.
        let isEarlier = binding.migrationUID != uid && binding.target.map(target.isOlder) == true
        if isEarlier || binding.isLate(target) { throw .superseded(target, binding, field: "target") }
        // KubeVirt makes a migration's target anew where it has vanished before it ran (pkg/virt-controller/watch/migration).
        if let open = binding.target, binding.migrationUID == uid, !open.isSamePod(as: target),
            !open.isOlder(than: target)
        {
            throw .migrationTarget(
                binding, uid: uid,
                "the migration's target is pod \(open.pod) already, and pod \(target.pod) is not known to be newer; end "
                    + "the migration first")
        }
        if binding.active?.isSamePod(as: target) == true {
            throw .migrationTarget(
                binding, uid: uid, "pod \(target.pod) carries the binding: it cannot be the target as well")
        }
        binding.prepare(target, migrationUID: uid)
    }

    private func end(
        _ binding: inout Binding, migrationUID uid: String, as outcome: MigrationOutcome
    ) throws(IPAMError) {
        if let target = binding.target, binding.migrationUID == uid {
            if outcome == .committed { binding.activate(target) } else { binding.dropTarget() }
        } else if let ended = binding.endedMigration, ended.uid == uid {
            if ended.outcome != outcome { throw .migrationEnded(binding, uid: uid) }
            if outcome == .aborted { binding.supersedeReturningTarget() }
        } else {
            throw .migrationUnknown(binding, uid: uid)
        }
    }

    /// Makes the binding another owner's: another VM's, or another pod's, on the same network.
    private func give(_ binding: inout Binding, to owner: Owner) throws(IPAMError) {
        try checkMove(of: binding, to: owner)
        let uid = owner.uid.isEmpty && owner.key == binding.owner.key ? binding.owner.uid : owner.uid
        binding.owner = owner
        binding.owner.uid = uid
    }

    private func checkMove(of binding: Binding, to owner: Owner) throws(IPAMError) {
        if owner.key == binding.owner.key { return }
        guard owner.kind == binding.owner.kind, owner.network == binding.owner.network else {
            throw .invalidField("target_owner", "it must be of the kind and network of \(binding.owner.key)")
        }
        if slot(of: owner.key) != nil { throw .ownerHasBinding(owner.key) }
        if owner.namespace != binding.owner.namespace, let index = spaceIndexes[binding.pool], let space = spaces[index]
        {
            guard space.isOpen(to: owner.namespace) else {
                throw .namespaceNotAllowed(owner.namespace, pool: binding.pool)
            }
            try checkQuota(of: space, namespace: owner.namespace)
        }
    }

    /// The binding of `target`, where this migration's COMMIT has moved it there from `source` before.
    private func committed(migrationUID uid: String, from source: Owner, to target: Owner) -> Binding? {
        guard let slot = slot(of: target.key), let binding = slots[slot],
            binding.endedMigration == EndedMigration(uid: uid, outcome: .committed)
        else { return nil }
        // The same name: the VM was made anew, and the source is no more.
        if source.key == target.key { return binding.owner.uid == target.uid ? binding : nil }
        // Unless the source has a binding of its own in the same migration, which would have to move now.
        let own = self.slot(of: source.key).flatMap { slots[$0] }
        return own?.migrationUID == uid || own?.endedMigration?.uid == uid ? nil : binding
    }
}
