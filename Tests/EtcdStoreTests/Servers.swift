import Foundation
import IPAMAPI
import IPAMModel

/// Several real holdfast-servers on one etcd, each a process of its own on a unix socket.
final class Servers: @unchecked Sendable {
    // @unchecked: `processes` is changed by the test's one thread.
    /// Where a server runs, other than on a unix socket as the test does.
    struct Place {
        /// HOST:PORT.
        var address: String?
        /// What its program is the argument of.
        var launcher: [String] = []
        var environment: [String: String] = [:]
    }

    private let cluster: EtcdCluster
    let folder: URL
    private let places: [Place]
    private let leaseSeconds: Int
    var count: Int { places.count }
    private var processes: [Int: Process] = [:]
    /// `waiting` has one address, which is not given again while a test runs.
    private let pools = """
        - name: vm-net
          is_default: true
          reuse_delay: 0s
          prefixes: [{prefix: 10.16.0.0/22, gateway: 10.16.0.1}]
        - name: waiting
          reuse_delay: 30m
          prefixes: [{prefix: 10.17.0.0/30, gateway: 10.17.0.1}]
        """

    /// `lease` in seconds: how soon another leads.
    init(_ cluster: EtcdCluster, places: [Place] = [Place(), Place(), Place()], lease: Int = 2) throws {
        self.cluster = cluster
        leaseSeconds = lease
        self.places = places
        folder = FileManager.default.temporaryDirectory.appending(path: "holdfast-ha-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try Data(pools.utf8).write(to: folder.appending(path: "pools.yaml"))
        for index in 0..<count { try start(index) }
    }

    deinit {
        for index in 0..<count { kill(index) }
        try? FileManager.default.removeItem(at: folder)
    }

    func address(_ index: Int) -> String { places[index].address ?? "unix:\(folder.path)/\(index).sock" }

    /// For `--server`.
    var list: String { (0..<count).map(address).joined(separator: ",") }

    static func binary(_ name: String) -> URL {
        URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().appending(path: name)
    }

    func start(_ index: Int) throws {
        let process = Process()
        let command = places[index].launcher + [Self.binary("holdfast-server").path]
        process.executableURL = URL(filePath: command[0])
        let variables = [
            "LISTEN": address(index), "INSECURE": "true", "HTTP": "off", "STORE": cluster.store,
            "ETCD_PREFIX": "/holdfast/ha/", "ETCD_LEASE": "\(leaseSeconds)",
            "POOLS": folder.appending(path: "pools.yaml").path,
            "LOG_LEVEL": "info",
        ]
        process.environment = ProcessInfo.processInfo.environment.merging(
            variables.map { ("HOLDFAST_" + $0, $1) } + Array(places[index].environment)
        ) { $1 }
        process.arguments = Array(command.dropFirst())
        let log = folder.appending(path: "\(index).log")
        if !FileManager.default.fileExists(atPath: log.path) { try Data().write(to: log) }
        let handle = try FileHandle(forWritingTo: log)
        try handle.seekToEnd()
        process.standardError = handle
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        processes[index] = process
    }

    func send(_ signal: Int32, to index: Int) {
        if let process = processes[index] { Foundation.kill(process.processIdentifier, signal) }
    }

    /// Sends it and waits for the end.
    func kill(_ index: Int, _ signal: Int32 = SIGKILL) {
        guard let process = processes.removeValue(forKey: index) else { return }
        Foundation.kill(process.processIdentifier, SIGCONT)
        Foundation.kill(process.processIdentifier, signal)
        process.waitUntilExit()
    }

    /// Which one etcd has as the leader.
    func leader() throws -> Int? {
        let address = try cluster.ctl("get", "--print-value-only", "/holdfast/ha/leader")
        return (0..<count).first { address == self.address($0) + "\n" }
    }

    /// What the leader's key hangs on, as etcdctl writes it; nil where nobody leads.
    func lease() throws -> String? {
        let fields = try cluster.ctl("get", "/holdfast/ha/leader", "-w", "fields").split(separator: "\n")
        let number = fields.first { $0.hasPrefix("\"Lease\"") }?.split(separator: " ").last
        return number.flatMap { Int64($0) }.map { String($0, radix: 16) }
    }

    func waitForLeader(other: Int? = nil) throws -> Int {
        var found: Int?
        guard
            try eventually({
                found = try leader()
                return found != nil && found != other
            }), let found
        else { throw Failure("no leader: \(logs)") }
        return found
    }

    /// Returns once the pools are there.
    func waitUntilServing() async throws {
        let client = try IPAMClient(server: list)
        let deadline = ContinuousClock.now + .seconds(60)
        while (try? await client.pools(timeout: .seconds(5)))?.isEmpty != false {
            if ContinuousClock.now > deadline { throw Failure("no pools: \(logs)") }
            try await Task.sleep(for: .milliseconds(20))
        }
        await client.close()
    }

    func log(of index: Int) -> String {
        (try? String(contentsOf: folder.appending(path: "\(index).log"), encoding: .utf8)) ?? ""
    }

    var logs: String {
        (0..<count).map { "server \($0):\n\(log(of: $0).suffix(3000))" }.joined(separator: "\n")
    }
}
