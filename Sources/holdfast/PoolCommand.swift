import ArgumentParser
import Foundation
import IPAMAPI
import IPAMModel
import Program

struct PoolCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pool", abstract: "The address spaces that addresses are given from.",
        subcommands: [List.self, Show.self, Create.self, Update.self, Delete.self])

    struct List: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Lists all pools with how much of each is in use.")
        @OptionGroup var options: ClientOptions

        func run(_ session: Session) async throws {
            let pools = try await session.calls.pools(timeout: session.timeout)
            try session.show(.object([("pools", .array(pools.map(\.document)))])) { Table.pools(pools) }
        }
    }

    struct Show: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Shows one pool, prefix by prefix.")
        @Argument var name: String
        @OptionGroup var options: ClientOptions

        func run(_ session: Session) async throws {
            let pool = try await session.calls.pool(named: name, timeout: session.timeout)
            try session.show(pool.document) { Table.facts(of: pool) }
        }
    }

    struct Create: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Makes the pools that a file describes.")
        @OptionGroup var manifest: ManifestOptions
        @OptionGroup var options: ClientOptions

        func run(_ session: Session) async throws {
            try await manifest.apply(in: session) { pool in
                // What it is based on is an update's: here it is made.
                var pool = pool
                pool.revision = 0
                return try await session.calls.createPool(pool, timeout: session.timeout)
            }
        }
    }

    struct Update: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Gives pools the content that a file describes.",
            discussion: """
                Refused where a binding's address would no longer be in its pool, and where the file has a `revision`, as what \
                `holdfast pool show -o yaml` prints, and the pool was changed since.
                """)
        @OptionGroup var manifest: ManifestOptions
        @OptionGroup var options: ClientOptions

        func run(_ session: Session) async throws {
            try await manifest.apply(in: session) {
                try await session.calls.updatePool($0, for: nil, timeout: session.timeout)
            }
        }
    }

    struct Delete: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Deletes a pool that has no bindings.")
        @Argument var name: String
        @OptionGroup var options: ClientOptions

        func run(_ session: Session) async throws {
            // To the server a pool that is not there is deleted; to a person its name is mistyped.
            _ = try await session.calls.pool(named: name, timeout: session.timeout)
            try await session.calls.deletePool(named: name, timeout: session.timeout)
            try session.show(.object([])) { "pool \(name) deleted" }
        }
    }
}

/// `-f FILE` with pools in it.
struct ManifestOptions: ParsableArguments {
    @Option(
        name: [.short, .long],
        help: "YAML or JSON with one pool, or a list of pools, in the API's field names; - for standard input.")
    var file: String

    /// Sends each pool of the file with `call`, in order, and shows what became of it. Throws at the first that is refused;
    /// the ones before it stay, and are named.
    func apply(in session: Session, _ call: (Pool) async throws -> DescribedPool) async throws {
        let meant = try PoolManifest.parse(
            try content, source: file == "-" ? "standard input" : file, keepsRevision: true)
        let before = try await session.calls.pools(timeout: session.timeout)
        var (pools, done): ([DescribedPool], [String]) = ([], [])
        for pool in meant {
            do {
                pools.append(try await call(pool))
            } catch var error as IPAMError where meant.count > 1 {
                let rest = meant[(done.count + 1)...].map { "\($0.name) not tried" }
                let others = (done + rest).joined(separator: ", ")
                error.message = "pool \(pool.name): \(error.message) (the others: \(others))"
                throw error
            }
            let old = before.first { $0.pool.name == pool.name }?.pool.revision
            let outcome = old == nil ? "created" : old == pools.last?.pool.revision ? "unchanged" : "updated"
            done.append("\(pool.name) \(outcome)")
        }
        try session.show(.object([("pools", .array(pools.map(\.document)))])) {
            (done.map { "pool \($0)" } + ["", Table.pools(pools)]).joined(separator: "\n")
        }
    }

    private var content: Data {
        get throws {
            if file == "-" { return FileHandle.standardInput.readDataToEndOfFile() }
            do {
                return try Data(contentsOf: URL(filePath: file))
            } catch {
                throw Failure(reading: file, error, hint: "name a file that can be read with -f")
            }
        }
    }
}
