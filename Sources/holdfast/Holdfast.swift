import ArgumentParser
import Glibc
import Program

@main
enum Main {
    static func main() async {
        // In a container without --init: to the first process of all a signal without a handler does nothing.
        if getpid() == 1 {
            for number in [SIGINT, SIGTERM] { signal(number) { _exit(128 + $0) } }
        }
        await Holdfast.runProgram(variables: [])
    }
}

struct Holdfast: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast",
        abstract: "Looks at pools and bindings of a Holdfast server, and changes them by hand.",
        discussion: """
            The server is named with --server or the variable HOLDFAST_SERVER. Exit status: 0 done, 1 failed, 2 wrong \
            usage.
            """,
        version: ProgramVersion.current,
        subcommands: [
            PoolCommand.self, BindingCommand.self, ImportCommand.self, Reserve.self, Release.self, TransferCommand.self,
            Check.self, Watch.self, History.self, Backup.self, Restore.self, StoreCommand.self, Version.self,
        ])
}

/// Asks no server.
struct Version: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Shows the version of this program.")

    @OptionGroup var answer: OutputOptions

    func run() throws {
        let document = Document.object([
            ("version", .string(ProgramVersion.current)), ("api", .string("holdfast.ipam.v1")),
        ])
        try StandardOutput.write(
            answer.format.text(of: document) { "holdfast \(ProgramVersion.current) (API holdfast.ipam.v1)" })
    }
}
