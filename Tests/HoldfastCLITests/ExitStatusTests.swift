import ArgumentParser
import Foundation
import Program
import Testing

@testable import holdfast

/// The program itself, as a process.
@Suite struct `The exit status of holdfast` {
    @Test(arguments: [["version"], ["--version"], ["--help"], ["pool", "--help"], ["binding", "show", "--help"], []])
    func `is 0 when done`(line: [String]) throws {
        let result = try Command.run(line)
        #expect(result.status == 0)
        #expect(result.error.isEmpty)
        #expect(!result.output.isEmpty)
    }

    @Test func `is 1 where no server answers, with an error and a hint of one line each`() throws {
        let socket = FileManager.default.temporaryDirectory.appending(path: "no-\(UUID()).sock").path
        let result = try Command.run(
            ["pool", "list", "--timeout", "2s"], environment: ["HOLDFAST_SERVER": "unix:\(socket)"])
        #expect(result.status == 1)
        #expect(result.output.isEmpty)
        let lines = result.error.split(separator: "\n")
        #expect(lines.count == 2, "\(result.error)")
        #expect(lines.first?.hasPrefix("error: no answer from the server at unix:\(socket)") == true, "\(result.error)")
        #expect(lines.first?.hasSuffix(" (NO_ANSWER)") == true, "\(result.error)")
        #expect(lines.last?.hasPrefix("hint: ") == true, "\(result.error)")
    }

    @Test func `output and time-out may come from variables, which the command line goes before`() throws {
        let variables = ["HOLDFAST_OUTPUT": "json"]
        #expect(try Command.run(["version"], environment: variables).output.hasPrefix("{"))
        #expect(try Command.run(["version", "-o", "table"], environment: variables).output.hasPrefix("holdfast "))
        for (name, value) in [("HOLDFAST_OUTPUT", "xml"), ("HOLDFAST_TIMEOUT", "soon")] {
            let result = try Command.run(["pool", "list"], environment: [name: value])
            #expect(result.status == 2)
            #expect(result.error.contains(name), "\(result.error)")
        }
    }

    @Test func `is 1 where the output cannot be written`() throws {
        let full = try #require(FileHandle(forWritingAtPath: "/dev/full"))
        let result = try Command.run(["version"], output: full)
        #expect(result.status == 1)
        #expect(result.error == "error: the output cannot be written: No space left on device\n")
    }

    @Test(arguments: [
        ["restore", "/"], ["import", "/"], ["pool", "update", "-f", "/"], ["pool", "list", "--tls-ca", "/"],
        ["check", "--kubeconfig", "/"],
    ])
    func `is 1 for a directory that is named as a file`(line: [String]) throws {
        let result = try Command.run(line)
        #expect(result.status == 1)
        #expect(result.error.contains("/ cannot be read: Is a directory"), "\(result.error)")
    }

    @Test func `a backup is looked at without what a server would want to see`() throws {
        let gone = "/nonexistent/file"
        let result = try Command.run(
            ["restore", gone, "--dry-run"],
            environment: ["HOLDFAST_TLS_CA": "/nonexistent/ca", "HOLDFAST_TOKEN_FILE": "/nonexistent/token"])
        #expect(result.status == 1)
        #expect(result.error.hasPrefix("error: \(gone) cannot be read"), "\(result.error)")
    }

    @Test(arguments: [
        "127.0.0.1:99999", "127.0.0.1:0", "127.0.0.1", "http://127.0.0.1:7440", "127.0.0.1:7440/", "", "fd00::1:7440",
        "unix:",
        "10.0.0.1:7440,10.0.0.2", ":7440", ",",
    ])
    func `is 2 for what can be no server, naming the form`(server: String) throws {
        for environment in [[:], ["HOLDFAST_SERVER": server]] {
            if server.isEmpty, !environment.isEmpty { continue }
            let result = try Command.run(
                ["pool", "list", "--timeout", "2s"] + (environment.isEmpty ? ["--server", server] : []),
                environment: environment)
            #expect(result.status == 2, "\(server)")
            #expect(result.error.contains("neither HOST:PORT nor unix:PATH"), "\(result.error)")
        }
    }

    @Test(arguments: ["[::1]:7440", "unix:/x", "localhost:7440, holdfast-server-1.example:7440", "localhost:7440,"])
    func `servers may be named so`(server: String) throws {
        #expect(throws: Never.self) { try Holdfast.parseAsRoot(["pool", "list", "--server", server]) }
    }

