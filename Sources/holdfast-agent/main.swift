import Program

await AgentCommand.runProgram(variables: AgentCommand.variables, flags: AgentCommand.flags)
