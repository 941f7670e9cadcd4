import Addresses
import IPAMModel
import Ledger

/// The ledger as DESIGN.md tells it, in the plainest way: arrays and linear scans, one step after the other, copied
/// where a batch may be rolled back. It shares nothing with the ledger but the values of IPAMModel.
struct Model {
    struct Entry {
        /// With `superseded` left empty: `late` stands for it.
        var binding: Binding
        /// "pod UID" for whole pods, "pod UID container" for single sandboxes; newest last, sixteen of
        /// each at most.
        var late: [String] = []
    }

    struct Refused: Error, Equatable {
        var reason: IPAMError.Reason
    }

    var revision: UInt64 = 0
    var pools: [Pool] = []
    var entries: [Entry] = []
    /// In the order of freeing.
    var freed: [FreedAddress] = []

    /// `chosenMAC`: what the ledger chose where nobody asked for one.
    mutating func apply(_ command: Command, at now: Timestamp, chosenMAC: MACAddress?) throws -> Outcome {
        var next = self
        let outcome: Outcome
        switch command {
        case .allocate(let request): outcome = try next.allocate(request, now, chosenMAC)
        // No history here has copies: `CopySafetyTests` has.
        case .renewCopies: outcome = .copiesRenewed([])
        case .release(.binding(let owner)): outcome = next.releaseBinding(owner, now)
        case .release(.attachment(let id, let owner, let network)):
            outcome = .released(next.releaseAttachment(id, owner, network, now))
        case .transfer(let request): outcome = .transferred(try next.transfer(request, now))
        case .createPool(let pool): outcome = .pool(try next.createPool(pool, now))
        case .updatePool(let pool, _): outcome = .pool(try next.updatePool(pool, now))
        case .deletePool(let name): outcome = try next.deletePool(name, now)
        }
        self = next
        return outcome
    }

    // MARK: Finding

    func index(of key: OwnerKey) -> Int? { entries.firstIndex { $0.binding.owner.key == key } }

    func holder(of address: IPAddress) -> Binding? {
        entries.first { $0.binding.assignments.contains { $0.address == address } }?.binding
    }

    /// How many bindings a sandbox carries on one network, or has carried last where it carries none: more than one only
    /// in made-up histories.
    func count(carriedBy id: AttachmentID, network: String) -> Int {
        let there = entries.map(\.binding).filter { $0.owner.network == network }
        let carried = there.filter { binding in
            [binding.active, binding.target].contains { $0?.containerID == id.containerID }
        }
        let released = there.filter { binding in
            [binding.released, binding.endedMigration?.released].contains { $0?.containerID == id.containerID }
        }
        return carried.isEmpty ? released.count : carried.count
    }

    func pool(_ name: String) -> Pool? { pools.first { $0.name == name } }

    func refuse(_ reason: IPAMError.Reason) -> Refused { Refused(reason: reason) }

    static func members(of prefix: PoolPrefix) -> [IPAddress] {
        let range = prefix.prefix.range
        return (0...range.span).compactMap { range.lower.advanced(by: $0) }.filter { isGivable($0, prefix) }
    }

    static func isGivable(_ address: IPAddress, _ prefix: PoolPrefix) -> Bool {
        if address == prefix.gateway { return false }
        if prefix.excluded.contains(where: { $0.contains(address) }) { return false }
        let hostBits = address.family.bitWidth - prefix.prefix.length
        if prefix.usesEdgeAddresses || hostBits <= 1 { return true }
        if address == prefix.prefix.address { return false }
        return !(address.family == .ipv4 && address == prefix.prefix.last)
    }

    func readyAt(_ freed: FreedAddress) -> Int64 {
        guard let delay = pool(freed.pool)?.reuseDelay else { return .max }
        return max(freed.freedAt.nanoseconds + delay.nanoseconds, freed.notBefore?.nanoseconds ?? 0)
    }

