import Program

// Not subcommands: the agent itself has required options, and needs no word.
let arguments = Array(CommandLine.arguments.dropFirst())
switch arguments.first {
case "install": await InstallCommand.runProgram(arguments.dropFirst(), variables: InstallCommand.variables)
case "uninstall": await UninstallCommand.runProgram(arguments.dropFirst(), variables: UninstallCommand.variables)
default: await AgentCommand.runProgram(variables: AgentCommand.variables, flags: AgentCommand.flags)
}
