package import FoundationEssentials
import Yams

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