    func isReady(_ freed: FreedAddress, _ now: Timestamp) -> Bool { readyAt(freed) <= now.nanoseconds }

    private func free(
        _ family: AddressFamily, in pool: Pool, for owner: OwnerKey, _ now: Timestamp
    ) -> IPAddress? {
        if owner.kind == .virtualMachine {
            let had = freed.last { freed in
                freed.lastOwner.key == owner && freed.address.family == family
                    && pool.prefixes.contains {
                        $0.prefix.contains(freed.address) && Self.isGivable(freed.address, $0)
                    }
            }
            if let had { return had.address }
        }
        for prefix in pool.prefixes where prefix.prefix.family == family {
            let unused = Self.members(of: prefix).first { address in
                holder(of: address) == nil && !freed.contains { $0.address == address }
            }
            if let unused { return unused }
            let waiting = freed.filter {
                prefix.prefix.contains($0.address) && Self.isGivable($0.address, prefix)
            }
            if let first = waiting.min(by: { readyAt($0) < readyAt($1) }), isReady(first, now) { return first.address }
        }
        return nil
    }

    func assignment(_ address: IPAddress, in pool: Pool) -> Assignment? {
        pool.prefixes.first { $0.prefix.contains(address) }.map {
            Assignment(address: address, prefixLength: $0.prefix.length, gateway: $0.gateway)
        }
    }

    // MARK: Allocate

    private mutating func allocate(
        _ request: AllocateRequest, _ now: Timestamp, _ chosenMAC: MACAddress?
    ) throws -> Outcome {
        for family in AddressFamily.allCases where request.addresses.filter({ $0.family == family }).count > 1 {
            throw refuse(.invalidField)
        }
        if let mac = request.mac, mac.bytes[0] & 1 == 1 || mac.bits == 0 { throw refuse(.invalidField) }
        guard let index = index(of: request.owner.key) else {
            let pool = try choosePool(request, nil)
            try checkQuota(pool, request.owner.namespace)
            let addresses = try choose(request, pool, kept: [], now)
            if let mac = request.mac { try checkMAC(mac, pool.name, request.owner.key) }
            guard let mac = request.mac ?? chosenMAC else { throw refuse(.macTaken) }
            revision += 1
            freed.removeAll { addresses.contains($0.address) }
            var entry = Entry(
                binding: Binding(
                    id: revision, owner: request.owner, pool: pool.name,
                    assignments: addresses.compactMap { assignment($0, in: pool) }, mac: mac, revision: revision,
                    createdAt: now, updatedAt: now))
            if let attachment = request.attachment { Self.carry(&entry, attachment) }
            entries.append(entry)
            return .allocated(entry.binding, created: true)
        }

        let old = entries[index]
        var entry = old
        if let attachment = request.attachment, Self.isLate(attachment, entry) {
            throw refuse(.attachmentSuperseded)
        }
        if !request.owner.uid.isEmpty {
            if !entry.binding.owner.uid.isEmpty, entry.binding.owner.uid != request.owner.uid {
                Self.forgetReturning(&entry)
                let carriers = [entry.binding.target?.id, entry.binding.active?.id].compactMap { $0 }
                if request.attachment == nil, !carriers.isEmpty { throw refuse(.attachmentSuperseded) }
                for old in carriers + [entry.binding.released].compactMap({ $0 }) {
                    if old.podUID != request.attachment?.podUID {
                        Self.forget(&entry, pod: old)
                    } else if old.containerID != request.attachment?.containerID {
                        Self.forget(&entry, sandbox: old)
                    }
                }
                entry.binding.released = nil
                if entry.binding.target != nil { Self.endMigration(&entry, .aborted) }
                entry.binding.active = nil
            }
            entry.binding.owner.uid = request.owner.uid
        }
        try change(&entry, request, now)
        if let attachment = request.attachment, entry.binding.active?.id != attachment.id {
            Self.carry(&entry, attachment)
        }
        if entry.binding == old.binding, entry.late == old.late {
            return .allocated(old.binding, created: false)
        }
        revision += 1
        let addresses = entry.binding.assignments.map(\.address)
        freed.removeAll { addresses.contains($0.address) }
        for gone in old.binding.assignments.map(\.address) where !addresses.contains(gone) {
            freed.append(
                FreedAddress(
                    address: gone, pool: old.binding.pool, lastOwner: old.binding.owner, freedAt: now,
                    revision: revision))
        }
        return .allocated(store(entry, index, now), created: false)
    }

