package import ArgumentParser
import Foundation

/// What a person reads when a program cannot go on; ends it with exit status 1.
package struct Failure: Error, CustomStringConvertible {
    package let description: String
    /// What to do about it.
    package let hint: String?
    /// By which docs/errors.md knows it, where the server refused.
    package let reason: String?

    package init(_ description: String, hint: String? = nil, reason: String? = nil) {
        self.description = description
        self.hint = hint
        self.reason = reason
    }

    /// Of a file that cannot be read, in the system's words: for a directory, and more, Foundation has none.
    package init(reading file: String, _ error: any Error, hint: String? = nil) {
        let cause = ((error as? CocoaError)?.underlying as NSError?)?.localizedFailureReason
        self.init("\(file) cannot be read: \(cause ?? error.localizedDescription)", hint: hint)
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
        let given = Array(arguments)
        var added: [String] = []
        do {
            added = try fromEnvironment(
                variables, repeatable: repeatable, flags: flags, given: given,
                environment: ProcessInfo.processInfo.environment)
            var command = try parseAsRoot(given + added)
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
            Foundation.exit(0)
        } catch let failure as Failure {
            complain("error: \(failure)" + (failure.reason.map { " (\($0))" } ?? ""))
            if let hint = failure.hint { complain("hint: \(hint)") }
            Foundation.exit(1)
        } catch {
            let code = exitCode(for: error)
            var text = fullMessage(for: error)
            if code == .validationFailure {
                // The parser counts it among unexpected arguments.
                if let word = strayCommand(in: given), let end = text.firstIndex(of: "\n") {
                    let complaint =
                        word.hasPrefix("-")
                        ? "options come after the command: \(word)" : "there is no command '\(word)'"
                    text.replaceSubrange(..<end, with: "Error: \(complaint)")
                }
                for option in added.map({ $0.prefix { $0 != "=" } }) where text.contains("'\(option) ") {
                    text += "\n\(option) is from the variable \(variable(of: option.dropFirst(2)))."
                }
            }
            if code.isSuccess { print(text) } else if !text.isEmpty { complain(text) }
            Foundation.exit(code == .validationFailure ? 2 : code.rawValue)
        }
    }

    /// The word that stands where a command should, and is none.
    package static func strayCommand(in arguments: [String]) -> String? {
        var command: any ParsableCommand.Type = self
        for word in arguments where word != "help" {
            let commands = command.configuration.subcommands
            guard !commands.isEmpty else { return nil }
            guard let next = commands.first(where: { $0._commandName == word }) else { return word }
            command = next
        }
        return nil
    }

    private static func variable(of option: some StringProtocol) -> String {
        "HOLDFAST_" + option.uppercased().replacing("-", with: "_")
    }

    /// The arguments that stand for variables, less those that were given. Throws where a flag's value is neither yes nor no.
    package static func fromEnvironment(
        _ variables: [String], repeatable: [String] = [], flags: [String], given: [String],
        environment: [String: String]
    ) throws(ValidationError) -> [String] {
        func value(_ name: String) -> String? {
            let option = "--\(name)"
            guard !given.contains(where: { $0 == option || $0.hasPrefix("\(option)=") }) else { return nil }
            return environment[variable(of: name)].flatMap { $0.isEmpty ? nil : $0 }
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
                    "\(variable(of: name))=\(value): give 1, true, yes or on; or 0, false, no or off")
            }
        }
        return arguments
    }

    private static func complain(_ text: String) {
        StandardError.write(Array((text + "\n").utf8))
    }
}
