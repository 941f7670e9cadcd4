import IPAMModel

// Release: what a late or repeated message speaks for is gone already, and then nothing changes.
extension Ledger {
    mutating func release(_ request: ReleaseRequest, at now: Timestamp) -> Outcome {
        switch request {
        case .binding(let owner): releaseBinding(of: owner, at: now)
        case .attachment(let id, let owner, let network):
            .released(releaseAttachment(id, of: owner, network: network, at: now))
        }
    }

    private mutating func releaseBinding(of owner: Owner, at now: Timestamp) -> Outcome {
        // Promise 5: the VM that had the name before is gone already, and what it had is another's now. A binding without
        // UID is for whatever has the name: who knows the VM's frees it too, which may never have had a pod. So it is not
        // told from one that was reserved only after this VM's release, of which this may be a repetition: whoever has the
        // UID should reserve with it. What was freed so is the name's again when it asks.
        if let slot = slot(of: owner.key), slots[slot]?.owner.isAnotherObject(than: owner.uid) == false {
            free(slot: slot, revision: nextRevision(), at: now)
        }
        return .released(nil)
    }

    private mutating func releaseAttachment(
        _ id: AttachmentID, of owner: Owner?, network: String, at now: Timestamp
    ) -> Binding? {
        guard let slot = slot(carriedBy: id, of: owner, network: network), var binding = slots[slot] else { return nil }
        if let target = binding.target, target.id.matches(id) {
            binding.releaseTarget()
        } else if binding.active?.id.matches(id) != true {
            return binding
        } else if binding.target != nil {
            binding.releaseSource()
        } else if binding.owner.kind == .pod {
            free(slot: slot, revision: nextRevision(), at: now)
            return nil
        } else {
            binding.releaseActive()
        }
        put(&binding, in: slot, revision: nextRevision(), at: now)
        return binding
    }

    /// The slot that the release of an attachment is about.
    func slot(carriedBy id: AttachmentID, of owner: Owner?, network: String) -> Int? {
        if let owner { return slot(of: owner.key) }
        let hash = id.containerID.slotHash
        return containers.first(hash) { slots[$0]?.isCarried(by: id, network: network) == true }
            ?? containers.first(hash) { slots[$0]?.isReleased(by: id, network: network) == true }
    }
}

extension Binding {
    fileprivate func isCarried(by id: AttachmentID, network: String) -> Bool {
        owner.network == network && [active, target].contains { $0?.id.matches(id) == true }
    }

    /// Promise 4: the release has been done, and says the same again.
    fileprivate func isReleased(by id: AttachmentID, network: String) -> Bool {
        owner.network == network && [released, endedMigration?.released].contains { $0?.matches(id) == true }
    }
}
