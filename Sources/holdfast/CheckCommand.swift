import Addresses
import ArgumentParser
import Foundation
import IPAMAPI
import IPAMModel
import KubernetesAPI
import Lifecycle
import Logging
import Program

struct Check: ClientCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compares the ledger with the cluster's VMs, pods and migrations.",
        discussion: """
            Prints each binding that disagrees with the cluster in two looks, --grace apart, with why and what --repair \
            would do. A halted VM agrees: it keeps its addresses. Exit status: 0 when all agree, 1 when not.

            It may be the wrong cluster: its API server is named first, and without --even-most nothing is said or done where \
            none of the ledger's VMs and pods is there, or more than ten and more than half of its VMs are not.
            """)
    @Flag(help: "Mend what can be mended safely: each is looked at once more just before.") var repair = false
    @Flag(help: "It is the right cluster, though most of the ledger's VMs, or all, are not there.") var evenMost = false
    @Option(
        help: "How far apart the two looks are: 10s unless set.",
        transform: ClientOptions.duration)
    var grace: Duration?
    @OptionGroup(title: "Kubernetes") var kubernetes: KubernetesOptions
    @OptionGroup var options: ClientOptions

    func run(_ session: Session) async throws {
        let configuration = try Self.kubernetes(kubernetes)
        let context = configuration.context.map { ", context \($0)" } ?? ""
        StandardError.write(Array("the cluster is that of \(configuration.server)\(context)\n".utf8))
        let client = KubernetesClient(
            configuration, log: Logger(label: "holdfast") { _ in SwiftLogNoOpLogHandler() })
        let outcome: Result<Void, any Error>
        do {
            outcome = .success(try await run(session, cluster: KubernetesCluster(client)))
        } catch let error as KubernetesError {
            outcome = .failure(Failure("the cluster cannot be compared: \(error.message)"))
        } catch {
            outcome = .failure(error)
        }
        await client.shutDown()
        try outcome.get()
    }

    /// As kubectl finds it: `--kubeconfig`, KUBECONFIG, the user's own, else the service account of a pod.
    private static func kubernetes(_ options: KubernetesOptions) throws -> KubernetesConfiguration {
        var options = options
        let home = FileManager.default.homeDirectoryForCurrentUser.appending(path: ".kube/config").path
        options.kubeconfig =
            try options.kubeconfig ?? variable("KUBECONFIG").map(kubeconfig)
            ?? (FileManager.default.fileExists(atPath: home) ? home : nil)
        return try options.configuration
    }

    /// The one file that a list in KUBECONFIG leads to. Throws `Failure` where there are several.
    static func kubeconfig(in list: String) throws -> String {
        let files = list.split(separator: ":").map(String.init)
        let present = files.filter { FileManager.default.fileExists(atPath: $0) }
        guard present.count < 2 else {
            throw Failure(
                "KUBECONFIG names several files, and they are not merged here, as kubectl does it",
                hint: "name the one that is meant with --kubeconfig: \(present.joined(separator: ", "))")
        }
        return present.first ?? files.first ?? list
    }

    /// Throws `ExitCode.failure` where something disagrees.
    func run(_ session: Session, cluster: any ClusterReads) async throws {
        let grace = grace ?? .seconds(10)
        var observations = Observations(grace: grace, isToldCluster: evenMost)
        var (bindings, result) = try await look(&observations, session, cluster)
        if !result.found.isEmpty {
            try await Task.sleep(for: grace)
            (bindings, result) = try await look(&observations, session, cluster)
        }
        var rows: [CheckedBinding] = []
        var fresh = Repair.Look()
        for found in result.found {
            var row = CheckedBinding(found, isRepeated: result.repeated.contains(found))
            if repair, result.due.contains(found) { row.outcome = await mend(found, session, cluster, &fresh) }
            rows.append(row)
        }
        try session.show(.object([("disagreements", .array(rows.map(\.document)))])) {
            rows.isEmpty
                ? bindings.count.counted("binding agrees", "bindings agree") + " with the cluster"
                : Table.checked(rows, repair: repair)
        }
        if rows.contains(where: { $0.outcome != .mended }) { throw ExitCode.failure }
    }

    /// Throws `Failure` where it is in doubt. Bindings first: what was made meanwhile is then in the cluster's lists.
    private func look(
        _ observations: inout Observations, _ session: Session, _ cluster: any ClusterReads
    ) async throws -> ([Binding], Observations.Result) {
        let bindings = try await session.bindings(matching: BindingFilter()).map(\.binding)
        let inventory = try await cluster.inventory(for: bindings)
        var result = observations.compare(bindings, with: inventory, at: .now)
        if let doubt = result.doubt { throw Failure("nothing can be said: \(doubt)") }
        result.found = try await Repair(ipam: session.calls, cluster: cluster).standing(result.found)
        return (bindings, result)
    }

    private func mend(
        _ found: Disagreement, _ session: Session, _ cluster: any ClusterReads, _ look: inout Repair.Look
    ) async -> CheckedBinding.Outcome {
        do throws(Repair.Failure) {
            switch try await Repair(ipam: session.calls, cluster: cluster).carryOut(found, &look) {
            case .done: return .mended
            case .notNeeded(let reason): return .left("left as it is: \(reason)")
            }
        } catch {
            return .left("failed: \(error)")
        }
    }
}

/// One line of the answer.
struct CheckedBinding {
    enum Outcome: Equatable {
        case mended
        case left(String)
    }

    var disagreement: Disagreement
    /// Whether both looks found it.
    var isRepeated: Bool
    var outcome: Outcome?

    init(_ disagreement: Disagreement, isRepeated: Bool) {
        self.disagreement = disagreement
        self.isRepeated = isRepeated
    }

    private var remedyText: String { isRepeated ? "\(disagreement.remedy)" : "nothing: seen once, look again" }

    private var outcomeText: String? {
        switch outcome {
        case nil: nil
        case .mended: "done"
        case .left(let reason): reason
        }
    }

    var document: Document {
        let binding = disagreement.binding
        return .fields([
            "owner": binding.owner.document, "addresses": .nonEmpty(binding.assignments.map(\.address.description)),
            "state": .string(binding.state.word), "reason": .string(disagreement.reason),
            "repair": .string(remedyText), "outcome": outcomeText.map { .string($0) },
        ])
    }

    func cells(repair: Bool) -> [String] {
        let binding = disagreement.binding
        return [
            binding.owner.namespace, binding.owner.name, binding.owner.network,
            binding.assignments.map(\.address.description).joined(separator: ","), binding.state.word,
            disagreement.reason, remedyText,
        ] + (repair ? [outcomeText ?? "not done"] : [])
    }
}

extension Table {
    fileprivate static func checked(_ rows: [CheckedBinding], repair: Bool) -> String {
        var table = Table(
            ["NAMESPACE", "NAME", "NETWORK", "ADDRESSES", "STATE", "WHY", "REPAIR"] + (repair ? ["DONE"] : []))
        for row in rows { table.append(row.cells(repair: repair)) }
        return table.text
    }
}
