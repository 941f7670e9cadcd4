package import IPAMAPI
package import IPAMModel
import KubeVirt
package import KubernetesAPI

/// Carries out the remedy of a disagreement, after one more look at just what it is about.
package struct Repair: Sendable {
    package enum Outcome: Hashable, Sendable {
        case done
        /// What was seen before is so no longer; why.
        case notNeeded(String)
    }

    package enum Failure: Error, CustomStringConvertible {
        case cluster(KubernetesError)
        case ledger(IPAMError)

        package var description: String {
            switch self {
            case .cluster(let error): error.message
            case .ledger(let error): error.message
            }
        }
    }

    static let timeout = Duration.seconds(5)

    private let ipam: any IPAMCalls
    private let cluster: any ClusterReads

    package init(ipam: any IPAMCalls, cluster: any ClusterReads) {
        self.ipam = ipam
        self.cluster = cluster
    }

    /// What the last look showed of a VM. It serves all networks' bindings of the VM that one pod carried, which come one
    /// after the other.
    package struct Look: Sendable {
        fileprivate struct Subject: Hashable {
            var machine: ObjectName
            var carrier: Attachment?
        }
        fileprivate var subject: Subject?
        /// What it says against freeing them.
        fileprivate var objection: String?

        package init() {}
    }

    package func carryOut(_ disagreement: Disagreement, _ look: inout Look) async throws(Failure) -> Outcome {
        let binding = disagreement.binding
        do throws(KubernetesError) {
            if let reason = try await objection(to: disagreement, &look) { return .notNeeded(reason) }
        } catch {
            throw .cluster(error)
        }
        do throws(IPAMError) {
            // Last, so that nothing of what it says can have changed since the cluster was asked.
            guard try await current(binding.owner)?.revision == binding.revision else {
                return .notNeeded("the binding has changed meanwhile")
            }
            switch disagreement.remedy {
            case .byHand: return .notNeeded("it is for a person to decide")
            case .free: _ = try await ipam.release(.binding(binding.owner), timeout: Self.timeout)
            case .detach(let id):
                _ = try await ipam.release(
                    .attachment(id, owner: binding.owner, network: binding.owner.network), timeout: Self.timeout)
            case .commit(let newOwner): try await transfer(binding, .commit(targetOwner: newOwner))
            case .abort: try await transfer(binding, .abort)
            }
            return .done
        } catch {
            // An agent, a newer migration or a new pod came first: what it did stands.
            if error.code == .failedPrecondition || error.code == .notFound { return .notNeeded(error.message) }
            // What the next waits for may take long.
            look = Look()
            throw .ledger(error)
        }
    }

    /// Those whose bindings are as they were listed. What has changed since did so while the cluster was looked at, which takes
    /// seconds where it is large: VMs that start, stop and migrate then are no disagreement. One that is gone is, also where its
    /// pod ended meanwhile, as long as it has its binding.
    package func standing(_ found: [Disagreement]) async throws(IPAMError) -> [Disagreement] {
        var standing: [Disagreement] = []
        for disagreement in found {
            guard let current = try await current(disagreement.binding.owner) else { continue }
            if disagreement.remedy == .free || current.revision == disagreement.binding.revision {
                standing.append(disagreement)
            }
        }
        return standing
    }

    private func transfer(_ binding: Binding, _ phase: TransferPhase) async throws(IPAMError) {
        _ = try await ipam.transfer(
            TransferRequest(owner: binding.owner, migrationUID: binding.migrationUID, phase: phase),
            timeout: Self.timeout)
    }

    /// What a fresh look says against the remedy, if anything.
    private func objection(
        to disagreement: Disagreement, _ look: inout Look
    ) async throws(KubernetesError) -> String? {
        let binding = disagreement.binding
        let owner = binding.owner
        switch disagreement.remedy {
        case .free where owner.kind == .pod:
            return try await isThere(podUID: owner.uid, named: owner.name, in: owner.namespace)
                ? "the pod is there" : nil
        // Its carriers may be of another VM by now.
        case .free where binding.target != nil: return "its migration has not ended"
        case .free:
            let subject = Look.Subject(machine: ObjectName(owner), carrier: binding.active)
            if look.subject != subject {
                look.objection = try await objection(toFreeing: subject.machine, carriedBy: subject.carrier)
                look.subject = subject
            }
            return look.objection
        case .detach(let id):
            guard let active = binding.active else { return "no pod carries it" }
            return try await isThere(podUID: id.podUID, named: active.pod, in: owner.namespace)
                ? "the pod is there" : nil
        // A migration's look was at just its own objects, and frees nothing.
        case .commit, .abort, .byHand: return nil
        }
    }

    private func objection(
        toFreeing machine: ObjectName, carriedBy carrier: Attachment?
    ) async throws(KubernetesError) -> String? {
        if try await cluster.hasMachine(machine) { return "a VM of that name is there" }
        guard let carrier, !carrier.pod.isEmpty else { return nil }
        let pod = try await cluster.pod(ObjectName(namespace: machine.namespace, name: carrier.pod))
        if let pod, carrier.podUID.isEmpty || pod.metadata.uid == carrier.podUID {
            return pod.hasEnded ? nil : "its pod \(carrier.pod) still runs"
        }
        if carrier.podUID.isEmpty { return nil }
        // A decentralized migration has brought it to another namespace, and the binding not yet to its new owner.
        let namesakes = try await cluster.pods(named: carrier.pod, on: carrier.node)
        if let pod = namesakes.pods[carrier.podUID] {
            return pod.hasEnded ? nil : "its pod \(carrier.pod) still runs, in namespace \(pod.metadata.namespace)"
        }
        return namesakes.unreadable.map { "not all pods of that name can be read: \($0)" }
    }

    private func isThere(
        podUID uid: String, named name: String, in namespace: String
    ) async throws(KubernetesError) -> Bool {
        if name.isEmpty { return true }
        return try await cluster.pod(ObjectName(namespace: namespace, name: name))?.metadata.uid == uid
    }

    /// Nil where the owner has none any more.
    private func current(_ owner: Owner) async throws(IPAMError) -> Binding? {
        do {
            return try await ipam.binding(of: owner, timeout: Self.timeout).binding
        } catch  where error.code == .notFound {
            return nil
        }
    }
}

extension IPAMCalls {
    /// All pages.
    package func bindings(matching filter: BindingFilter, timeout: Duration) async throws(IPAMError) -> [Binding] {
        try await allBindings(matching: filter, timeout: timeout).map(\.binding)
    }
}
