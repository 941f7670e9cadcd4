import Addresses
package import IPAMModel

// What the ledger refuses, each with what a person can do about it.
extension IPAMError {
    static func invalidField(_ field: String, _ message: String) -> IPAMError {
        IPAMError(.invalidArgument, .invalidField, "\(field): \(message)", metadata: ["field": field])
    }

    static func addressOutsidePool(_ address: IPAddress, _ pool: Pool) -> IPAMError {
        let prefixes = pool.prefixes.map { "\($0.prefix)" }.joined(separator: ", ")
        return IPAMError(
            .invalidArgument, .addressOutsidePool,
            "\(address) is not in pool \(pool.name) (\(prefixes)); ask for an address in it, or name another pool",
            metadata: ["field": "addresses", "address": "\(address)", "pool": pool.name])
    }

    static func addressExcluded(_ address: IPAddress, _ prefix: PoolPrefix, pool: String) -> IPAMError {
        let why =
            address == prefix.gateway
            ? "the gateway" : prefix.edges.contains(address) ? "an address of the network itself" : "excluded"
        return IPAMError(
            .invalidArgument, .addressExcluded,
            "\(address) is never given: it is \(why) in \(prefix.prefix) of pool \(pool); ask for another address",
            metadata: ["field": "addresses", "address": "\(address)", "pool": pool])
    }

    static func addressTaken(_ address: IPAddress, holder: OwnerKey) -> IPAMError {
        IPAMError(
            .alreadyExists, .addressTaken,
            "\(address) is held by \(holder); ask for another address, or release that binding first",
            metadata: ["field": "addresses", "address": "\(address)", "holder": holder.object])
    }

    static func macTaken(_ mac: MACAddress, holder: OwnerKey) -> IPAMError {
        IPAMError(
            .alreadyExists, .macTaken,
            "\(mac) is held by \(holder) in the same pool; ask for another MAC, or release that binding first",
            metadata: ["field": "mac", "mac": "\(mac)", "holder": holder.object])
    }

    static func addressQuarantined(_ freed: FreedAddress, until time: Timestamp) -> IPAMError {
        IPAMError(
            .failedPrecondition, .addressQuarantined,
            "\(freed.address) was freed by \(freed.lastOwner.key) and waits until \(time); "
                + "ask again then, or for another address",
            metadata: [
                "field": "addresses", "address": "\(freed.address)", "lastOwner": freed.lastOwner.key.object,
                "availableAt": "\(time)",
            ])
    }

    /// `open`: the nodes, each with the time until which it may use its copy; one without name for any.
    static func copiesOutstanding(
        _ binding: Binding, _ open: [(node: String, until: Timestamp)], now: Timestamp
    ) -> IPAMError {
        let nodes = open.map(\.node).filter { !$0.isEmpty }.joined(separator: ", ")
        let last = open.map(\.until).max() ?? now
        let seconds = (last.nanoseconds - now.nanoseconds + 999_999_999) / 1_000_000_000
        let whom =
            nodes.isEmpty
            ? "nodes that had copies of it before the server started may use them"
            : "it is waited until node \(nodes) answers, which may use its copy"
        return IPAMError(
            .unavailable, .copiesOutstanding,
            "the binding of \(binding.owner.key) cannot move to another owner or address yet: \(whom) for "
                + "\(seconds) s more at most; ask again in a second",
            metadata: ["owner": binding.owner.key.object, "nodes": nodes, "retryAfter": "1s", "availableAt": "\(last)"])
    }

    static func poolExhausted(_ pool: String, _ family: AddressFamily, nextReady: Timestamp?) -> IPAMError {
        let kind = family == .ipv4 ? "IPv4" : "IPv6"
        let next = nextReady.map { "the next freed one may be given from \($0)" } ?? "none waits in quarantine"
        var metadata = ["pool": pool, "family": kind]
        metadata["availableAt"] = nextReady.map { "\($0)" }
        return IPAMError(
            .resourceExhausted, .poolExhausted,
            "pool \(pool) has no free \(kind) address: \(next); add a prefix to the pool or release bindings",
            metadata: metadata)
    }

    /// After a restore.
    static func poolHeld(_ pool: String, _ family: AddressFamily, until time: Timestamp) -> IPAMError {
        let kind = family == .ipv4 ? "IPv4" : "IPv6"
        return IPAMError(
            .resourceExhausted, .poolExhausted,
            "pool \(pool) chooses no \(kind) address until \(time): the ledger was restored from a backup, and what was given "
                + "after that was made may be in use (docs/backup.md); ask for an address by name, or again then",
            metadata: ["pool": pool, "family": kind, "availableAt": "\(time)", "cause": "restore"])
    }

