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
            // A pool that is not there has none either; its name is mistyped.
            if bindings.isEmpty, let pool = filter.pool {
                _ = try await session.calls.pool(named: pool, timeout: session.timeout)
            }
            try session.show(.object([("bindings", .array(bindings.map(\.document)))])) {
                Table.bindings(bindings, now: session.now)
            }
        }
    }

    struct Show: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shows who has an address, or all that a VM has.",
            discussion: "For an address in quarantine: who had it, and when others may have it.")
        @OptionGroup var asked: SubjectOptions
        @OptionGroup var options: ClientOptions

        func run(_ session: Session) async throws {
            switch asked.subject {
            case .address(let address):
                let binding = try await binding(holding: address, session)
                try session.show(binding.document) { Table.facts(of: binding, now: session.now) }
            case .owner(let owner):
                let bindings = try await owner.bindings(of: asked.kind, in: session)
                guard !bindings.isEmpty else {
                    throw Failure(
                        "\(owner.text(asked.kind)) has no binding",
                        hint: "`holdfast binding list` shows what there is")
                }
                try session.show(.object([("bindings", .array(bindings.map(\.document)))])) {
                    bindings.map { Table.facts(of: $0, now: session.now) }.joined(separator: "\n\n")
                }
            }
        }

        private func binding(holding address: IPAddress, _ session: Session) async throws -> DescribedBinding {
            do throws(IPAMError) {
                return try await session.calls.binding(holding: address, timeout: session.timeout)
            } catch {
                guard error.reason == .bindingNotFound,
                    let pools = try? await session.calls.pools(timeout: session.timeout).map(\.pool),
                    let pool = pools.first(where: { $0.prefixes.contains { $0.gateway == address } })
                else { throw error }
                throw Failure("\(address) is the gateway of pool \(pool.name), and given to nobody")
            }
        }
    }

    enum Subject {
        case address(IPAddress)
        case owner(OwnerReference)

        /// Throws `ValidationError`.
        init(_ text: String) throws {
            if let address = IPAddress(text) {
                self = .address(address)
            } else if IPPrefix.split(text) == nil, let owner = OwnerReference(argument: text) {
                self = .owner(owner)
            } else {
                throw ValidationError("give an address, as 10.16.0.15 or fd00::15, or NAMESPACE/NAME of a VM or pod")
            }
        }
    }
}

/// Whom a question is about.
struct SubjectOptions: ParsableArguments {
    @Argument(help: "An address, or NAMESPACE/NAME of a VM or pod.", transform: BindingCommand.Subject.init)
    var subject: BindingCommand.Subject
    @Option(help: "Which of the two, where a VM and a pod have that name.") var kind: OwnerKind?

    func validate() throws {
        if kind != nil, case .address = subject { throw ValidationError("--kind is for a NAMESPACE/NAME only") }
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
