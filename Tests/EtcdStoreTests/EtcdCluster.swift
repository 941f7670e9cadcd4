import EtcdStore
import Foundation
import FoundationNetworking
import RPC
import Synchronization
import Testing

/// Real etcd members (Debian's etcd-server) on loopback, in a folder of their own; gone with the last who holds them.
final class EtcdCluster: @unchecked Sendable {
    // @unchecked: `members` is changed by the test's one thread.
    struct Member {
        let name: String
        let client: Int
        let peer: Int
        var process: Process?
    }

    /// CI's machine has it: there its tests fail rather than be left out.
    static let isInstalled =
        FileManager.default.isExecutableFile(atPath: "/usr/bin/etcd")
        || ProcessInfo.processInfo.environment["HOLDFAST_CI"] != nil

    let folder: URL
    private(set) var members: [Member]
    private let flags: [String]
    /// Where they listen.
    private let host: String
    /// With TLS to clients: they want its client's certificate.
    let certificates: Certificates?
    /// `NAME:PASSWORD`, for `ctl` once authentication is on.
    var user: String?

    /// Starts them and returns once all answer.
    init(
        members count: Int = 1, host: String = "127.0.0.1", certificates: Certificates? = nil, flags: [String] = []
    ) throws {
        self.host = host
        self.certificates = certificates
        folder = FileManager.default.temporaryDirectory.appending(path: "holdfast-etcd-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        self.flags = flags
        members = try (0..<count).map { index in
            Member(name: "m\(index)", client: try freePort(), peer: try freePort())
        }
        for index in members.indices { try start(index) }
        for index in members.indices { try waitUntilHealthy(index) }
    }

    deinit {
        for index in members.indices { kill(index) }
        try? FileManager.default.removeItem(at: folder)
    }

    /// The lease is long, and so is the patience with a slow machine, where it is not waited for.
    func configuration(_ prefix: String = "/holdfast/test/", lease: Duration = .seconds(40)) -> EtcdConfiguration {
        EtcdConfiguration(endpoints: endpoints, prefix: prefix, lease: lease)
    }

    var endpoints: [String] { members.map { "\(host):\($0.client)" } }
    private var scheme: String { certificates == nil ? "http" : "https" }

    /// For `--store`.
    var store: String { "etcd:" + endpoints.map { "\(scheme)://\($0)" }.joined(separator: ",") }

    func start(_ index: Int) throws {
        let member = members[index]
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/etcd")
        process.arguments =
            [
                "--name", member.name, "--data-dir", folder.appending(path: member.name).path,
                "--listen-client-urls", "\(scheme)://\(host):\(member.client)",
                "--advertise-client-urls", "\(scheme)://\(host):\(member.client)",
                "--listen-peer-urls", "http://127.0.0.1:\(member.peer)",
                "--initial-advertise-peer-urls", "http://127.0.0.1:\(member.peer)",
                "--initial-cluster", members.map { "\($0.name)=http://127.0.0.1:\($0.peer)" }.joined(separator: ","),
                "--log-level", "error",
            ] + flags
        if let certificates {
            process.arguments? += [
                "--cert-file", certificates.path("server.pem"), "--key-file", certificates.path("server.key"),
                "--trusted-ca-file", certificates.path("ca.pem"), "--client-cert-auth",
            ]
        }
        let log = folder.appending(path: "\(member.name).log")
        if !FileManager.default.fileExists(atPath: log.path) { try Data().write(to: log) }
        let handle = try FileHandle(forWritingTo: log)
        try handle.seekToEnd()
        process.standardError = handle
        process.standardOutput = handle
        try process.run()
        members[index].process = process
        Self.endWithThisProcess(process.processIdentifier, folder)
    }

    /// A cluster that a suite holds for ever has no other end.
    private static func endWithThisProcess(_ pid: pid_t, _ folder: URL) {
        let isFirst = started.withLock { started in
            started.append((pid, folder))
            return started.count == 1
        }
        guard isFirst else { return }
        atexit {
            let left = EtcdCluster.started.withLock { $0 }
            for (pid, _) in left { Foundation.kill(pid, SIGKILL) }
            // Until they have ended they write; fails where `Process` has waited already.
            for (pid, _) in left { waitpid(pid, nil, 0) }
            for (_, folder) in left { try? FileManager.default.removeItem(at: folder) }
        }
    }

    private static let started = Mutex<[(pid: pid_t, folder: URL)]>([])

    func send(_ signal: Int32, to index: Int) {
        if let process = members[index].process { Foundation.kill(process.processIdentifier, signal) }
    }

    func kill(_ index: Int) {
        guard let process = members[index].process else { return }
        Foundation.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        Self.started.withLock { $0.removeAll { $0.pid == process.processIdentifier } }
        members[index].process = nil
    }

    /// As somebody does who puts a snapshot in the place of all that the only member has.
    func putBack(_ snapshot: String) throws {
        kill(0)
        let member = members[0]
        let data = folder.appending(path: member.name)
        try FileManager.default.removeItem(at: data)
        let peer = "http://127.0.0.1:\(member.peer)"
        try ctl(
            "snapshot", "restore", snapshot, "--data-dir", data.path, "--name", member.name, "--initial-cluster",
            "\(member.name)=\(peer)", "--initial-advertise-peer-urls", peer)
        try start(0)
        try waitUntilHealthy(0)
    }

    /// As etcd does that finds that what its members have differs; etcdctl cannot.
    func raiseCorrupt() async throws {
        guard let url = URL(string: "\(scheme)://\(endpoints[0])/v3/maintenance/alarm") else { throw Failure("no URL") }
        var request = URLRequest(url: url)
        request.httpMethod = "POST"
        request.httpBody = Data(#"{"action": "ACTIVATE", "alarm": "CORRUPT"}"#.utf8)
        let (text, response) = try await URLSession.shared.data(for: request)
        guard (response as? HTTPURLResponse)?.statusCode == 200 else {
            throw Failure("etcd raises no alarm: \(String(decoding: text, as: UTF8.self))")
        }
    }

    /// What `etcdctl` prints.
    @discardableResult
    func ctl(_ arguments: String...) throws -> String { try ctl(arguments).text }

    func ctl(_ arguments: [String], at endpoints: [String]? = nil) throws -> (status: Int32, text: String) {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/etcdctl")
        process.environment = ["ETCDCTL_API": "3"]
        process.arguments = [
            "--endpoints", (endpoints ?? self.endpoints).map { "\(scheme)://\($0)" }.joined(separator: ","),
            "--command-timeout", "20s",
        ]
        if let certificates {
            process.arguments? += [
                "--cacert", certificates.path("ca.pem"), "--cert", certificates.path("client.pem"),
                "--key", certificates.path("client.key"),
            ]
        }
        if let user { process.arguments? += ["--user", user] }
        process.arguments? += arguments
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text)
    }

    /// What a member has said so far.
    func log(_ index: Int) -> String {
        (try? String(contentsOf: folder.appending(path: "\(members[index].name).log"), encoding: .utf8)) ?? ""
    }

    private func waitUntilHealthy(_ index: Int) throws {
        let deadline = ContinuousClock.now + .seconds(60)
        while true {
            if try ctl(["endpoint", "health"], at: [endpoints[index]]).status == 0 { return }
            if ContinuousClock.now > deadline { throw Failure("etcd does not start: \(log(index).suffix(2000))") }
            usleep(50_000)
        }
    }
}

struct Failure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// Whether `condition` came true in time; the machine may be loaded.
func eventually(within limit: Duration = .seconds(60), _ condition: () throws -> Bool) rethrows -> Bool {
    let deadline = ContinuousClock.now + limit
    while ContinuousClock.now < deadline {
        if try condition() { return true }
        usleep(5_000)
    }
    return false
}

/// Whether `condition` stays true for that long.
func stays(for time: Duration, _ condition: () throws -> Bool) rethrows -> Bool {
    try !eventually(within: time) { try !condition() }
}

func eventually(
    within limit: Duration = .seconds(60), _ condition: () async throws -> Bool
) async rethrows -> Bool {
    let deadline = ContinuousClock.now + limit
    while ContinuousClock.now < deadline {
        if try await condition() { return true }
        try? await Task.sleep(for: .milliseconds(5))
    }
    return false
}

/// Whoever was given one may not have bound it yet.
private let givenPorts = Mutex<Set<UInt16>>([])

/// A TCP port of loopback that nobody had a moment ago, and that no outgoing connection is given: a member that was
/// killed wants it again.
func freePort() throws -> Int {
    for _ in 0..<200 {
        let port = UInt16.random(in: 20_000..<32_000)
        guard givenPorts.withLock({ $0.insert(port).inserted }) else { continue }
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let isFree = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
        if isFree { return Int(port) }
    }
    throw Failure("no free port")
}
