package import IPAMModel
package import RPC

/// Says whose each call is, and lets in those whose role may make it.
package struct Gate: Sendable {
    private let identify: @Sendable (ServerCall) -> Admission<Caller>

    package init(_ identify: @escaping @Sendable (ServerCall) -> Admission<Caller>) { self.identify = identify }

    /// Everybody may do everything.
    package static let open = Gate { _ in .admitted(.anyone) }

    /// For calls that callers with one of `roles` may make.
    package func admit(_ roles: Roles) -> @Sendable (ServerCall) -> Admission<Caller> {
        { [identify] call in identify(call) }
    }
}

extension Writer {
    /// All that clients may call, behind `gate`.
    package func services(_ gate: Gate) -> [RPCService] {
        [ipamService(gate), poolsService(gate), nodesService(gate), Maintenance(self).service(gate)]
    }
}
