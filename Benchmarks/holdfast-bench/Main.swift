import ArgumentParser

@main
struct Main: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast-bench",
        abstract: "Measures this machine's builds; prints medians and ratios of one run.",
        subcommands: [HoldfastBench.self, NodeBench.self], defaultSubcommand: HoldfastBench.self)
}
