package import RPC
package import Telemetry

extension RPCMetadata {
    /// The trace of the request that the current task works for, if there is one.
    package static var ofTrace: RPCMetadata {
        var metadata = RPCMetadata()
        if let trace = TraceContext.current { metadata.append(TraceContext.key, trace.traceparent) }
        return metadata
    }
}

extension ServerCall {
    /// The trace that the caller has sent along, under `TraceContext.key`.
    package var trace: TraceContext? {
        metadata("traceparent").flatMap { TraceContext(traceparent: String(decoding: $0, as: UTF8.self)) }
    }
}
