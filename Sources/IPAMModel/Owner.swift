/// What kind of Kubernetes object owns a binding.
package enum OwnerKind: UInt8, Hashable, Sendable, CaseIterable, Codable {
    case virtualMachine = 1
    case pod = 2
}

/// Who an address belongs to.
package struct Owner: Hashable, Sendable, Codable {
    package var kind: OwnerKind
    package var namespace: String
    package var name: String
    /// The object's UID; empty where the caller does not know it. Not part of the identity: `key` is.
    package var uid: String
    /// The NIC: "<network name in the CNI configuration>/<interface name in the pod>".
    package var network: String

    package init(kind: OwnerKind, namespace: String, name: String, uid: String = "", network: String) {
        self.kind = kind
        self.namespace = namespace
        self.name = name
        self.uid = uid
        self.network = network
    }

    package var key: OwnerKey { OwnerKey(kind: kind, namespace: namespace, name: name, network: network) }

    /// Whether `uid` names another object of the same name: compared only where both are known.
    package func isAnotherObject(than uid: String) -> Bool { !self.uid.isEmpty && !uid.isEmpty && self.uid != uid }
}

/// An owner's identity. Kubernetes names are unique, so at most one live object has it.
package struct OwnerKey: Hashable, Sendable {
    package var kind: OwnerKind
    package var namespace: String
    package var name: String
    package var network: String

    package init(kind: OwnerKind, namespace: String, name: String, network: String) {
        self.kind = kind
        self.namespace = namespace
        self.name = name
        self.network = network
    }
}

extension OwnerKey: CustomStringConvertible {
    /// The object without its NIC: "vm default/testvm".
    package var object: String { "\(kind == .virtualMachine ? "vm" : "pod") \(namespace)/\(name)" }

    /// "vm default/testvm (vm-net/eth0)".
    package var description: String { "\(object) (\(network))" }
}
