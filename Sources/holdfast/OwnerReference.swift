import ArgumentParser
import IPAMAPI
import IPAMModel
import Program

/// NAMESPACE/NAME, as people name a VM.
struct OwnerReference: ExpressibleByArgument, Equatable {
    var namespace: String
    var name: String

    init?(argument: String) {
        let parts = argument.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else { return nil }
        (namespace, name) = (String(parts[0]), String(parts[1]))
    }

    /// "default/testvm", or "vm default/testvm" where it is known which of the two.
    func text(_ kind: OwnerKind?) -> String { (kind.map { "\($0.word) " } ?? "") + "\(namespace)/\(name)" }

    /// Throws `ValidationError` for upper case, which no name in Kubernetes has: no VM would ever come for the addresses.
    func checkIsOfKubernetes() throws {
        let text = "\(namespace)/\(name)"
        guard text == text.lowercased() else {
            throw ValidationError("\(text): names in Kubernetes are in lower case, as \(text.lowercased())")
        }
    }

    /// All bindings of it, one for each network: of a VM and of a pod of that name, unless `kind` says of which.
    func bindings(of kind: OwnerKind? = nil, in session: Session) async throws -> [DescribedBinding] {
        try await session.bindings(matching: BindingFilter(namespace: namespace, name: name))
            .filter { kind == nil || $0.binding.owner.kind == kind }
    }

    /// The one binding that is meant. Throws `Failure` where there is none, or several that `kind` and `network` do not tell
    /// apart.
    func binding(
        of kind: OwnerKind? = nil, onNetwork network: String?, in session: Session
    ) async throws -> DescribedBinding {
        let all = try await bindings(of: kind, in: session)
        let matching = all.filter { network == nil || $0.binding.owner.network == network }
        let networks = all.map(\.binding.owner.network).joined(separator: ", ")
        guard let first = matching.first else {
            throw Failure(
                "\(text(kind)) has no binding" + (network.map { " on network \($0)" } ?? ""),
                hint: all.isEmpty ? "`holdfast binding list` shows what there is" : "it has one on: \(networks)")
        }
        if matching.contains(where: { $0.binding.owner.kind != first.binding.owner.kind }) {
            throw Failure(
                "a VM and a pod are called \(namespace)/\(name)", hint: "name one with --kind vm or --kind pod")
        }
        guard matching.count == 1 else {
            throw Failure("\(text(kind)) has several bindings", hint: "name one with --network: \(networks)")
        }
        return first
    }
}

extension OwnerKind: ExpressibleByArgument {
    package init?(argument: String) {
        guard let kind = Self.allCases.first(where: { $0.word == argument.lowercased() }) else { return nil }
        self = kind
    }

    package static var allValueStrings: [String] { allCases.map(\.word) }

    fileprivate var word: String {
        switch self {
        case .virtualMachine: "vm"
        case .pod: "pod"
        }
    }
}

extension Session {
    /// All pages.
    func bindings(matching filter: BindingFilter) async throws -> [DescribedBinding] {
        try await calls.allBindings(matching: filter, timeout: timeout)
    }
}
