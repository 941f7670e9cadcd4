import Addresses
import ArgumentParser
import Foundation
import IPAMAPI
import IPAMModel
import Program

struct TransferCommand: ClientCommand {
    static let configuration = CommandConfiguration(
        commandName: "transfer",
        abstract: "Gives a VM's addresses to another VM; or ends a live migration by hand.",
        usage: """
            holdfast transfer --from NAMESPACE/NAME --to NAMESPACE/NAME
            holdfast transfer NAMESPACE/NAME --migration UID (--commit | --abort)
            """,
        discussion: """
            With --from and --to the other VM, a clone or one restored under another name, gets the addresses and MACs \
            of the first, on all networks or the one of --network. The first must be stopped, and the other must have \
            none of its own there.

            With --migration: for a migration whose end did not reach the server.
            """)
    @Argument(help: "NAMESPACE/NAME of the VM that migrates.") var vm: OwnerReference?
    @Option(help: "NAMESPACE/NAME of the VM that has the addresses.") var from: OwnerReference?
    @Option(help: "NAMESPACE/NAME of the VM that gets them.") var to: OwnerReference?
    @Option(help: "UID of the VirtualMachineInstanceMigration.") var migration: String?
    @Option(help: "Which of its networks, where it has several.") var network: String?
    @Flag(help: "--commit: the VM runs at the target now. --abort: it stays at the source.") var end: End?
    @OptionGroup var options: ClientOptions

    enum End: String, EnumerableFlag { case commit, abort }

    func validate() throws {
        let isOfMigration = vm != nil && migration != nil && end != nil
        let isToOther = from != nil && to != nil
        guard isOfMigration != isToOther, isToOther || (from == nil && to == nil),
            isOfMigration || (vm == nil && migration == nil && end == nil)
        else {
            throw ValidationError(
                "give --from and --to; or a VM, --migration and one of --commit and --abort")
        }
        try to?.checkIsOfKubernetes()
        if from != nil, from == to { throw ValidationError("--from and --to name the same VM") }
    }

    func run(_ session: Session) async throws {
        if let from, let to {
            try await give(from, to, session)
        } else if let vm, let migration, let end {
            let owner = try await vm.binding(of: .virtualMachine, onNetwork: network, in: session).binding.owner
            let phase: TransferPhase = end == .commit ? .commit(targetOwner: nil) : .abort
            let binding = try await transfer(owner, migration, phase, session)
            try session.show(binding.document) { Table.bindings([binding], now: session.now) }
        }
    }

    private func show(_ bindings: [DescribedBinding], _ session: Session) throws {
        try session.show(.object([("bindings", .array(bindings.map(\.document)))])) {
            Table.bindings(bindings, now: session.now)
        }
    }

    private func give(_ from: OwnerReference, _ to: OwnerReference, _ session: Session) async throws {
        let all = try await from.bindings(of: .virtualMachine, in: session)
        let meant = all.filter { network == nil || $0.binding.owner.network == network }
        guard !meant.isEmpty else {
            let networks = all.map(\.binding.owner.network).joined(separator: ", ")
            throw Failure(
                "\(from.text(.virtualMachine)) has no binding" + (network.map { " on network \($0)" } ?? ""),
                hint: all.isEmpty
                    ? "`holdfast binding show \(to.namespace)/\(to.name)` shows whether the other has it already"
                    : "it has one on: \(networks)")
        }
        for described in meant { try refuse(described.binding, carriedBy: described.binding.carryingPod) }
        let others = try await to.bindings(of: .virtualMachine, in: session).map(\.binding)
        for described in meant {
            guard let own = others.first(where: { $0.owner.network == described.binding.owner.network }) else {
                continue
            }
            throw Failure(
                """
                \(to.namespace)/\(to.name) has \(own.assignments.map(\.address.description).joined(separator: ", ")) \
                on \(own.owner.network) already
                """,
                hint: """
                    stop it, and free those first: `holdfast release \(to.namespace)/\(to.name) --network \
                    \(own.owner.network)`
                    """)
        }
        var given: [DescribedBinding] = []
        var failures: [(network: String, error: any Error)] = []
        for binding in meant.map(\.binding) {
            do {
                given.append(try await session.pastCopies { try await give(binding, to, session) })
            } catch {
                failures.append((binding.owner.network, error))
            }
        }
        if !given.isEmpty { try show(given, session) }
        guard let first = failures.first else { return }
        if meant.count == 1 { throw first.error }
        let reasons = failures.map { "\($0.network): \(($0.error as? IPAMError)?.message ?? "\($0.error)")" }
        throw Failure(
            """
            \(failures.count) of \(meant.count) networks' addresses were not given: \(reasons.joined(separator: "; "))
            """, hint: "the same command gives what is left")
    }

    /// As a migration to a pod that there is not, which ends at once: should this end in the middle, whatever the VMs do
    /// next puts it right. While nodes' copies are in its way nothing is left open, which the server would end.
    private func give(
        _ binding: Binding, _ to: OwnerReference, _ session: Session
    ) async throws -> DescribedBinding {
        let uid = Binding.byHand + UUID().uuidString.lowercased()
        let nobody = Attachment(node: "none", pod: "holdfast-transfer", podUID: uid, containerID: uid)
        let prepared = try await transfer(binding.owner, uid, .prepare(target: nobody), session).binding
        do {
            try refuse(prepared, carriedBy: prepared.active)
        } catch {
            _ = try await transfer(binding.owner, uid, .abort, session)
            throw error
        }
        var owner = binding.owner
        (owner.namespace, owner.name, owner.uid) = (to.namespace, to.name, "")
        let given: DescribedBinding
        do {
            given = try await transfer(binding.owner, uid, .commit(targetOwner: owner), session)
        } catch {
            _ = try? await transfer(binding.owner, uid, .abort, session)
            throw error
        }
        return try await session.calls.release(
            .attachment(nobody.id, owner: owner, network: owner.network), timeout: session.timeout) ?? given
    }

    private func transfer(
        _ owner: Owner, _ uid: String, _ phase: TransferPhase, _ session: Session
    ) async throws -> DescribedBinding {
        try await session.calls.transfer(
            TransferRequest(owner: owner, migrationUID: uid, phase: phase), timeout: session.timeout)
    }

    private func refuse(_ binding: Binding, carriedBy pod: Attachment?) throws {
        guard let pod else { return }
        let owner = binding.owner
        throw Failure(
            """
            \(owner.namespace)/\(owner.name) runs: pod \(pod.pod) on node \(pod.node) carries \
            \(binding.assignments.map(\.address.description).joined(separator: ", "))
            """,
            hint: "stop it first, with `virtctl stop \(owner.name) -n \(owner.namespace)`, and try again")
    }
}

extension Binding {
    /// What the UID of a migration begins with that is none.
    fileprivate static let byHand = "by-hand-"

    /// The pod that has it, or is about to: not the one that there is not, of a transfer by hand that broke off.
    var carryingPod: Attachment? { migrationUID.hasPrefix(Self.byHand) ? active : carrier }
}
