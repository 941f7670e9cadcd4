import Foundation

/// Two networks, one with etcd and one with the clients, as bridges where the test is; and network namespaces with a foot in
/// each, for a server each.
///
/// A cut is silent, as a switch's that fails: no packet comes back that says so. What is to be lost in one direction only is
/// sent to a MAC that nobody has.
final class Networks {
    enum Network: String, CaseIterable { case etcd = "e", clients = "c" }
    enum Direction: CaseIterable { case both, toServer, fromServer }

    /// Why there can be none here; nil: there can.
    static let obstacle: String? = {
        // CI's machine can: there tests fail rather than be left out.
        if ProcessInfo.processInfo.environment["HOLDFAST_CI"] != nil { return nil }
        if geteuid() != 0 { return "needs root, to make network namespaces" }
        do {
            try run(["/usr/bin/unshare", "-n", "ip", "link", "add", "type", "bridge"])
            return nil
        } catch { return "no network namespace with a bridge can be made: \(error)" }
    }()

    private let name = String(UUID().uuidString.prefix(4)).lowercased()
    private let number = Int.random(in: 0..<250)
    private let count: Int

    init(servers count: Int) throws {
        self.count = count
        for network in Network.allCases {
            try Self.ip("link", "add", bridge(network), "type", "bridge")
            try Self.ip("address", "add", host(network) + "/24", "dev", bridge(network))
            try Self.ip("link", "set", bridge(network), "up")
        }
        for index in 0..<count {
            try Self.ip("netns", "add", namespace(index))
            for network in Network.allCases {
                try Self.ip(
                    "link", "add", cable(network, index), "type", "veth", "peer", "name", network.rawValue, "netns",
                    namespace(index))
                try Self.ip("link", "set", cable(network, index), "master", bridge(network), "up")
                try inside(index, "address", "add", address(network, index) + "/24", "dev", network.rawValue)
                try inside(index, "link", "set", network.rawValue, "up")
            }
            try inside(index, "link", "set", "lo", "up")
        }
    }

    deinit {
        for index in 0..<count { try? Self.ip("netns", "delete", namespace(index)) }
        for network in Network.allCases { try? Self.ip("link", "delete", bridge(network)) }
    }

    /// Where the test, its etcd and its clients are.
    func host(_ network: Network) -> String { "\(subnet(network)).1" }
    func address(_ network: Network, _ server: Int) -> String { "\(subnet(network)).\(10 + server)" }

    /// What a program is the argument of, to run where the server is.
    func launcher(_ server: Int) -> [String] { ["/usr/bin/env", "ip", "netns", "exec", namespace(server)] }

    func cut(_ server: Int, from network: Network, _ direction: Direction = .both) throws {
        switch direction {
        case .both: try Self.ip("link", "set", cable(network, server), "nomaster")
        case .toServer:
            try Self.ip(
                "neighbor", "replace", address(network, server), "lladdr", Self.nobody, "dev", bridge(network), "nud",
                "permanent")
        case .fromServer:
            try inside(
                server, "neighbor", "replace", host(network), "lladdr", Self.nobody, "dev", network.rawValue, "nud",
                "permanent")
        }
    }

    func mend(_ server: Int, with network: Network, _ direction: Direction = .both) throws {
        switch direction {
        case .both: try Self.ip("link", "set", cable(network, server), "master", bridge(network))
        case .toServer: try Self.ip("neighbor", "delete", address(network, server), "dev", bridge(network))
        case .fromServer: try inside(server, "neighbor", "delete", host(network), "dev", network.rawValue)
        }
    }

    private static let nobody = "02:00:00:00:00:01"

    private func subnet(_ network: Network) -> String { network == .etcd ? "198.18.\(number)" : "198.19.\(number)" }
    private func namespace(_ server: Int) -> String { "hf-\(name)-\(server)" }
    private func bridge(_ network: Network) -> String { "hf\(network.rawValue)-\(name)" }
    private func cable(_ network: Network, _ server: Int) -> String { "hf\(network.rawValue)-\(name)-\(server)" }

    private func inside(_ server: Int, _ arguments: String...) throws {
        try Self.run(["/usr/bin/env", "ip", "-netns", namespace(server)] + arguments)
    }
    private static func ip(_ arguments: String...) throws { try run(["/usr/bin/env", "ip"] + arguments) }

    private static func run(_ command: [String]) throws {
        let process = Process()
        process.executableURL = URL(filePath: command[0])
        process.arguments = Array(command.dropFirst())
        var environment = ProcessInfo.processInfo.environment
        environment["PATH"] = (environment["PATH"] ?? "/usr/bin") + ":/usr/sbin:/sbin"
        process.environment = environment
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        if process.terminationStatus != 0 { throw Failure("\(command.joined(separator: " ")): \(text)") }
    }
}
