/// What callers may do.
package struct Roles: OptionSet, Hashable, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Attaches and detaches pods of its own node.
    package static let agent = Roles(rawValue: 1)
    /// Everything.
    package static let `operator` = Roles(rawValue: 2)
    /// Looks only.
    package static let reader = Roles(rawValue: 4)
    package static let any: Roles = [.agent, .operator, .reader]
}

/// Who asks, as far as the service has verified it.
package struct Caller: Hashable, Sendable {
    /// For logs and the history: `system:serviceaccount:NAMESPACE:NAME` of a token, `certificate:NAME` of a client
    /// certificate.
    package var name: String
    package var roles: Roles
    /// The one node whose attachments an agent acts on (promise 8); nil where nothing proves it.
    package var node: String?

    package init(name: String, roles: Roles, node: String? = nil) {
        self.name = name
        self.roles = roles
        self.node = node
    }

    /// Of a server that asks nobody who they are.
    package static let anyone = Caller(name: "anyone", roles: .any)
    /// What the server does by itself: its pools file, deleted VMs, migrations that hang.
    package static let server = Caller(name: "holdfast-server", roles: .any)

    /// Whether it has one of `roles`.
    package func isOne(of roles: Roles) -> Bool { !self.roles.isDisjoint(with: roles) }

    /// Whether only its own node's attachments are its business.
    package var isBoundToNode: Bool { !roles.contains(.operator) }
}