    private func change(_ entry: inout Entry, _ request: AllocateRequest, _ now: Timestamp) throws {
        let binding = entry.binding
        let held = binding.assignments.map(\.address)
        if let name = request.pool, pool(name) == nil { throw refuse(.poolNotFound) }
        let otherAddress = request.addresses.contains { !held.contains($0) }
        let otherPool = request.pool.map { $0 != binding.pool } ?? false
        let otherMAC = request.mac.map { $0 != binding.mac } ?? false
        let isAttached = binding.active != nil || binding.target != nil
        if isAttached, otherAddress || otherPool { throw refuse(.addressChange) }
        if isAttached, otherMAC { throw refuse(.macChange) }
        let mac = request.mac ?? binding.mac
        if otherAddress || otherPool {
            let pool = try choosePool(request, binding.pool)
            if pool.name != binding.pool { try checkQuota(pool, binding.owner.namespace) }
            try checkMAC(mac, pool.name, binding.owner.key)
            let addresses = try choose(request, pool, kept: pool.name == binding.pool ? held : [], now)
            entry.binding.pool = pool.name
            entry.binding.assignments = addresses.compactMap { assignment($0, in: pool) }
        } else if otherMAC {
            try checkMAC(mac, binding.pool, binding.owner.key)
        }
        entry.binding.mac = mac
    }

    private func choosePool(_ request: AllocateRequest, _ current: String?) throws -> Pool {
        let namespace = request.owner.namespace
        func open(_ pool: Pool) -> Bool { pool.namespaces.isEmpty || pool.namespaces.contains(namespace) }
        if let name = request.pool {
            guard let pool = pool(name) else { throw refuse(.poolNotFound) }
            guard open(pool) else { throw refuse(.namespaceNotAllowed) }
            return pool
        }
        var usual = current.flatMap(pool)
        if usual == nil { usual = pools.sorted { $0.name < $1.name }.first { $0.namespaces.contains(namespace) } }
        if usual == nil { usual = pools.first { $0.isDefault && open($0) } }
        if let first = request.addresses.first {
            func has(_ pool: Pool) -> Bool { pool.prefixes.contains { $0.prefix.contains(first) } }
            func gives(_ pool: Pool) -> Bool {
                pool.prefixes.contains { $0.prefix.contains(first) && Self.isGivable(first, $0) }
            }
            if let other = pools.first(where: gives) ?? pools.first(where: has), open(other),
                gives(other) || usual.map(has) != true
            {
                return other
            }
        }
        guard let usual else { throw refuse(.noDefaultPool) }
        if !open(usual) { throw refuse(.namespaceNotAllowed) }
        return usual
    }

    func checkQuota(_ pool: Pool, _ namespace: String) throws {
        let count = entries.filter { $0.binding.pool == pool.name && $0.binding.owner.namespace == namespace }.count
        if pool.namespaceQuota > 0, count >= pool.namespaceQuota { throw refuse(.quotaExceeded) }
    }

    private func checkMAC(_ mac: MACAddress, _ pool: String, _ key: OwnerKey) throws {
        let other = entries.contains {
            $0.binding.pool == pool && $0.binding.mac == mac && $0.binding.owner.key != key
        }
        if other { throw refuse(.macTaken) }
    }