    static func quotaExceeded(_ namespace: String, _ pool: Pool) -> IPAMError {
        IPAMError(
            .resourceExhausted, .quotaExceeded,
            "namespace \(namespace) has the \(pool.namespaceQuota) bindings that pool \(pool.name) allows it; "
                + "raise the pool's namespace_quota or release bindings",
            metadata: ["pool": pool.name, "namespace": namespace, "quota": "\(pool.namespaceQuota)"])
    }

    static func poolNotFound(_ name: String) -> IPAMError {
        IPAMError(
            .notFound, .poolNotFound, "there is no pool \(name); create it, or name another",
            metadata: ["field": "pool", "pool": name])
    }

    /// `closed`: the default pool, which the namespace may not use.
    static func noDefaultPool(_ namespace: String, closed: String?) -> IPAMError {
        var metadata = ["field": "pool", "namespace": namespace]
        metadata["pool"] = closed
        let rest =
            closed.map {
                "the default pool \($0) is not open to it; name another pool, or add it to the namespaces of \($0)"
            } ?? "there is no default pool; name a pool, or make one the default (is_default)"
        return IPAMError(
            .failedPrecondition, .noDefaultPool, "no pool is named, none lists namespace \(namespace), and \(rest)",
            metadata: metadata)
    }

    static func namespaceNotAllowed(_ namespace: String, pool: String) -> IPAMError {
        IPAMError(
            .permissionDenied, .namespaceNotAllowed,
            "namespace \(namespace) may not use pool \(pool); add it to the pool's namespaces, or name another pool",
            metadata: ["field": "pool", "pool": pool, "namespace": namespace])
    }

    static func addressChange(_ binding: Binding, field: String) -> IPAMError {
        let held = binding.assignments.map { "\($0.address)" }.joined(separator: " and ")
        return IPAMError(
            .failedPrecondition, .addressChange,
            "\(binding.owner.key) has \(held) of pool \(binding.pool) and is running; stop it first, then ask again",
            metadata: [
                "field": field, "owner": binding.owner.key.object, "pool": binding.pool,
                "address": binding.assignments.first.map { "\($0.address)" } ?? "",
            ])
    }

    static func macChange(_ binding: Binding) -> IPAMError {
        IPAMError(
            .failedPrecondition, .macChange,
            "\(binding.owner.key) has \(binding.mac) and is running; stop it first, then ask again",
            metadata: ["field": "mac", "owner": binding.owner.key.object, "mac": "\(binding.mac)"])
    }

    /// `field`: of the request, which names the attachment.
    static func superseded(_ attachment: Attachment, _ binding: Binding, field: String = "attachment") -> IPAMError {
        let podGoesOn = [binding.active, binding.target].contains { $0?.isSamePod(as: attachment) == true }
        var (made, newer) = ("", "a newer one")
        let rival = field == "target" ? binding.target?.createdAt : nil
        let newest = [binding.newestAttachment, rival].compactMap(\.self).max()
        if let own = attachment.createdAt, let newest, own < newest {
            (made, newer) = (", made at \(own),", "one made at \(newest)")
        }
        let why =
            podGoesOn
            ? "sandbox \(attachment.containerID) of pod \(attachment.pod) (\(attachment.podUID)) comes late: a newer one of "
                + "the same pod has the addresses of \(binding.owner.key); nothing is to be done"
            : "pod \(attachment.pod) (\(attachment.podUID))\(made) is not the newest of \(binding.owner.key): "
                + "\(newer) has its addresses; this one should be deleted"
        return IPAMError(
            .failedPrecondition, .attachmentSuperseded, why,
            metadata: [
                "field": field, "owner": binding.owner.key.object, "podUid": attachment.podUID,
                "containerId": attachment.containerID,
            ])
    }

    static func carriedByAnother(_ owner: Owner, _ binding: Binding) -> IPAMError {
        let pod = binding.active ?? binding.target
        return IPAMError(
            .failedPrecondition, .attachmentSuperseded,
            "pod \(pod?.pod ?? "") of \(binding.owner.key) with uid \(binding.owner.uid) has its addresses, which are not "
                + "reserved for uid \(owner.uid) meanwhile: ask again with the new object's pod, once that pod is gone, "
                + "or after releasing the binding",
            metadata: ["field": "owner.uid", "owner": binding.owner.key.object, "podUid": pod?.podUID ?? ""])
    }

    static func noBindingToTransfer(_ owner: OwnerKey) -> IPAMError {
        IPAMError(
            .notFound, .bindingNotFound,
            "\(owner) has no binding to move: a migration's target never gets a new address; "
                + "allocate for the source first",
            metadata: ["field": "owner", "owner": owner.object])
    }

