import CNI
import Foundation
import IPAMAPI
import IPAMModel
import KubeVirt
import Logging
import NodeAgent
import Testing

/// A network's ranges, two agents and a real server.
struct InlinePoolProcessTests {
    private func withServer(_ body: (_ socket: String) async throws -> Void) async throws {
        let scratch = "/tmp/holdfast-test-\(UUID().uuidString.prefix(8).lowercased())"
        try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true)
        let process = Process()
        process.executableURL = URL(filePath: "\(Executable.products)/holdfast-server")
        process.arguments = [
            "--listen", "unix:\(scratch)/server.sock", "--store", "sqlite:\(scratch)/ledger.sqlite", "--http", "off",
            "--log-level", "critical",
        ]
        process.environment = [:]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        defer {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
            try? FileManager.default.removeItem(atPath: scratch)
        }
        let line = try output.fileHandleForReading.firstWords()
        try #require(line == "listening on unix:\(scratch)/server.sock\n", "\(line)")
        try await body("unix:\(scratch)/server.sock")
    }

    @Test func `pods that start at once on two nodes get the addresses of the range, each one`() async throws {
        try await withServer { socket in
            let source = StatedSource()
            var objects = ClusterObjects()
            for index in 0..<40 {
                objects.pods.append(
                    Pod(
                        metadata: ObjectMeta(namespace: "default", name: "p\(index)", uid: "uid-\(index)"),
                        nodeName: "node-\(index % 2)"))
            }
            source.state(objects)
            let clients = [try IPAMClient(server: socket), try IPAMClient(server: socket)]
            let agents = clients.enumerated().map { index, client in
                AttachmentHandler(
                    node: "node-\(index)", ipam: client, source: source,
                    log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            }
            let addresses = try await withThrowingTaskGroup(of: String.self) { tasks in
                for index in 0..<40 {
                    tasks.addTask {
                        let answer = try await agents[index % 2].add(
                            AgentRequest(
                                environment: [
                                    "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c\(index)", "CNI_NETNS": "/x",
                                    "CNI_IFNAME": "net1",
                                    "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=p\(index)",
                                ],
                                configuration: [
                                    "cniVersion": "1.0.0", "name": "vlan10", "type": "macvlan",
                                    "ipam": [
                                        "type": "holdfast-cni", "range": "10.20.0.0/24", "range_start": "10.20.0.10",
                                        "range_end": "10.20.0.49", "gateway": "10.20.0.1",
                                        "dns": ["nameservers": ["10.20.0.2"]],
                                    ],
                                ]))
                        #expect(answer["result"]?["dns"]?["nameservers"] == ["10.20.0.2"])
                        return answer["result"]?["ips"]?.array?.first?["address"]?.string ?? ""
                    }
                }
                return try await tasks.reduce(into: Set<String>()) { $0.insert($1) }
            }
            #expect(addresses == Set((10...49).map { "10.20.0.\($0)/24" }))
            #expect(try await clients[0].pools(timeout: .seconds(10)).map(\.pool.name) == ["10.20.0.0-24"])
            for client in clients { await client.close() }
        }
    }
}
