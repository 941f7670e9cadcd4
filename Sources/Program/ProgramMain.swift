package import ArgumentParser
import Foundation

/// What a person reads when a program cannot go on; ends it with exit status 1.
package struct Failure: Error, CustomStringConvertible {
    package let description: String
    /// What to do about it.
    package let hint: String?

    package init(_ description: String, hint: String? = nil) {
        self.description = description
        self.hint = hint
    }
}

extension AsyncParsableCommand {
    /// Runs the command and ends the process: exit status 0 done, 1 failed, 2 wrong usage.
    ///
    /// Each name in `variables` is an option or, in `flags`, a flag whose value may also come from the environment:
    /// `--tls-cert` from HOLDFAST_TLS_CERT. What stands on the command line wins. The value of one in `repeatable` is a
    /// list, separated by commas. `arguments` are the process's own unless given.
    package static func runProgram(
        _ arguments: ArraySlice<String> = CommandLine.arguments.dropFirst(),
        variables: [String], repeatable: [String] = [], flags: [String] = []
    ) async -> Never {
        do {
            let given = Array(arguments)
            let environment = ProcessInfo.processInfo.environment
            var command = try parseAsRoot(
                given
                    + fromEnvironment(
                        variables, repeatable: repeatable, flags: flags, given: given, environment: environment))
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
            Foundation.exit(0)
        } catch let failure as Failure {
            complain("error: \(failure)")
            if let hint = failure.hint { complain("hint: \(hint)") }
            Foundation.exit(1)
        } catch {
            let code = exitCode(for: error)
            let text = fullMessage(for: error)
            if code.isSuccess { print(text) } else if !text.isEmpty { complain(text) }
            Foundation.exit(code == .validationFailure ? 2 : code.rawValue)
        }
    }

    /// The arguments that stand for variables, less those that were given. Throws where a flag's value is neither yes nor no.
    package static func fromEnvironment(
        _ variables: [String], repeatable: [String] = [], flags: [String], given: [String],
        environment: [String: String]
    ) throws(ValidationError) -> [String] {
        func variable(_ name: String) -> String { "HOLDFAST_" + name.uppercased().replacing("-", with: "_") }
        func value(_ name: String) -> String? {
            let option = "--\(name)"
            guard !given.contains(where: { $0 == option || $0.hasPrefix("\(option)=") }) else { return nil }
            return environment[variable(name)].flatMap { $0.isEmpty ? nil : $0 }
        }
        var arguments = variables.compactMap { name in value(name).map { "--\(name)=\($0)" } }
        for name in repeatable {
            for item in (value(name) ?? "").split(separator: ",") {
                arguments.append("--\(name)=\(item.trimmingCharacters(in: .whitespaces))")
            }
        }
        for name in flags {
            guard let value = value(name) else { continue }
            switch value.lowercased() {
            case "1", "true", "yes", "on": arguments.append("--\(name)")
            case "0", "false", "no", "off": break
            default:
                throw ValidationError(
                    "\(variable(name))=\(value): give 1, true, yes or on; or 0, false, no or off")
            }
        }
        return arguments
    }

    private static func complain(_ text: String) {
        StandardError.write(Array((text + "\n").utf8))
    }
}
