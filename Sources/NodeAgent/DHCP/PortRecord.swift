package import Addresses
package import DHCP
import FoundationEssentials

/// A pod's interface on this node, as it outlives the agent: where it is, and what its guest is told.
package struct PortRecord: Hashable, Sendable, Codable {
    /// A sandbox and an interface in it: one CNI attachment.
    package struct Key: Hashable, Sendable, Codable {
        package var containerID: String
        package var interface: String

        package init(containerID: String, interface: String) {
            self.containerID = containerID
            self.interface = interface
        }
    }

    package var key: Key
    /// CNI_NETNS.
    package var namespace: String
    /// What tells that namespace from a later one at the same path.
    package var namespaceID: UInt64
    /// "vm default/testvm (vm-net/eth0)", for people.
    package var owner: String
    package var guest: GuestConfiguration
    /// What the guest's frames come from; nil where that is not known.
    package var guestMAC: MACAddress?
    /// Whether the guest's questions are answered; else the port is known for announcements alone.
    package var answersDHCP: Bool

    package init(
        key: Key, namespace: String, namespaceID: UInt64, owner: String, guest: GuestConfiguration,
        guestMAC: MACAddress? = nil, answersDHCP: Bool
    ) {
        self.key = key
        self.namespace = namespace
        self.namespaceID = namespaceID
        self.owner = owner
        self.guest = guest
        self.guestMAC = guestMAC
        self.answersDHCP = answersDHCP
    }

    /// Whether the pod's namespace is gone for sure, or another one in its place.
    package var isGone: Bool {
        switch NetworkNamespace.look(at: namespace) {
        case .there(let identity): identity != namespaceID
        case .gone: true
        case .unseen: false
        }
    }
}

/// The records of this node's ports: a file each in a folder of the agent's state. Not synced to disk: a machine that
/// loses power loses its pods' namespaces too.
package struct PortFolder: Sendable {
    private let path: String

    package init(path: String) { self.path = path }

    private func file(of key: PortRecord.Key) -> String { "\(path)/\(key.containerID)-\(key.interface).json" }

    /// Makes the folder where it is missing.
    package func save(_ record: PortRecord) throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try JSONEncoder().encode(record).write(to: URL(filePath: file(of: record.key)), options: .atomic)
    }

    package func remove(_ key: PortRecord.Key) { try? FileManager.default.removeItem(atPath: file(of: key)) }

    /// All that can be read, and the names of those that cannot.
    package func load() -> (records: [PortRecord], unreadable: [String]) {
        var (records, unreadable): ([PortRecord], [String]) = ([], [])
        for name in (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? [] where name.hasSuffix(".json") {
            if let data = try? Data(contentsOf: URL(filePath: "\(path)/\(name)")),
                let record = try? JSONDecoder().decode(PortRecord.self, from: data)
            {
                records.append(record)
            } else {
                unreadable.append(name)
            }
        }
        return (records, unreadable)
    }
}
