import ArgumentParser
import Foundation
import IPAMAPI
import IPAMModel
import Program

/// What every command that talks to a server takes.
struct ClientOptions: ParsableArguments {
    @Option(help: "The server, HOST:PORT or unix:PATH; several are separated by commas (variable HOLDFAST_SERVER).")
    var server = variable("HOLDFAST_SERVER") ?? "127.0.0.1:7440"

    @Option(
        help: "How long to wait for one answer: 500ms, 1m; 10s unless set (variable HOLDFAST_TIMEOUT).",
        transform: Self.duration)
    var timeout: Duration?

    @OptionGroup var answer: OutputOptions

    @OptionGroup var credentials: CredentialOptions

    var output: OutputFormat { answer.format }

    mutating func validate() throws {
        if timeout == nil, let text = variable("HOLDFAST_TIMEOUT") {
            do {
                timeout = try Self.duration(text)
            } catch let error as ValidationError {
                throw ValidationError("HOLDFAST_TIMEOUT: \(error.message)")
            }
        }
        if timeout == .zero { throw ValidationError("--timeout 0s leaves the server no time to answer") }
        try credentials.check(servers: server)
    }

    static func duration(_ text: String) throws -> Duration {
        do throws(IPAMError) {
            return Duration.nanoseconds(try Rules.delay(text, "the time").nanoseconds)
        } catch {
            throw ValidationError(error.message)
        }
    }
}

/// How a command answers.
struct OutputOptions: ParsableArguments {
    @Option(
        name: .shortAndLong,
        help: "table (the default), json or yaml; json and yaml have the proto3 JSON names (variable HOLDFAST_OUTPUT).")
    var output: OutputFormat?

    var format: OutputFormat { output ?? .table }

    mutating func validate() throws {
        if output == nil, let text = variable("HOLDFAST_OUTPUT") {
            guard let format = OutputFormat(rawValue: text) else {
                throw ValidationError("HOLDFAST_OUTPUT is \"\(text)\", not table, json or yaml")
            }
            output = format
        }
    }
}

enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
    case table, json, yaml

    /// `document` for programs, `text` for people.
    func text(of document: Document, as text: () -> String) -> String {
        switch self {
        case .table: text()
        case .json: document.json
        case .yaml: document.yaml
        }
    }
}