    @Test(arguments: [
        (["binding", "show", "10.16.0.300"], "NAMESPACE/NAME"),
        (["binding", "show", "10.16.0.15/16"], "as 10.16.0.15"),
        (["history", "10.16.0.15", "--at", "yesterday"], "2026-11-17T15:00:00Z"),
        (["history", "10.16.0.15", "--since", "7"], "90m, 24h, 7d"), (["pol", "list"], "no command 'pol'"),
        (["history", "10.16.0.15", "--kind", "pod"], "--kind is for"), (["release", "a/b", "--kind", "node"], "'pod'"),
        (["pool", "lst", "-o", "json"], "no command 'lst'"), (["backup", "-"], "name a file"),
        (["--server", "a:1", "pool", "list"], "options come after the command: --server"),
        (["pool", "-o", "json", "list"], "options come after the command: -o"),
    ])
    func `is 2 for what cannot be read, naming what can`(line: [String], words: String) throws {
        let result = try Command.run(line)
        #expect(result.status == 2)
        #expect(result.error.contains(words), "\(result.error)")
    }

    @Test(arguments: ["vm-net", "vm-net/", "/eth0", "a/b/c"])
    func `is 2 for a NIC that can be none, naming the form`(network: String) throws {
        let result = try Command.run(["reserve", "default/testvm", "--network", network])
        #expect(result.status == 2)
        #expect(result.error.contains("NETWORK/INTERFACE"), "\(result.error)")
    }

    @Test func `a variable of an option that may be repeated is a list`() throws {
        let arguments = try Holdfast.fromEnvironment(
            ["store"], repeatable: ["listen"], flags: [], given: [],
            environment: ["HOLDFAST_LISTEN": "127.0.0.1:1, unix:/x", "HOLDFAST_STORE": "a,b"])
        #expect(arguments == ["--store=a,b", "--listen=127.0.0.1:1", "--listen=unix:/x"])
    }

    @Test(arguments: [
        ("1", true), ("true", true), ("Yes", true), ("on", true), ("", false), ("0", false), ("FALSE", false),
        ("no", false), ("off", false),
    ])
    func `a variable of a flag says yes or no`(value: String, isOn: Bool) throws {
        let arguments = try Holdfast.fromEnvironment(
            [], flags: ["await-restore"], given: [], environment: ["HOLDFAST_AWAIT_RESTORE": value])
        #expect(arguments == (isOn ? ["--await-restore"] : []))
    }

    @Test func `a variable of a flag that says neither is refused by its name, unless the flag is given`() throws {
        let environment = ["HOLDFAST_INSECURE": "maybe"]
        let error = #expect(throws: ValidationError.self) {
            try Holdfast.fromEnvironment([], flags: ["insecure"], given: [], environment: environment)
        }
        #expect(error?.message == "HOLDFAST_INSECURE=maybe: give 1, true, yes or on; or 0, false, no or off")
        #expect(
            try Holdfast.fromEnvironment([], flags: ["insecure"], given: ["--insecure"], environment: environment)
                == [])
    }

    @Test(arguments: [
        ["pol"], ["pool", "show"], ["binding", "show", "10.0.0.300"], ["binding", "list", "--state", "gone"],
        ["reserve", "a/b"], ["reserve", "a/b", "--network", "n", "--mac", "02:00"], ["release", "b"],
        ["transfer", "a/b", "--migration", "m"], ["transfer", "a/b", "--migration", "m", "--commit", "--abort"],
        ["transfer"], ["transfer", "--from", "a/b"], ["transfer", "--from", "a/b", "--to", "a/b"],
        ["transfer", "a/b", "--from", "a/b", "--to", "c/d"], ["check", "--grace", "soon"],
        ["reserve", "default/TestVM", "--network", "vm-net/eth0"], ["transfer", "--from", "a/b", "--to", "a/C"],
        ["store", "copy", "--from", "sqlite:/tmp/a", "--to", "sqlite:/tmp/./a"], ["pool", "list", "--timeout", "0s"],
        ["pool", "list", "--timeout", "soon"], ["pool", "list", "-o", "xml"], ["pool", "list", "--tls-cert", "c"],
    ])
    func `is 2 for wrong usage`(line: [String]) throws {
        let result = try Command.run(line)
        #expect(result.status == 2)
        #expect(result.output.isEmpty)
        #expect(result.error.contains("Usage: holdfast"))
    }
}

private enum Command {
    static func run(
        _ arguments: [String], environment: [String: String] = [:], output elsewhere: FileHandle? = nil
    ) throws -> (status: Int32, output: String, error: String) {
        let process = Process()
        // Beside the test runner, where SwiftPM builds both.
        process.executableURL = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
            .appending(path: "holdfast")
        process.arguments = arguments
        process.environment = environment
        let (output, error) = (Pipe(), Pipe())
        (process.standardOutput, process.standardError) = (elsewhere ?? output, error)
        try process.run()
        if elsewhere != nil { try output.fileHandleForWriting.close() }
        // Both are far smaller than a pipe's buffer.
        let texts = [output, error].map {
            String(decoding: $0.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        }
        process.waitUntilExit()
        return (process.terminationStatus, texts[0], texts[1])
    }
}
