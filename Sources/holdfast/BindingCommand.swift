import Addresses
import ArgumentParser
import IPAMAPI
import IPAMModel
import Program

struct BindingCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "binding", abstract: "Who has which addresses.", subcommands: [List.self, Show.self])

    struct List: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Lists bindings.")
        @OptionGroup var filter: FilterOptions
        @OptionGroup var options: ClientOptions

        func run(_ session: Session) async throws {
            let bindings = try await session.bindings(matching: filter.filter)
            try session.show(.object([("bindings", .array(bindings.map(\.document)))])) {
                Table.bindings(bindings, now: session.now)
            }
        }
    }

    struct Show: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shows who has an address, or all that a VM has.",
            discussion: "For an address in quarantine: who had it, and when others may have it.")
        @Argument(help: "An address, or NAMESPACE/NAME of a VM or pod.") var subject: Subject
        @OptionGroup var options: ClientOptions

        func run(_ session: Session) async throws {
            let bindings: [DescribedBinding]
            switch subject {
            case .address(let address):
                bindings = [try await session.calls.binding(holding: address, timeout: session.timeout)]
            case .owner(let owner):
                bindings = try await owner.bindings(in: session)
                guard !bindings.isEmpty else {
                    throw Failure(
                        "\(owner.namespace)/\(owner.name) has no binding",
                        hint: "`holdfast binding list` shows what there is")
                }
            }
            let document: Document =
                bindings.count == 1
                ? bindings[0].document : .object([("bindings", .array(bindings.map(\.document)))])
            try session.show(document) {
                bindings.map { Table.facts(of: $0, now: session.now) }.joined(separator: "\n\n")
            }
        }
    }

    enum Subject: ExpressibleByArgument {
        case address(IPAddress)
        case owner(OwnerReference)

        init?(argument: String) {
            if let address = IPAddress(argument) {
                self = .address(address)
            } else if let owner = OwnerReference(argument: argument) {
                self = .owner(owner)
            } else {
                return nil
            }
        }
    }
}

/// Which bindings a list or a watch is about.
struct FilterOptions: ParsableArguments {
    @Option(name: .shortAndLong, help: "Only this namespace.") var namespace: String?
    @Option(help: "Only this VM or pod.") var name: String?
    @Option(help: "Only this pool.") var pool: String?
    @Option(help: "Only what a pod on this node carries, or will carry after its migration.") var node: String?
    @Option(help: "reserved, bound or migrating.") var state: BindingState?

    var filter: BindingFilter { BindingFilter(pool: pool, namespace: namespace, name: name, node: node, state: state) }
}

extension BindingState: ExpressibleByArgument {
    package init?(argument: String) {
        guard let state = Self.allCases.first(where: { $0.word == argument.lowercased() }) else { return nil }
        self = state
    }

    package static var allValueStrings: [String] { allCases.map(\.word) }
}
