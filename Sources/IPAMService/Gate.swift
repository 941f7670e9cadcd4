import IPAMAPI
package import IPAMModel
package import RPC
import Telemetry

/// Says whose each call is, and lets in those whose role may make it.
package struct Gate: Sendable {
    private let identify: @Sendable (ServerCall) -> Admission<Caller>

    package init(_ identify: @escaping @Sendable (ServerCall) -> Admission<Caller>) { self.identify = identify }

    /// Everybody may do everything.
    package static let open = Gate { _ in .admitted(.anyone) }

    /// For calls that callers with one of `roles` may make.
    package func admit(_ roles: Roles) -> @Sendable (ServerCall) -> Admission<Caller> {
        { [identify] call in
            let trace = call.trace
            @Sendable func check(_ caller: Caller) throws(RPCStatus) -> Caller {
                guard caller.isOne(of: roles) else { throw IPAMError.roleMissing(caller, wants: roles).status }
                var caller = caller
                if let trace { caller.traceID = trace.traceID }
                return caller
            }
            switch identify(call) {
            case .admitted(let caller):
                do throws(RPCStatus) { return .admitted(try check(caller)) } catch { return .refused(error) }
            case .refused(let status): return .refused(status)
            case .pending(let find):
                return .pending { () async throws(RPCStatus) in try check(try await find()) }
            }
        }
    }

    /// For what the services look like, which whoever may call anything may know.
    package var reflection: @Sendable (ServerCall) -> Admission<Void> {
        let admit = admit(.any)
        return { call in
            switch admit(call) {
            case .admitted: .admitted(())
            case .refused(let status): .refused(status)
            case .pending(let find): .pending { () async throws(RPCStatus) in _ = try await find() }
            }
        }
    }
}

extension Writer {
    /// All that clients may call, behind `gate`.
    package func services(_ gate: Gate) -> [RPCService] {
        [ipamService(gate), poolsService(gate), nodesService(gate), Maintenance(self).service(gate)]
    }
}

extension IPAMError {
    /// A caller that is known, and has none of the roles that the call wants.
    fileprivate static func roleMissing(_ caller: Caller, wants roles: Roles) -> IPAMError {
        let has = caller.roles.isEmpty ? "no role" : "only the role \(caller.roles.names)"
        // Of what both may call, most is refused later to an agent that asks for more than its node's.
        let wants = roles == [.agent, .operator] ? "operator, or agent for what a node's agent does" : roles.names
        return IPAMError(
            .permissionDenied, .roleMissing,
            "\(caller.name) has \(has) here, and this call wants \(wants): an entry in the server's policy (--policy) gives it",
            metadata: ["caller": caller.name, "roles": caller.roles.names, "wanted": roles.names])
    }
}

extension Roles {
    fileprivate var names: String {
        [(Roles.agent, "agent"), (.operator, "operator"), (.reader, "reader")]
            .filter { contains($0.0) }.map(\.1).joined(separator: " or ")
    }
}
