import CNI
import Foundation
import Testing

/// The agent as a process of its own.
struct AgentProcessTests {
    private func run(_ body: (_ scratch: String, _ agent: Process, _ lines: FileHandle) async throws -> Void)
        async throws
    {
        let scratch = "/tmp/holdfast-test-\(UUID().uuidString.prefix(8).lowercased())"
        try FileManager.default.createDirectory(
            atPath: scratch + "/manifests", withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: scratch) }
        try makeStaleSocket(scratch + "/agent.sock")
        let agent = Process()
        agent.executableURL = URL(filePath: Executable.products + "/holdfast-agent")
        agent.arguments = ["--server", "unix:\(scratch)/server.sock", "--socket", "\(scratch)/agent.sock"]
        agent.environment = [
            "HOLDFAST_NODE": "node-a", "HOLDFAST_PODS": "directory:\(scratch)/manifests",
            "HOLDFAST_STATE_DIR": "\(scratch)/state", "HOLDFAST_LOG_LEVEL": "critical",
        ]
        let output = Pipe()
        agent.standardOutput = output
        try agent.run()
        defer { if agent.isRunning { kill(agent.processIdentifier, SIGKILL) } }
        try await body(scratch, agent, output.fileHandleForReading)
    }

    /// What a killed agent leaves behind.
    private func makeStaleSocket(_ path: String) throws {
        let script = "import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
        try Executable.run(["python3", "-c", script, path]).requireSuccess()
    }

    @Test func `it replaces a stale socket, says that it listens, answers, and ends with 0 on SIGTERM`() async throws {
        try await run { scratch, agent, lines in
            #expect(try lines.firstWords() == "listening on unix:\(scratch)/agent.sock\n")
            let attributes = try FileManager.default.attributesOfItem(atPath: "\(scratch)/agent.sock")
            #expect((attributes[.posixPermissions] as? Int ?? 0) & 0o077 == 0)
            #expect(FileManager.default.fileExists(atPath: "\(scratch)/state"))

            let added = try Executable.run(
                [Executable.products + "/holdfast-cni"],
                environment: [
                    "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": "eth0",
                    "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web",
                ],
                input: #"{"cniVersion":"1.1.0","name":"n","type":"bridge","ipam":{"type":"holdfast-cni","#
                    + #""socket":"\#(scratch)/agent.sock"}}"#)
            #expect(added.status == 1)
            #expect(try added.json["code"] == 11)
            #expect(try added.json["msg"] == "pod default/web is not known")

            let second = try Executable.run([
                Executable.products + "/holdfast-agent", "--node", "node-a", "--server",
                "unix:\(scratch)/server.sock",
                "--socket", "\(scratch)/agent.sock", "--state-dir", "\(scratch)/state", "--pods",
                "directory:\(scratch)/manifests",
            ])
            #expect(second.status == 1)
            #expect(second.errors.contains("another agent runs here"), "\(second.errors)")
            #expect(FileManager.default.fileExists(atPath: "\(scratch)/agent.sock"))
            let third = try Executable.run([
                Executable.products + "/holdfast-agent", "--node", "node-b", "--server",
                "unix:\(scratch)/server.sock",
                "--socket", "\(scratch)/other.sock", "--state-dir", "\(scratch)/state", "--pods",
                "directory:\(scratch)/manifests",
            ])
            #expect(third.status == 1)
            #expect(
                third.errors.contains("in \(scratch)/state: another agent runs here")
                    && third.errors.contains("--state-dir"), "\(third.errors)")

            agent.terminate()
            agent.waitUntilExit()
            #expect(agent.terminationReason == .exit && agent.terminationStatus == 0)
        }
    }

    @Test func `wrong usage ends with 2`() throws {
        #expect(try Executable.run([Executable.products + "/holdfast-agent"]).status == 2)
        let unknown = try Executable.run(
            [Executable.products + "/holdfast-agent", "--node", "a", "--pods", "nonsense:/x"])
        #expect(unknown.status == 2)
        #expect(unknown.errors.contains("nonsense:/x"))
    }
}
