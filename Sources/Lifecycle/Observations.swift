package import IPAMModel

/// What successive comparisons of the ledger with the cluster have found (promise 7): a disagreement is acted upon only
/// once it was seen twice, a grace time apart, and every time between.
package struct Observations: Sendable {
    /// Which disagreement, of which state of the binding: what has changed meanwhile is alive.
    private struct Key: Hashable {
        var owner: OwnerKey
        var revision: UInt64
        var remedy: Disagreement.Remedy

        init(_ found: Disagreement) {
            owner = found.binding.owner.key
            revision = found.binding.revision
            remedy = found.remedy
        }
    }

    /// What a comparison came to.
    package struct Result: Hashable, Sendable {
        /// All, by owner.
        package var found: [Disagreement] = []
        /// Those that the comparison before found too.
        package var repeated: [Disagreement] = []
        /// Those that may be acted upon now.
        package var due: [Disagreement] = []
        /// Why nothing is done, whatever was found; nil where nothing is amiss.
        package var doubt: String?
    }

    /// More of the ledger's VMs than this may be gone at once only where that is at most half of them.
    private static let fewMachines = 10

    private let grace: Duration
    /// Whether a person has said that this is the ledger's cluster, however little of the ledger is there.
    private let isToldCluster: Bool
    private var since: [Key: ContinuousClock.Instant] = [:]
    /// Machines and pods were seen at some time.
    private var hadMachines = false
    private var hadPods = false
    /// Something of the ledger's was seen at some time, by its UID.
    private var hasKnown = false

    package init(grace: Duration, isToldCluster: Bool = false) {
        self.grace = grace
        self.isToldCluster = isToldCluster
    }

    /// Compares bindings, listed before the cluster was looked at, with what was seen there.
    package mutating func compare(
        _ bindings: [Binding], with inventory: Inventory, at now: ContinuousClock.Instant
    ) -> Result {
        var result = Result()
        result.found = bindings.compactMap { Disagreement($0, in: inventory) }
        result.found.sort { "\($0.binding.owner.key)" < "\($1.binding.owner.key)" }
        result.doubt = doubt(about: result.found, among: bindings, inventory)
        guard result.doubt == nil else {
            // What a doubtful look interrupts is counted from the start again.
            since = [:]
            return result
        }
        var seen: [Key: ContinuousClock.Instant] = [:]
        for found in result.found {
            let key = Key(found)
            let first = since[key]
            seen[key] = first ?? now
            guard let first else { continue }
            result.repeated.append(found)
            if found.remedy != .byHand, now - first >= grace { result.due.append(found) }
        }
        since = seen
        return result
    }

    private mutating func doubt(
        about found: [Disagreement], among bindings: [Binding], _ inventory: Inventory
    ) -> String? {
        if let unreadable = inventory.unreadable { return "not everything in the cluster could be read: \(unreadable)" }
        if inventory.coverage.contains(.machines) {
            let isEmpty = inventory.machines.isEmpty && inventory.instances.isEmpty
            if hadMachines, isEmpty, !found.isEmpty {
                return "the API server shows no VM at all, where there were some before"
            }
            hadMachines = hadMachines || !isEmpty
            hasKnown = hasKnown || bindings.contains(where: inventory.knows)
            if !isToldCluster, !hasKnown, !found.isEmpty, Self.areSeveral(bindings) {
                return """
                    none of the ledger's VMs and pods is there: is this the right cluster? if it is, `holdfast check \
                    --repair --even-most` mends what it names
                    """
            }
            let gone = Set(found.lazy.filter { $0.isOfGoneMachine }.map { ObjectName($0.binding.owner) }).count
            let all = Set(
                bindings.lazy.filter { $0.owner.kind == .virtualMachine }.map { ObjectName($0.owner) }
            ).count
            if !isToldCluster, gone > Self.fewMachines, gone > all / 2 {
                return """
                    \(gone) of the ledger's \(all) VMs are not there: is this the right cluster? if it is, \
                    `holdfast check --repair --even-most` frees their addresses
                    """
            }
        }
        if inventory.coverage.contains(.pods) {
            if hadPods, inventory.pods.isEmpty, !found.isEmpty {
                return "the API server shows no pod at all, where there were some before"
            }
            hadPods = hadPods || !inventory.pods.isEmpty
        }
        return nil
    }
}

extension Observations {
    /// Whether they are of more than one VM or pod that has been there: of one alone, nothing else could be known.
    private static func areSeveral(_ bindings: [Binding]) -> Bool {
        let known = bindings.lazy.filter { !$0.owner.uid.isEmpty || $0.active != nil }.map { ObjectName($0.owner) }
        return known.first.map { first in known.contains { $0 != first } } == true
    }
}

extension Disagreement {
    fileprivate var isOfGoneMachine: Bool { remedy == .free && binding.owner.kind == .virtualMachine }
}
