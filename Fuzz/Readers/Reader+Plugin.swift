import Addresses
import Foundation

@testable import CNI
@testable import Syscalls

extension Reader {
    /// What the runtime hands the plugin, and what plugin and agent tell each other.
    static let plugin = [
        Reader(name: "json") { bytes in
            guard let json = try? JSON(parsing: bytes) else { return }
            try expectSame(json, try? JSON(parsing: json.description), "JSON")
        },
        Reader(name: "network-configuration") { bytes in
            guard let network = try? NetworkConfiguration(parsing: bytes) else { return }
            let text = Array(JSON.object(network.json).description.utf8)
            try expectSame(network, try? NetworkConfiguration(parsing: text), "network")
            _ = try? network.validAttachments()
            if let told = network.delegateConfiguration(mac: MACAddress("02:00:0a:10:00:0f")) {
                let delegate = try? JSON(parsing: JSON.object(told).description)
                try expectSame(JSON.object(told), delegate, "the delegate's configuration")
            }
            for version in CNIVersion.allCases { _ = network.json.result(inVersion: version) }
        },
        // On the agent's socket.
        Reader(name: "http-messages") { bytes in
            guard let message = httpMessage(bytes) else { return }
            try expectSame(message, httpMessage(message.bytes), "message")
        },
        Reader(name: "agent-request") { bytes in
            guard let request = try? AgentRequest(parsing: bytes) else { return }
            var kept = request
            kept.environment = request.environment.filter { $0.key.hasPrefix("CNI_") }
            try expectSame(kept, try? AgentRequest(parsing: Array(request.json.description.utf8)), "request")
            _ = try? Invocation(environment: request.environment)
            _ = try? NetworkConfiguration(request.configuration)
        },
        Reader(name: "cni-environment") { bytes in
            let names = ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"]
            let values = bytes.split(separator: 0, maxSplits: names.count - 1, omittingEmptySubsequences: false)
                .map { String(decoding: $0, as: UTF8.self) }
            let environment = Dictionary(zip(names, values)) { first, _ in first }
            guard let invocation = try? Invocation(environment: environment) else { return }
            for key in invocation.arguments.keys where key.contains(where: { ";=".contains($0) }) {
                throw Finding(description: "CNI_ARGS gave the key \(key)")
            }
        },
    ]
}

/// What comes of `bytes` at the other end of a connection.
private func httpMessage(_ bytes: [UInt8]) -> HTTPMessage? {
    var ends: [Int32] = [-1, -1]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0 else { return nil }
    defer { close(ends[1]) }
    guard let stream = try? UnixStream(FileDescriptor(ends[0]), patience: .zero) else { return nil }
    send(ends[1], bytes, bytes.count, 0)
    shutdown(ends[1], Int32(SHUT_WR))
    return try? HTTPMessage(from: stream, by: .after(.seconds(1)))
}
