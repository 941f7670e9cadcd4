import ArgumentParser
import Foundation
import IPAMAPI
import IPAMModel
import Program

/// What every command that talks to a server takes.
struct ClientOptions: ParsableArguments {
    @Option(help: "The server, HOST:PORT or unix:PATH (variable HOLDFAST_SERVER).")
    var server = variable("HOLDFAST_SERVER") ?? "127.0.0.1:7440"

    @Option(
        help: "How long to wait for one answer: 500ms, 10s, 1m.",
        transform: { text in
            do throws(IPAMError) {
                return Duration.nanoseconds(try Rules.delay(text, "--timeout").nanoseconds)
            } catch {
                throw ValidationError(error.message)
            }
        })
    var timeout = Duration.seconds(10)

    @Option(name: .shortAndLong, help: "table, json or yaml; json and yaml have the proto3 JSON names.")
    var output = OutputFormat.table

    @OptionGroup var tls: ClientTLSOptions
}

enum OutputFormat: String, ExpressibleByArgument, CaseIterable { case table, json, yaml }
