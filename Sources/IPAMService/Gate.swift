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
        { [identify] call in identify(call).traced(by: call.metadata.trace) }
    }
}

extension Admission<Caller> {
    fileprivate func traced(by trace: TraceContext?) -> Self {
        guard let trace else { return self }
        return switch self {
        case .admitted(let caller): .admitted(caller.traced(by: trace))
        case .refused: self
        case .pending(let decision):
            .pending { () async throws(RPCStatus) in try await decision().traced(by: trace) }
        }
    }
}

extension Caller {
    fileprivate func traced(by trace: TraceContext) -> Caller {
        var caller = self
        caller.traceID = trace.traceID
        return caller
    }
}

extension Writer {
    /// All that clients may call, behind `gate`.
    package func services(_ gate: Gate) -> [RPCService] {
        [ipamService(gate), poolsService(gate), nodesService(gate), Maintenance(self).service(gate)]
    }
}
