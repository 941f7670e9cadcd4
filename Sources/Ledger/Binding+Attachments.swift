import IPAMModel

// Promises 5 and 6: who carries a binding, and whose word about it still counts.
extension Binding {
    /// How many superseded attachments a binding remembers.
    static var supersededLimit: Int { 8 }

    /// Whether a message about `attachment` comes late: a newer one has taken its place, or it is older than the newest.
    func isLate(_ attachment: Attachment) -> Bool {
        if isSuperseded(attachment.id) { return true }
        // The pod that has the binding keeps it through any number of sandboxes, all as old as the pod.
        if [active, target].contains(where: { $0?.isSamePod(as: attachment) == true }) { return false }
        guard let newestAttachment, let createdAt = attachment.createdAt else { return false }
        return createdAt < newestAttachment
    }

    private func isSuperseded(_ id: AttachmentID) -> Bool {
        superseded.contains {
            $0.podUID == id.podUID && ($0.containerID.isEmpty || $0.containerID == id.containerID)
        }
    }

    /// Makes `attachment` the one that carries the binding; an open migration ends, by committing where it is the
    /// target's pod, else by aborting.
    mutating func activate(_ attachment: Attachment) {
        for old in [active?.id, released].compactMap(\.self) { supersede(old, by: attachment) }
        released = nil
        if let target {
            supersede(target.id, by: attachment)
            endMigration(target.isSamePod(as: attachment) ? .committed : .aborted)
        }
        active = attachment
        if let createdAt = attachment.createdAt { newestAttachment = max(newestAttachment ?? createdAt, createdAt) }
    }

    /// Opens a migration to `target`, or moves the open one to it.
    mutating func prepare(_ target: Attachment, migrationUID: String) {
        if let old = self.target {
            supersede(old.id, by: target)
            if self.migrationUID != migrationUID { endMigration(.aborted) }
        }
        self.target = target
        self.migrationUID = migrationUID
    }

    /// Ends the open migration in the source's favour.
    mutating func dropTarget(for successor: Attachment? = nil) {
        guard let target else { return }
        supersede(target.id, by: successor)
        endMigration(.aborted)
    }

    /// Whoever carried it did so for an object that is gone; `successor` is the new object's, if it has one yet.
    mutating func dropAttachments(for successor: Attachment?) {
        dropTarget(for: successor)
        for old in [active?.id, released].compactMap(\.self) { supersede(old, by: successor) }
        (active, released) = (nil, nil)
    }

    /// The pod that carries it is gone; the same pod may come back.
    mutating func releaseActive() {
        released = active?.id
        active = nil
    }

    private mutating func endMigration(_ outcome: MigrationOutcome) {
        endedMigration = EndedMigration(uid: migrationUID, outcome: outcome)
        target = nil
        migrationUID = ""
    }

    /// Remembers that `old` has no say: the whole pod, or only this sandbox where the pod goes on with a newer one.
    private mutating func supersede(_ old: AttachmentID, by new: Attachment?) {
        if old == new?.id { return }
        var id = old
        // An entry without container stands for all of the pod's.
        let podGoesOn = new.map { old.isSamePod(as: $0.id) } ?? false
        if !podGoesOn, !id.podUID.isEmpty { id.containerID = "" }
        superseded.removeAll { $0 == id || ($0.podUID == id.podUID && id.containerID.isEmpty) }
        superseded.append(id)
        superseded.removeFirst(max(0, superseded.count - Self.supersededLimit))
    }
}

extension Attachment {
    /// Whether both are sandboxes of one pod.
    func isSamePod(as other: Attachment) -> Bool { id.isSamePod(as: other.id) }
}

extension AttachmentID {
    func isSamePod(as other: AttachmentID) -> Bool { podUID.isEmpty ? self == other : podUID == other.podUID }
}
