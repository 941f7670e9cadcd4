import Addresses
import IPAMModel
import Ledger
import Logging

extension Logger {
    /// At debug: what a command came to, also where it changed nothing. Where that is not logged, it costs in vain.
    func tell(_ command: Command, by caller: Caller, _ result: Result<Outcome, IPAMError>) {
        var facts = command.facts
        facts["caller"] = "\(caller.name)"
        if !caller.traceID.isEmpty { facts["trace_id"] = "\(caller.traceID)" }
        switch result {
        case .success(let outcome):
            if let binding = outcome.binding { facts["addresses"] = .listed(binding.assignments.map(\.address)) }
            debug("\(command.verb)", metadata: facts)
        case .failure(let error):
            facts["reason"] = "\(error.reason.rawValue)"
            facts["error"] = "\(error.message)"
            debug("\(command.verb) refused", metadata: facts)
        }
    }
}

extension Command {
    fileprivate var verb: String {
        switch self {
        case .allocate: "allocate"
        case .release: "release"
        case .transfer: "transfer"
        case .renewCopies: "renew copies"
        case .createPool: "create pool"
        case .updatePool: "update pool"
        case .deletePool: "delete pool"
        }
    }

    /// By the keys that all programs' logs have: docs/metrics.md.
    fileprivate var facts: Logger.Metadata {
        switch self {
        case .allocate(let request):
            var facts: Logger.Metadata = ["owner": "\(request.owner.key)", "addresses": .listed(request.addresses)]
            facts.add(request.attachment)
            return facts
        case .release(.binding(let owner)): return ["owner": "\(owner.key)"]
        case .release(.attachment(let id, let owner, let network)):
            return [
                "owner": "\(owner.map { "\($0.key)" } ?? "")", "container": "\(id.containerID)",
                "network": "\(network)",
            ]
        case .transfer(let request):
            var facts: Logger.Metadata = ["owner": "\(request.owner.key)", "migration": "\(request.migrationUID)"]
            if case .prepare(let target, _) = request.phase { facts.add(target) }
            return facts
        case .renewCopies(let request): return ["node": "\(request.node)"]
        case .createPool(let pool), .updatePool(let pool, _): return ["pool": "\(pool.name)"]
        case .deletePool(let name): return ["pool": "\(name)"]
        }
    }
}

extension Logger.Metadata {
    fileprivate mutating func add(_ attachment: Attachment?) {
        guard let attachment else { return }
        self["pod"] = "\(attachment.pod)"
        self["node"] = "\(attachment.node)"
        self["container"] = "\(attachment.containerID)"
    }
}

extension Logger.MetadataValue {
    fileprivate static func listed(_ addresses: [IPAddress]) -> Self {
        "\(addresses.map(\.description).joined(separator: ","))"
    }
}

extension Outcome {
    fileprivate var binding: Binding? {
        switch self {
        case .allocated(let binding, _), .transferred(let binding): binding
        case .released(let binding): binding
        case .copiesRenewed, .pool, .poolDeleted: nil
        }
    }
}
