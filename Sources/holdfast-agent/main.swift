import Program

await AgentCommand.runProgram(variables: AgentCommand.variables, flags: ["annotate-pods"])
