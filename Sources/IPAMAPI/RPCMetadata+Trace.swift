package import RPC
package import Telemetry

extension RPCMetadata {
    /// The trace of the request that the current task works for, if there is one.
    package static var ofTrace: RPCMetadata {
        var metadata = RPCMetadata()
        if let trace = TraceContext.current { metadata.append(TraceContext.key, trace.traceparent) }
        return metadata
    }

    /// The trace that a caller has sent along.
    package var trace: TraceContext? { text(TraceContext.key).flatMap(TraceContext.init(traceparent:)) }
}
