package import FoundationEssentials
import Yams

/// Everything of the cluster that this product looks at, as it was at one moment.
package struct ClusterObjects: Hashable, Sendable {
    package var pods: [Pod] = []
    package var virtualMachines: [VirtualMachine] = []
    package var instances: [VirtualMachineInstance] = []
    package var migrations: [VirtualMachineInstanceMigration] = []

    package init() {}

    package var isEmpty: Bool {
        pods.isEmpty && virtualMachines.isEmpty && instances.isEmpty && migrations.isEmpty
    }

    package func pod(namespace: String, name: String) -> Pod? {
        pods.first { $0.metadata.namespace == namespace && $0.metadata.name == name }
    }

    package func pod(uid: String) -> Pod? { pods.first { $0.metadata.uid == uid } }

    package func virtualMachine(namespace: String, name: String) -> VirtualMachine? {
        virtualMachines.first { $0.metadata.namespace == namespace && $0.metadata.name == name }
    }

    package func instance(namespace: String, name: String) -> VirtualMachineInstance? {
        instances.first { $0.metadata.namespace == namespace && $0.metadata.name == name }
    }

    package func migration(uid: String) -> VirtualMachineInstanceMigration? {
        migrations.first { $0.metadata.uid == uid }
    }
}

/// One object out of a manifest.
package enum ClusterObject: Hashable, Sendable {
    case pod(Pod)
    case virtualMachine(VirtualMachine)
    case instance(VirtualMachineInstance)
    case migration(VirtualMachineInstanceMigration)
    /// Of a kind that is not looked at.
    case other

    private struct Kind: Decodable {
        var apiVersion: String
        var kind: String
    }

    /// Reads one object, as JSON or YAML; unknown fields are passed over. Throws where it is neither, is not whole, or
    /// has no name or UID.
    package init(manifest: Data) throws {
        func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
            // JSON is YAML, but its own decoder is faster.
            if let value = try? JSONDecoder().decode(type, from: manifest) { return value }
            return try YAMLDecoder().decode(type, from: manifest)
        }
        let kind = try decode(Kind.self)
        switch (kind.kind, kind.apiVersion.hasPrefix("kubevirt.io/")) {
        case ("Pod", false): self = .pod(try decode(Pod.self))
        case ("VirtualMachine", true): self = .virtualMachine(try decode(VirtualMachine.self))
        case ("VirtualMachineInstance", true): self = .instance(try decode(VirtualMachineInstance.self))
        case ("VirtualMachineInstanceMigration", true):
            self = .migration(try decode(VirtualMachineInstanceMigration.self))
        default: self = .other
        }
    }
}

extension ClusterObjects {
    package mutating func insert(_ object: ClusterObject) {
        switch object {
        case .pod(let pod): pods.append(pod)
        case .virtualMachine(let machine): virtualMachines.append(machine)
        case .instance(let instance): instances.append(instance)
        case .migration(let migration): migrations.append(migration)
        case .other: break
        }
    }
}