    private func choose(
        _ request: AllocateRequest, _ pool: Pool, kept: [IPAddress], _ now: Timestamp
    ) throws -> [IPAddress] {
        for address in request.addresses where !kept.contains(address) {
            guard let prefix = pool.prefixes.first(where: { $0.prefix.contains(address) }) else {
                throw refuse(.addressOutsidePool)
            }
            if !Self.isGivable(address, prefix) { throw refuse(.addressExcluded) }
            if let holder = holder(of: address), holder.owner.key != request.owner.key { throw refuse(.addressTaken) }
            if let freed = freed.first(where: { $0.address == address }), freed.lastOwner.key != request.owner.key,
                !isReady(freed, now)
            {
                throw refuse(.addressQuarantined)
            }
        }
        var chosen: [IPAddress] = []
        for family in [AddressFamily.ipv4, .ipv6] where pool.prefixes.contains(where: { $0.prefix.family == family }) {
            if let asked = request.addresses.first(where: { $0.family == family }) {
                chosen.append(asked)
            } else if let old = kept.first(where: { $0.family == family }) {
                chosen.append(old)
            } else if kept.isEmpty {
                guard let address = free(family, in: pool, for: request.owner.key, now) else {
                    throw refuse(.poolExhausted)
                }
                chosen.append(address)
            }
        }
        return chosen
    }

    // MARK: Who carries it

    static func isLate(_ attachment: Attachment, _ entry: Entry) -> Bool {
        if entry.late.contains(attachment.podUID) || returning(entry)?.podUID == attachment.podUID { return true }
        if entry.late.contains("\(attachment.podUID) \(attachment.containerID)") { return true }
        if entry.binding.active?.podUID == attachment.podUID { return false }
        if entry.binding.target?.podUID == attachment.podUID { return false }
        guard let newest = entry.binding.newestAttachment, let createdAt = attachment.createdAt else { return false }
        return createdAt < newest
    }

    /// The target that was released, whose migration's PREPARE may bring its pod back.
    private static func returning(_ entry: Entry) -> AttachmentID? {
        entry.binding.endedMigration?.outcome == .aborted ? entry.binding.endedMigration?.released : nil
    }

    private static func forgetReturning(_ entry: inout Entry) {
        guard let old = returning(entry) else { return }
        entry.binding.endedMigration?.released = nil
        forget(&entry, pod: old)
    }

    private static func remember(_ entry: inout Entry, _ id: String) {
        entry.late.removeAll { $0 == id }
        entry.late.append(id)
        let alike = entry.late.filter { $0.contains(" ") == id.contains(" ") }
        if alike.count > 16 { entry.late.removeAll { $0 == alike[0] } }
    }

    private static func forget(_ entry: inout Entry, pod: AttachmentID) {
        entry.late.removeAll { $0.hasPrefix(pod.podUID + " ") }
        remember(&entry, pod.podUID)
    }

    private static func forget(_ entry: inout Entry, sandbox: AttachmentID) {
        remember(&entry, "\(sandbox.podUID) \(sandbox.containerID)")
    }

    private static func endMigration(_ entry: inout Entry, _ outcome: MigrationOutcome) {
        entry.binding.endedMigration = EndedMigration(uid: entry.binding.migrationUID, outcome: outcome)
        entry.binding.migrationUID = ""
        entry.binding.target = nil
    }

    /// `attachment`, which is not the active one, becomes it.
    private static func carry(_ entry: inout Entry, _ attachment: Attachment) {
        forgetReturning(&entry)
        for old in [entry.binding.active?.id, entry.binding.released].compactMap({ $0 }) where old != attachment.id {
            if old.podUID == attachment.podUID {
                forget(&entry, sandbox: old)
            } else {
                forget(&entry, pod: old)
            }
        }
        entry.binding.released = nil
        if let target = entry.binding.target {
            if target.id == attachment.id {
                endMigration(&entry, .committed)
            } else if target.podUID == attachment.podUID {
                forget(&entry, sandbox: target.id)
                endMigration(&entry, .committed)
            } else if target.createdAt.flatMap({ made in attachment.createdAt.map { $0 < made } }) != true {
                forget(&entry, pod: target.id)
                endMigration(&entry, .aborted)
            }
        }
        entry.binding.active = attachment
        if let createdAt = attachment.createdAt {
            if let newest = entry.binding.newestAttachment, newest > createdAt { return }
            entry.binding.newestAttachment = createdAt
        }
    }

