package import CNI
package import IPAMModel
package import KubeVirt

extension CNIError {
    /// The service's refusal as the runtime is told it: code 11 where the service could not be asked, else a code of our
    /// own, with the reason and its facts as details.
    package init(_ error: IPAMError) {
        let code: Code =
            switch error.code {
            case .unavailable, .aborted: .tryAgainLater
            case .resourceExhausted where error.reason == .overloaded: .tryAgainLater
            case .invalidArgument: .invalidRequest
            case .notFound: .notFound
            case .alreadyExists: .taken
            case .resourceExhausted: .exhausted
            case .failedPrecondition: .conflict
            case .permissionDenied, .unauthenticated: .notPermitted
            case .internalError: .internalFailure
            }
        // The server's words say what to do; of a server that is away nobody but the agent can.
        let facts = error.metadata.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
        let advice =
            code == .tryAgainLater ? "; see whether holdfast-server runs; the runtime tries again by itself" : ""
        self.init(code, error.message, details: error.reason.rawValue + facts + advice)
    }

    package init(_ error: IdentityError) {
        let again = "it may not be visible yet; the runtime tries again by itself"
        switch error {
        case .noPod(let namespace, let name):
            self.init(.tryAgainLater, "pod \(namespace)/\(name) is not known", details: again)
        case .otherPod(let namespace, let name, let uid, let asked):
            self.init(
                .tryAgainLater, "pod \(namespace)/\(name) has the UID \(uid), not \(asked)",
                details: "one of the two is older; " + again)
        case .noInstance(let namespace, let name, let uid):
            self.init(
                .tryAgainLater, "the pod's VirtualMachineInstance \(namespace)/\(name) with UID \(uid) is not known",
                details: "the pod's word alone is not believed; " + again)
        case .instanceReplaced(let name, let uid):
            self.init(
                .tryAgainLater, "the pod's VirtualMachineInstance \(name) with UID \(uid) has been replaced",
                details: "the pod is a leftover, or the new instance's pod comes soon")
        case .notItsPod(let instance, let pod):
            self.init(
                .conflict, "pod \(pod) was made after the VirtualMachineInstance \(instance) had its pod",
                details:
                    "KubeVirt makes one pod for an instance, and others for its migrations: this is neither; delete it")
        case .unavailable(let reason):
            self.init(
                .tryAgainLater, "whose addresses the pod has cannot be told: \(reason)",
                details: "the runtime tries again by itself")
        }
    }

    /// Why a pod with a migration's label is not attached; nil for one that may be.
    package init?(_ migration: PodIdentity.Migration, of instance: String) {
        switch migration.standing {
        case .open: return nil
        case .fromElsewhere:
            self.init(
                .tryAgainLater,
                "the VM \(instance) comes from where no migration sends it, or more than one, or one that goes elsewhere",
                details: "both halves of a decentralized migration must be in this cluster; from another one, reserve "
                    + "the VM's addresses before: `holdfast reserve`; the runtime tries again by itself")
        case .ended:
            self.init(
                .conflict, "the VirtualMachineInstanceMigration with UID \(migration.uid) has ended",
                details: "this pod was its target and does not carry \(instance)")
        case .unconfirmed:
            self.init(
                .tryAgainLater,
                "no VirtualMachineInstanceMigration with UID \(migration.uid) exists for instance \(instance)",
                details: "the pod's label \(KubeVirtName.migrationJobUID) alone is not believed; "
                    + "it may not be visible yet; the runtime tries again by itself")
        }
    }

    package init(_ error: WishError) {
        // Of two that contradict each other, that of the pod is the one its user can correct.
        let annotations = error.sources.filter { if case .annotation = $0 { true } else { false } }
        let code = annotations.isEmpty ? Code.invalidConfiguration : .badAnnotation
        let place = annotations.isEmpty ? "the network's attachment" : "the VM's template and restart the VM"
        switch error {
        case .unreadable(let source, let value, let expected):
            self.init(
                code, "\(source) has the value \"\(value)\"", details: "expected \(expected); correct it in \(place)")
        case .contradiction(let first, let second):
            self.init(
                code,
                "\(first.source) has the value \"\(first.text)\", and \(second.source) has \"\(second.text)\": "
                    + "they contradict each other",
                details: "both speak for the same NIC; correct one in \(place)")
        }
    }
}
