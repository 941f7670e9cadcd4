package import CNI
package import IPAMModel
package import KubeVirt

extension CNIError {
    /// The service's refusal as the runtime is told it. What a repetition may mend has code 11, as kubelet repeats anyway
    /// but shows it as such.
    package init(_ error: IPAMError) {
        let code: Code =
            switch error.code {
            case .unavailable, .aborted: .tryAgainLater
            case .invalidArgument: .invalidRequest
            case .notFound: .notFound
            case .alreadyExists: .taken
            case .resourceExhausted: .exhausted
            case .failedPrecondition: .conflict
            case .permissionDenied, .unauthenticated: .notPermitted
            case .internalError: .internalFailure
            }
        let facts = error.metadata.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        let reason = ([error.reason.rawValue] + facts).joined(separator: " ")
        self.init(code, error.message, details: "\(reason): \(Self.advice(error.reason, error.code))")
    }

    private static func advice(_ reason: IPAMError.Reason, _ code: IPAMError.Code) -> String {
        switch reason {
        case .addressTaken, .macTaken:
            "ask for another one in the annotation, or release the holder's (holdfast release)"
        case .addressQuarantined: "it was freed a moment ago; the runtime's next try may have it"
        case .addressOutsidePool, .addressExcluded: "ask for an address that the pool gives, or name another pool"
        case .poolNotFound: "create the pool (holdfast pool create), or correct its name in the network or annotation"
        case .noDefaultPool: "name a pool in the network's configuration, or make one the default"
        case .namespaceNotAllowed: "use a pool that the namespace may use, or add the namespace to the pool"
        case .poolExhausted: "add a prefix to the pool, or release bindings that nobody needs (holdfast binding list)"
        case .quotaExceeded: "raise the pool's quota, or release bindings of the namespace"
        case .addressChange, .macChange: "stop the VM before its address or MAC is changed"
        case .attachmentSuperseded: "a newer pod carries this VM; this one has come too late"
        case .bindingNotFound: "a migration's target gets no new address: its source must have one"
        default:
            code == .unavailable || code == .aborted
                ? "see whether holdfast-server runs; the runtime tries again by itself"
                : "see the agent's and the server's logs"
        }
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
        case .instanceReplaced(let name, let uid):
            self.init(
                .tryAgainLater, "the pod's VirtualMachineInstance \(name) with UID \(uid) has been replaced",
                details: "the pod is a leftover, or the new instance's pod comes soon")
        case .migrationUnconfirmed(let uid, let instance):
            self.init(
                .tryAgainLater, "no VirtualMachineInstanceMigration with UID \(uid) exists for instance \(instance)",
                details: "the pod's label \(KubeVirtName.migrationJobUID) alone is not believed; " + again)
        }
    }

    package init(_ error: AnnotationError) {
        self.init(
            .badAnnotation, "annotation \(error.annotation) has the value \"\(error.value)\"",
            details: "expected \(error.expected); correct it in the VM's template and restart the VM")
    }
}
