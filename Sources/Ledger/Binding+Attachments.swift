import IPAMModel

// Promises 5 and 6: who carries a binding, and whose word about it still counts.
extension Binding {
    /// How many superseded pods a binding remembers, and how many sandboxes of pods that go on.
    static var supersededLimit: Int { 16 }

    /// Whether a message about `attachment` comes late: a newer one has taken its place, or it is older than the newest.
    func isLate(_ attachment: Attachment) -> Bool {
        if isSuperseded(attachment.id) || returningTarget?.isSamePod(as: attachment.id) == true { return true }
        // The pod that has the binding keeps it through any number of sandboxes, all as old as the pod.
        if [active, target].contains(where: { $0?.isSamePod(as: attachment) == true }) { return false }
        guard let newestAttachment, let createdAt = attachment.createdAt else { return false }
        return createdAt < newestAttachment
    }

    private func isSuperseded(_ id: AttachmentID) -> Bool {
        superseded.contains {
            // One sandbox of a pod says nothing of the pod.
            $0.matches(id) && !($0.isSandbox && id.containerID.isEmpty)
        }
    }

    /// The target whose release ended its migration: only that migration's PREPARE brings its pod back, or another target.
    private var returningTarget: AttachmentID? {
        endedMigration?.outcome == .aborted ? endedMigration?.released : nil
    }

    /// Makes `attachment` the one that carries the binding; an open migration ends, by committing where it is the
    /// target's pod, else by aborting. Of a pod that is older than the target's its agent told late: the migration goes on
    /// from there.
    mutating func activate(_ attachment: Attachment) {
        supersedeActive(by: attachment)
        supersedeReturningTarget()
        if let target {
            let isTarget = target.isSamePod(as: attachment)
            if isTarget || !attachment.isOlder(than: target) {
                supersede(target.id, by: attachment)
                endMigration(isTarget ? .committed : .aborted)
            }
        }
        active = attachment
        if let createdAt = attachment.createdAt { newestAttachment = max(newestAttachment ?? createdAt, createdAt) }
    }

    /// Opens a migration to `target`, or moves the open one to it.
    mutating func prepare(_ target: Attachment, migrationUID: String) {
        supersedeReturningTarget()
        if let old = self.target {
            supersede(old.id, by: target)
            if self.migrationUID != migrationUID { endMigration(.aborted) }
        }
        self.target = target
        self.migrationUID = migrationUID
    }

    /// Opens the migration again that ended in the source's favour: the target's pod has a new sandbox (the kubelet makes one
    /// where a sandbox fails), or KubeVirt has made another pod for it. False where it was committed or another is open, or
    /// `target` is one of before, or another pod that does not say how old it is.
    mutating func reopen(for target: Attachment) -> Bool {
        guard self.target == nil, endedMigration?.outcome == .aborted, !isSuperseded(target.id) else { return false }
        if returningTarget?.isSamePod(as: target.id) != true {
            guard target.createdAt != nil else { return false }
            supersedeReturningTarget()
        }
        endedMigration = nil
        return true
    }

    /// The target's sandbox is gone: the migration ends, but its pod may come back in another.
    mutating func releaseTarget() {
        guard let target else { return }
        remember(target.id)
        endMigration(.aborted, byReleaseOf: target.id)
    }

    /// The source's attachment is gone and the target's is not: the message that committed the migration was lost.
    mutating func releaseSource() {
        guard let active, let target else { return }
        activate(target)
        endedMigration?.released = active.id
    }

    /// The target whose release ended its migration does not come back.
    mutating func supersedeReturningTarget() {
        guard let old = returningTarget else { return }
        endedMigration?.released = nil
        supersede(old, by: nil)
    }

    /// Ends the open migration in the source's favour.
    mutating func dropTarget(for successor: Attachment? = nil) {
        guard let target else { return }
        supersede(target.id, by: successor)
        endMigration(.aborted)
    }

    /// Whoever carried it did so for an object that is gone; `successor` is the new object's, if it has one yet.
    mutating func dropAttachments(for successor: Attachment?) {
        supersedeReturningTarget()
        dropTarget(for: successor)
        supersedeActive(by: successor)
    }

    /// Also the one that was active last; nobody is now.
    private mutating func supersedeActive(by new: Attachment?) {
        if let active { supersede(active.id, by: new) }
        if let released { supersede(released, by: new) }
        (active, released) = (nil, nil)
    }

    /// The pod that carries it is gone; the same pod may come back.
    mutating func releaseActive() {
        released = active?.id
        active = nil
    }

    private mutating func endMigration(_ outcome: MigrationOutcome, byReleaseOf released: AttachmentID? = nil) {
        endedMigration = EndedMigration(uid: migrationUID, outcome: outcome, released: released)
        target = nil
        migrationUID = ""
    }

    /// Remembers that `old` has no say: the whole pod, or only this sandbox where the pod goes on with a newer one.
    private mutating func supersede(_ old: AttachmentID, by new: Attachment?) {
        if let new, old.matches(new.id) { return }
        var id = old
        // An entry without container stands for all of the pod's.
        let podGoesOn = new.map { old.isSamePod(as: $0.id) } ?? false
        if !podGoesOn, !id.podUID.isEmpty { id.containerID = "" }
        remember(id)
    }

    private mutating func remember(_ id: AttachmentID) {
        superseded.removeAll { $0 == id || (id.containerID.isEmpty && $0.podUID == id.podUID) }
        superseded.append(id)
        let alike = superseded.indices.filter { superseded[$0].isSandbox == id.isSandbox }
        if alike.count > Self.supersededLimit { superseded.remove(at: alike[0]) }
    }
}

extension Attachment {
    /// Whether both are sandboxes of one pod.
    func isSamePod(as other: Attachment) -> Bool { id.isSamePod(as: other.id) }

    /// Whether its pod was made before that of `other`; false where it is not known of both when.
    func isOlder(than other: Attachment) -> Bool {
        guard let createdAt, let others = other.createdAt else { return false }
        return createdAt < others
    }

    /// Learns from `other`, which speaks of the same attachment, what it does not know yet of who it is.
    mutating func learn(from other: Attachment) {
        if podUID.isEmpty { podUID = other.podUID }
        if containerID.isEmpty { containerID = other.containerID }
    }
}

extension AttachmentID {
    /// Whether it names one sandbox of a pod, not the whole of it.
    fileprivate var isSandbox: Bool { !podUID.isEmpty && !containerID.isEmpty }
}
