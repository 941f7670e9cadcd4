import Addresses
import ArgumentParser
import IPAMAPI
import IPAMModel
import Program

struct Reserve: ClientCommand {
    static let configuration = CommandConfiguration(
        abstract: "Gives a VM its addresses before any pod of it exists.",
        discussion: """
            Where the VM has them already, they are shown; a halted one that has others is moved to those that are named, \
            and has those others no more.
            """)
    @Argument(help: "NAMESPACE/NAME of the VM.") var vm: OwnerReference
    @Option(help: "The NIC: network name in the CNI configuration/interface name in the pod, as vm-net/eth0.")
    var network: String
    @Option(help: "An address to have; one of each family at most. Chosen from the pool where none is named.")
    var address: [IPAddress] = []
    @Option(help: "The MAC address to have.") var mac: MACAddress?
    @Option(help: "The pool; else the one for the namespace, or the default one.") var pool: String?
    @OptionGroup var options: ClientOptions

    func validate() throws {
        try vm.checkIsOfKubernetes()
        guard OwnerReference(argument: network) != nil else {
            throw ValidationError(
                """
                --network \(network): give NETWORK/INTERFACE, the name in the CNI configuration and the interface in the pod, \
                as vm-net/eth0
                """)
        }
    }

    func run(_ session: Session) async throws {
        let owner = Owner(kind: .virtualMachine, namespace: vm.namespace, name: vm.name, network: network)
        let request = AllocateRequest(owner: owner, pool: pool, addresses: address, mac: mac)
        let before = try await vm.bindings(in: session).map(\.binding).first { $0.owner.key == owner.key }
        let (binding, created) = try await session.pastCopies {
            try await session.calls.allocate(request, timeout: session.timeout)
        }
        try session.show(binding.document) {
            (created ? "reserved" : Self.change(from: before, to: binding.binding)) + ":\n"
                + Table.bindings([binding], now: session.now)
        }
    }

    private static func change(from before: Binding?, to after: Binding) -> String {
        func texts(_ binding: Binding) -> [String] {
            [binding.assignments.map(\.address.description).joined(separator: ","), "\(binding.mac)"]
        }
        let changed = zip(before.map(texts) ?? texts(after), texts(after)).filter { $0 != $1 }
        if changed.isEmpty { return "it has a binding already" }
        return "moved from \(changed.map(\.0).joined(separator: " ")) to \(changed.map(\.1).joined(separator: " "))"
    }
}

struct Release: ClientCommand {
    static let configuration = CommandConfiguration(
        abstract: "Frees a VM's addresses for good; they go into quarantine.",
        discussion: """
            Refused while a pod carries them: a running VM would go on using an address that others get. A pod that \
            starts in that very moment is not noticed: first see that the VM is stopped and nobody starts it.
            """)
    @Argument(help: "NAMESPACE/NAME of the VM or pod.") var vm: OwnerReference
    @Option(help: "Which of the two, where a VM and a pod have that name.") var kind: OwnerKind?
    @Option(help: "Which of its networks, where it has several.") var network: String?
    @Flag(name: [.customLong("force"), .customLong("yes")], help: "Also while a pod carries them.") var force = false
    @OptionGroup var options: ClientOptions

    func run(_ session: Session) async throws {
        let described = try await vm.binding(of: kind, onNetwork: network, in: session)
        let binding = described.binding
        let addresses = binding.assignments.map(\.address.description).joined(separator: ", ")
        if let carrier = binding.carryingPod, !force {
            throw Failure(
                """
                \(vm.namespace)/\(vm.name) is \(binding.state.word): pod \(carrier.pod) on node \(carrier.node) carries \
                \(addresses) now, and would go on using it while another VM gets it
                """,
                hint: "stop the VM first; where that pod is surely gone, repeat with --force")
        }
        _ = try await session.calls.release(.binding(binding.owner), timeout: session.timeout)
        try session.show(described.document) {
            "released: \(addresses) of \(vm.namespace)/\(vm.name) (\(binding.owner.network))"
        }
    }
}

extension IPAddress: ExpressibleByArgument {
    package init?(argument: String) { self.init(argument) }
}

extension MACAddress: ExpressibleByArgument {
    package init?(argument: String) { self.init(argument) }
}