    mutating func store(_ entry: Entry, _ index: Int, _ now: Timestamp) -> Binding {
        entries[index] = entry
        entries[index].binding.revision = revision
        entries[index].binding.updatedAt = now
        return entries[index].binding
    }

    // MARK: Release

    private mutating func free(_ index: Int, _ now: Timestamp) {
        revision += 1
        let binding = entries.remove(at: index).binding
        for assignment in binding.assignments {
            freed.append(
                FreedAddress(
                    address: assignment.address, pool: binding.pool, lastOwner: binding.owner, freedAt: now,
                    revision: revision))
        }
    }

    private mutating func releaseBinding(_ owner: Owner, _ now: Timestamp) -> Outcome {
        if let index = index(of: owner.key) {
            let uid = entries[index].binding.owner.uid
            if uid.isEmpty || owner.uid.isEmpty || uid == owner.uid { free(index, now) }
        }
        return .released(nil)
    }

    private mutating func releaseAttachment(
        _ id: AttachmentID, _ owner: Owner?, _ network: String, _ now: Timestamp
    ) -> Binding? {
        func isMeant(_ attachment: Attachment?) -> Bool {
            guard let attachment, attachment.containerID == id.containerID else { return false }
            return id.podUID.isEmpty || id.podUID == attachment.podUID
        }
        let found = entries.firstIndex { entry in
            if let owner { return entry.binding.owner.key == owner.key }
            return entry.binding.owner.network == network
                && (isMeant(entry.binding.active) || isMeant(entry.binding.target))
        }
        guard let index = found else {
            let before = entries.map(\.binding).first { binding in
                owner == nil && binding.owner.network == network
                    && [binding.released, binding.endedMigration?.released].contains {
                        $0?.containerID == id.containerID && (id.podUID.isEmpty || id.podUID == $0?.podUID)
                    }
            }
            return before
        }
        var entry = entries[index]
        if isMeant(entry.binding.target), let target = entry.binding.target {
            Self.forget(&entry, sandbox: target.id)
            Self.endMigration(&entry, .aborted)
            entry.binding.endedMigration?.released = target.id
        } else if isMeant(entry.binding.active) {
            if let target = entry.binding.target {
                let source = entry.binding.active?.id
                Self.carry(&entry, target)
                entry.binding.endedMigration?.released = source
            } else if entry.binding.owner.kind == .pod {
                free(index, now)
                return nil
            } else {
                entry.binding.released = entry.binding.active?.id
                entry.binding.active = nil
            }
        } else {
            return entry.binding
        }
        revision += 1
        return store(entry, index, now)
    }

    // MARK: Transfer

