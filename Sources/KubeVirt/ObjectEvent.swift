import Addresses
package import IPAMModel

/// What `kubectl describe` shows of an address, on the object whose it is.
package struct ObjectEvent: Hashable, Sendable {
    /// The object that an event is about.
    package struct Subject: Hashable, Sendable {
        package var apiVersion: String
        package var kind: String
        package var namespace: String
        package var name: String
        package var uid: String

        package init(apiVersion: String, kind: String, namespace: String, name: String, uid: String) {
            self.apiVersion = apiVersion
            self.kind = kind
            self.namespace = namespace
            self.name = name
            self.uid = uid
        }

        /// The owner of a binding. `standsAlone`: an instance that no VM owns.
        package init(_ owner: Owner, standsAlone: Bool = false) {
            let (apiVersion, kind) =
                switch owner.kind {
                case .pod: ("v1", "Pod")
                case .virtualMachine: ("kubevirt.io/v1", standsAlone ? "VirtualMachineInstance" : "VirtualMachine")
                }
            self.init(
                apiVersion: apiVersion, kind: kind, namespace: owner.namespace, name: owner.name, uid: owner.uid)
        }
    }

    package enum Reason: String, Hashable, Sendable {
        case allocated = "AddressAllocated"
        case held = "AddressHeld"
        case refused = "AddressRefused"
        case migrated = "Migrated"
        case released = "Released"
    }

    package var subject: Subject
    package var reason: Reason
    package var message: String
    /// With subject and reason, what makes two events the same one, of which the newer has the message.
    package var topic: String

    /// `topic` nil: the message.
    package init(_ subject: Subject, _ reason: Reason, _ message: String, topic: String? = nil) {
        self.subject = subject
        self.reason = reason
        self.message = message
        self.topic = topic ?? message
    }
}

extension Binding {
    /// "10.16.0.15 and fd00::f on vm-net/eth0".
    package var eventText: String {
        "\(assignments.map(\.address.description).joined(separator: " and ")) on \(owner.network)"
    }
}