    /// What has the owner's name is another object than the owner.
    package static func anotherObjects(_ binding: Binding, than owner: Owner) -> IPAMError {
        IPAMError(
            .notFound, .bindingNotFound,
            "\(owner.key) with uid \(owner.uid) has no binding: the one of this name is of uid \(binding.owner.uid), another "
                + "object",
            metadata: ["field": "owner.uid", "owner": owner.key.object, "uid": binding.owner.uid])
    }

    static func migrationEnded(_ binding: Binding, uid: String) -> IPAMError {
        let outcome = binding.endedMigration?.outcome == .committed ? "committed" : "aborted"
        return IPAMError(
            .failedPrecondition, .migrationEnded,
            "migration \(uid) of \(binding.owner.key) has been \(outcome) already, and is over; another one has another uid",
            metadata: [
                "field": "migration_uid", "owner": binding.owner.key.object, "migrationUid": uid, "outcome": outcome,
            ])
    }

    static func migrationUnknown(_ binding: Binding, uid: String) -> IPAMError {
        IPAMError(
            .failedPrecondition, .migrationUnknown,
            "migration \(uid) of \(binding.owner.key) is neither the open one nor the last that ended; prepare it first",
            metadata: ["field": "migration_uid", "owner": binding.owner.key.object, "migrationUid": uid])
    }

    static func migrationTarget(_ binding: Binding, uid: String, _ message: String) -> IPAMError {
        IPAMError(
            .failedPrecondition, .migrationTarget, "migration \(uid) of \(binding.owner.key): \(message)",
            metadata: ["field": "target", "owner": binding.owner.key.object, "migrationUid": uid])
    }

    static func ownerHasBinding(_ owner: OwnerKey) -> IPAMError {
        IPAMError(
            .alreadyExists, .ownerHasBinding, "\(owner) has a binding of its own; release that first",
            metadata: ["field": "target_owner", "owner": owner.object])
    }

    static func poolExists(_ name: String) -> IPAMError {
        IPAMError(
            .alreadyExists, .poolExists, "pool \(name) exists with other content; update it instead",
            metadata: ["field": "pool.name", "pool": name])
    }

    static func tooManyPools(_ pool: String, limit: Int) -> IPAMError {
        IPAMError(
            .resourceExhausted, .tooManyPools,
            "pool \(pool) is not made: there are \(limit) pools, which is as many as the server takes on; "
                + "delete those that nobody uses",
            metadata: ["field": "pool.name", "pool": pool, "limit": "\(limit)"])
    }

    static func poolOverlap(_ prefix: IPPrefix, _ other: IPPrefix, of pool: String) -> IPAMError {
        IPAMError(
            .alreadyExists, .poolOverlap,
            "\(prefix) overlaps \(other) of pool \(pool): an address belongs to one prefix of one pool. Two pools may have "
                + "the same prefix, where each excludes what the other gives",
            metadata: ["field": "pool.prefixes", "prefix": "\(prefix)", "pool": pool])
    }

    static func poolChanged(_ pool: Pool) -> IPAMError {
        IPAMError(
            .aborted, .poolChanged,
            "pool \(pool.name) was changed since: it is at revision \(pool.revision); read it and change it again",
            metadata: ["field": "pool.revision", "pool": pool.name, "revision": "\(pool.revision)"])
    }

    static func poolInUse(_ pool: String, holder: OwnerKey, address: IPAddress?, field: String) -> IPAMError {
        let held = address.map { "\($0)" } ?? "an address"
        var metadata = ["field": field, "pool": pool, "holder": holder.object]
        metadata["address"] = address.map { "\($0)" }
        return IPAMError(
            .failedPrecondition, .poolInUse,
            "pool \(pool) is in use: \(held) is held by \(holder); release that binding first", metadata: metadata)
    }

    static func poolInUse(_ pool: String, freed: FreedAddress, until time: Timestamp, field: String) -> IPAMError {
        IPAMError(
            .failedPrecondition, .poolInUse,
            "pool \(pool) is in use: \(freed.address), which \(freed.lastOwner.key) had, waits in quarantine until \(time); "
                + "ask again then",
            metadata: [
                "field": field, "pool": pool, "lastOwner": freed.lastOwner.key.object, "address": "\(freed.address)",
                "availableAt": "\(time)",
            ])
    }

    static func defaultPoolExists(_ pool: String) -> IPAMError {
        IPAMError(
            .failedPrecondition, .defaultPoolExists,
            "pool \(pool) is the default already; make it no default first",
            metadata: ["field": "pool.is_default", "pool": pool])
    }

    static func inconsistent(_ message: String) -> IPAMError {
        IPAMError(
            .internalError, .ledgerInconsistent,
            "the stored ledger breaks a promise: \(message); restore it from a backup")
    }
}