    private mutating func transfer(_ request: TransferRequest, _ now: Timestamp) throws -> Binding {
        let uid = request.migrationUID
        let own = index(of: request.owner.key)
        if case .commit(let targetOwner?) = request.phase, let there = index(of: targetOwner.key),
            entries[there].binding.endedMigration == EndedMigration(uid: uid, outcome: .committed),
            targetOwner.key == request.owner.key
                ? entries[there].binding.owner.uid == targetOwner.uid
                : own.map({ entries[$0].binding.migrationUID != uid && entries[$0].binding.endedMigration?.uid != uid })
                    ?? true
        {
            return entries[there].binding
        }
        guard let index = own else { throw refuse(.bindingNotFound) }
        let old = entries[index]
        if !old.binding.owner.uid.isEmpty, !request.owner.uid.isEmpty, old.binding.owner.uid != request.owner.uid {
            throw refuse(.bindingNotFound)
        }
        var entry = old
        let isOpen = old.binding.target != nil && old.binding.migrationUID == uid
        let ended = old.binding.endedMigration?.uid == uid ? old.binding.endedMigration?.outcome : nil
        switch request.phase {
        case .prepare(let target, _):
            if ended != nil {
                let isOld = old.late.contains("\(target.podUID) \(target.containerID)")
                if old.binding.target != nil || ended != .aborted || isOld || old.late.contains(target.podUID) {
                    throw refuse(.migrationEnded)
                }
                if Self.returning(old)?.podUID != target.podUID {
                    if target.createdAt == nil { throw refuse(.migrationEnded) }
                    Self.forgetReturning(&entry)
                }
                entry.binding.endedMigration = nil
            }
            if isOpen, old.binding.target?.id == target.id { return old.binding }
            if Self.isLate(target, entry) { throw refuse(.attachmentSuperseded) }
            if !isOpen, let other = old.binding.target?.createdAt, let made = target.createdAt, made < other {
                throw refuse(.attachmentSuperseded)
            }
            if isOpen, let open = old.binding.target, open.podUID != target.podUID {
                guard let older = open.createdAt, let newer = target.createdAt, older < newer else {
                    throw refuse(.migrationTarget)
                }
            }
            if old.binding.active?.podUID == target.podUID { throw refuse(.migrationTarget) }
            Self.forgetReturning(&entry)
            if let open = old.binding.target {
                if open.podUID == target.podUID {
                    if open.id != target.id { Self.forget(&entry, sandbox: open.id) }
                } else {
                    Self.forget(&entry, pod: open.id)
                }
                if !isOpen { Self.endMigration(&entry, .aborted) }
            }
            entry.binding.target = target
            entry.binding.migrationUID = uid
        case .commit(let targetOwner):
            if isOpen, let target = entry.binding.target {
                Self.carry(&entry, target)
            } else if ended == .aborted {
                throw refuse(.migrationEnded)
            } else if ended == nil {
                throw refuse(.migrationUnknown)
            }
            if let targetOwner {
                if !isOpen, entry.binding.endedMigration?.released == nil {
                    let (has, wants) = (old.binding.owner, targetOwner)
                    let isOther = !has.uid.isEmpty && !wants.uid.isEmpty && has.uid != wants.uid
                    if has.key != wants.key || isOther { throw refuse(.migrationEnded) }
                }
                entry.binding.endedMigration?.released = nil
                if targetOwner.key != old.binding.owner.key {
                    let (has, wants) = (old.binding.owner, targetOwner)
                    if has.kind != wants.kind || has.network != wants.network { throw refuse(.invalidField) }
                    if self.index(of: targetOwner.key) != nil { throw refuse(.ownerHasBinding) }
                    if targetOwner.namespace != old.binding.owner.namespace, let pool = pool(old.binding.pool) {
                        if !pool.namespaces.isEmpty, !pool.namespaces.contains(targetOwner.namespace) {
                            throw refuse(.namespaceNotAllowed)
                        }
                        try checkQuota(pool, targetOwner.namespace)
                    }
                    entry.binding.owner = targetOwner
                } else if !targetOwner.uid.isEmpty {
                    entry.binding.owner = targetOwner
                }
            }
        case .abort:
            if isOpen, let target = entry.binding.target {
                Self.forget(&entry, pod: target.id)
                Self.endMigration(&entry, .aborted)
            } else if ended == .committed {
                throw refuse(.migrationEnded)
            } else if ended == nil {
                throw refuse(.migrationUnknown)
            } else {
                Self.forgetReturning(&entry)
            }
        }
        if entry.binding == old.binding { return old.binding }
        revision += 1
        return store(entry, index, now)
    }
}
