import CNI
import Foundation
import Testing

/// Agent, server and command as processes of their own that prove themselves to each other.
struct TLSTests {
    /// An authority, and a certificate by it for the server and for the clients, made by openssl.
    private func makeCertificates(in folder: String) throws {
        func openssl(_ arguments: String) throws {
            try Executable.run(["openssl"] + arguments.split(separator: " ").map(String.init)).requireSuccess()
        }
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        try "subjectAltName=IP:127.0.0.1\n".write(toFile: "\(folder)/san", atomically: true, encoding: .utf8)
        try openssl("req -x509 \(key) -days 2 -subj /CN=ca -keyout \(folder)/ca.key -out \(folder)/ca.pem")
        try openssl("req \(key) -subj /CN=holdfast -keyout \(folder)/own.key -out \(folder)/own.csr")
        try openssl(
            "x509 -req -days 2 -in \(folder)/own.csr -CA \(folder)/ca.pem -CAkey \(folder)/ca.key -CAcreateserial "
                + "-extfile \(folder)/san -out \(folder)/own.pem")
    }

    /// Starts a program; gives back what follows "listening on ".
    private func start(_ program: String, _ arguments: [String], _ processes: inout [Process]) throws -> String {
        let process = Process()
        process.executableURL = URL(filePath: "\(Executable.products)/\(program)")
        process.arguments = arguments + ["--log-level", "critical"]
        process.environment = [:]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        processes.append(process)
        let line = try output.fileHandleForReading.firstWords()
        try #require(line.hasPrefix("listening on ") && line.hasSuffix("\n"), "\(line)")
        return String(line.dropFirst("listening on ".count).dropLast())
    }

    @Test func `an agent with a certificate serves a pod from a server that wants one, and without it cannot`() throws {
        let scratch = "/tmp/holdfast-test-\(UUID().uuidString.prefix(8).lowercased())"
        try FileManager.default.createDirectory(atPath: scratch + "/manifests", withIntermediateDirectories: true)
        var processes: [Process] = []
        defer {
            for process in processes.reversed() {
                kill(process.processIdentifier, SIGKILL)
                process.waitUntilExit()
            }
            try? FileManager.default.removeItem(atPath: scratch)
        }
        try makeCertificates(in: scratch)
        try "[{name: vms, prefixes: [{prefix: 10.1.0.0/24}], is_default: true}]"
            .write(toFile: "\(scratch)/pools.yaml", atomically: true, encoding: .utf8)
        try "{apiVersion: v1, kind: Pod, metadata: {name: web, uid: web-1}, spec: {nodeName: node-a}}"
            .write(toFile: "\(scratch)/manifests/web.yaml", atomically: true, encoding: .utf8)
        let own = ["--tls-cert", "\(scratch)/own.pem", "--tls-key", "\(scratch)/own.key"]
        let server = try start(
            "holdfast-server",
            [
                "--listen", "127.0.0.1:0", "--store", "sqlite:\(scratch)/ledger.sqlite", "--pools",
                "\(scratch)/pools.yaml", "--tls-client-ca", "\(scratch)/ca.pem",
            ] + own, &processes)
        for (name, tls, isServed) in [("plain", [], false), ("tls", ["--tls-ca", "\(scratch)/ca.pem"] + own, true)] {
            let socket = "\(scratch)/\(name).sock"
            _ = try start(
                "holdfast-agent",
                [
                    "--node", "node-a", "--server", server, "--socket", socket, "--state-dir", "\(scratch)/\(name)",
                    "--pods", "directory:\(scratch)/manifests",
                ] + tls, &processes)
            let added = try Executable.run(
                ["\(Executable.products)/holdfast-cni"],
                environment: [
                    "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": "eth0",
                    "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web",
                ],
                input: #"{"cniVersion":"1.0.0","name":"n","type":"bridge","ipam":{"type":"holdfast-cni","#
                    + #""socket":"\#(socket)"}}"#)
            #expect(try added.json["code"]?.integer == (isServed ? nil : 11))
            #expect(try (added.json["ips"]?.array?.count == 1) == isServed, "\(added.output)")
        }
    }
}
