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

    /// Throws `ValidationError` for upper case, which no name in Kubernetes has: no VM would ever come for the addresses.
    func checkIsOfKubernetes() throws {
        let text = "\(namespace)/\(name)"
        guard text == text.lowercased() else {
            throw ValidationError("\(text): names in Kubernetes are in lower case, as \(text.lowercased())")
        }
    }

    /// All bindings of it: one for each network.
    func bindings(in session: Session) async throws -> [DescribedBinding] {
        try await session.bindings(matching: BindingFilter(namespace: namespace, name: name))
    }

    /// The one binding that is meant. Throws `Failure` where there is none, or several and `network` names none of them.
    func binding(onNetwork network: String?, in session: Session) async throws -> DescribedBinding {
        let all = try await bindings(in: session)
        let matching = all.filter { network == nil || $0.binding.owner.network == network }
        let networks = all.map(\.binding.owner.network).joined(separator: ", ")
        guard let first = matching.first else {
            throw Failure(
                "\(namespace)/\(name) has no binding" + (network.map { " on network \($0)" } ?? ""),
                hint: all.isEmpty ? "`holdfast binding list` shows what there is" : "it has one on: \(networks)")
        }
        guard matching.count == 1 else {
            throw Failure("\(namespace)/\(name) has several bindings", hint: "name one with --network: \(networks)")
        }
        return first
    }
}

extension Session {
    /// All pages.
    func bindings(matching filter: BindingFilter) async throws -> [DescribedBinding] {
        try await calls.allBindings(matching: filter, timeout: timeout)
    }
}
