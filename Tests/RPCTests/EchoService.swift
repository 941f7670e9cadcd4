import CMessages
import RPC

/// The methods of the product's own service, put to the tests' use.
///
/// - Allocate (completion form) does what `pool` says with `owner.name`.
/// - Release (async) does what `owner.name` says.
/// - WatchBindings (streaming) sends as many events as `name` says, as `pool` says.
enum EchoService {
    static var descriptor: UnsafePointer<ProtobufCServiceDescriptor> { unsafe cmessages_holdfast_ipam_v1_ipam() }

    static func make(_ probe: Probe) -> RPCService {
        var service = unsafe RPCService(cmessages_holdfast_ipam_v1_ipam())
        unsafe service.unary(decode: Self.decodeAllocate, encode: Self.encodeAllocate) { request, call, reply in
            allocate(request, call, reply, probe)
        }
        unsafe service.unary(decode: Self.decodeRelease, encode: Self.encodeRelease) {
            (mode, call) async throws(RPCStatus) in
            probe.add("started")
            defer { probe.add("ended") }
            return try await release(mode, call, probe)
        }
        unsafe service.serverStreaming(decode: Self.decodeWatch, encode: Self.encodeEvent) {
            (request, call, writer) async throws(RPCStatus) in
            probe.add("started")
            defer { probe.add("ended") }
            try await watch(request, writer, probe)
        }
        unsafe service.unary(
            decode: { (_: UnsafePointer<Holdfast__Ipam__V1__TransferRequest>) throws(RPCStatus) in },
            encode: { (_, arena) in unsafe arena.make(Holdfast__Ipam__V1__TransferResponse.self) },
            complete: { (_, _, reply) in reply.succeed(()) })
        unsafe service.unary(
            decode: { (_: UnsafePointer<Holdfast__Ipam__V1__GetBindingRequest>) throws(RPCStatus) in },
            encode: { (_, arena) in unsafe arena.make(Holdfast__Ipam__V1__Binding.self) },
            complete: { (_, _, reply) in reply.succeed(()) })
        unsafe service.unary(
            decode: { (_: UnsafePointer<Holdfast__Ipam__V1__ListBindingsRequest>) throws(RPCStatus) in },
            encode: { (_, arena) in unsafe arena.make(Holdfast__Ipam__V1__ListBindingsResponse.self) },
            complete: { (_, _, reply) in reply.succeed(()) })
        unsafe service.unary(
            decode: { (_: UnsafePointer<Holdfast__Ipam__V1__ListHistoryRequest>) throws(RPCStatus) in },
            encode: { (_, arena) in unsafe arena.make(Holdfast__Ipam__V1__ListHistoryResponse.self) },
            complete: { (_, _, reply) in reply.succeed(()) })
        return service
    }

    struct Allocate: Sendable { var mode, name: String }

    private static func allocate(
        _ request: Allocate, _ call: ServerCall, _ reply: Reply<String>, _ probe: Probe
    ) {
        switch request.mode {
        case "fail":
            reply.fail(
                RPCStatus(
                    .alreadyExists, "taken: ✓",
                    errorInfo: .init(
                        reason: "ADDRESS_TAKEN", domain: "holdfast", metadata: ["holder": "vm-1", "a": "ü"])))
        case "long":
            reply.fail(
                RPCStatus(
                    .internalError, String(repeating: "ü", count: 100_000),
                    errorInfo: .init(
                        reason: "LONG", domain: "holdfast", metadata: ["key": String(repeating: "x", count: 100_000)])))
        case "drop": break
        case "keep":
            probe.keep { reply.succeed(request.name) }
            probe.add("kept")
        case "gather":
            probe.gather { reply.succeed(request.name) }
            probe.add("gathered")
        case "hold":
            // As no handler should.
            probe.add("held")
            probe.block(until: "let go")
            reply.succeed(request.name)
        case "block":
            PollingThread.blocking {
                probe.add("blocked")
                probe.block(until: "unblocked")
            }
            if !PollingThread.takesCalls { probe.add("turn lost") }
            PollingThread.afterCalls { reply.succeed(request.name) }
        case "later":
            probe.add("taken")
            PollingThread.afterCalls {
                probe.add("taken before", count: probe.count("taken before") == 0 ? probe.count("taken") : 0)
                reply.succeed(request.name)
            }
        case "commit":
            PollingThread.afterCalls {
                PollingThread.blocking { probe.block(until: "committed") }
                reply.succeed(request.name)
            }
        case "read": PollingThread.blocking { reply.succeed(request.name) }
        case "twice":
            reply.succeed(request.name)
            reply.succeed("again")
            reply.fail(RPCStatus(.internalError, "and again"))
        case "here": reply.succeed(request.name)
        default: Task { reply.succeed(request.name) }
        }
    }

    private static func release(_ mode: String, _ call: ServerCall, _ probe: Probe) async throws(RPCStatus) -> String {
        switch mode {
        case "wait":
            do {
                try await Task.sleep(for: .seconds(60))
            } catch {
                probe.add(call.isCancelled ? "cancelled" : "task cancelled only")
            }
            throw RPCStatus(.cancelled, "cancelled")
        case "gate":
            _ = await probe.wait(for: "gate")
            return "through the gate"
        case "metadata":
            return (call.metadata.text("x-text") ?? "-") + " "
                + (call.metadata.binary("x-bytes-bin").map { "\($0)" } ?? "-")
        case "peer":
            let identity = call.identity
            return "\(identity.isAuthenticated) \(identity.alternativeNames) \(identity.commonName ?? "-")"
        case "deadline": return call.remaining.map { $0 > .seconds(5) ? "far" : "near" } ?? "none"
        case "method": return call.method
        default: return mode
        }
    }

    private static func watch(
        _ request: Allocate, _ writer: ResponseWriter<UInt64>, _ probe: Probe
    ) async throws(RPCStatus) {
        let count = UInt64(request.name) ?? 0
        do throws(RPCStatus) {
            for revision in 0..<count {
                try await writer.send(revision)
                probe.add("sent")
            }
        } catch {
            probe.add("cancelled")
            throw error
        }
        switch request.mode {
        case "fail":
            throw RPCStatus(.aborted, "enough", errorInfo: .init(reason: "ENOUGH", domain: "holdfast"))
        case "wait":
            do { try await Task.sleep(for: .seconds(60)) } catch { probe.add("cancelled") }
        case "flood":
            probe.keep { writer.abort(RPCStatus(.resourceExhausted, "you do not read")) }
            do throws(RPCStatus) {
                while true {
                    try await writer.send(.max)
                    probe.add("sent")
                }
            } catch {
                probe.add("flood ended")
                throw error
            }
        default: break
        }
    }

    // MARK: Messages

    /// Makes the messages of a flood large, so that they fill what is between the two sides soon.
    private static let ballast = String(repeating: "x", count: 50_000)

    static let decodeAllocate:
        @Sendable (UnsafePointer<Holdfast__Ipam__V1__AllocateRequest>) throws(RPCStatus) -> Allocate = {
            (request) throws(RPCStatus) in
            unsafe Allocate(
                mode: try text(request.pointee.pool, "pool"),
                name: try text(request.pointee.owner?.pointee.name, "owner.name"))
        }
    static let encodeAllocate:
        @Sendable (String, borrowing MessageArena) -> UnsafeMutablePointer<Holdfast__Ipam__V1__AllocateResponse> = {
            (name, arena) in
            let response = unsafe arena.make(Holdfast__Ipam__V1__AllocateResponse.self)
            unsafe response.pointee.binding = unsafe arena.make(Holdfast__Ipam__V1__Binding.self)
            unsafe response.pointee.binding.pointee.mac = unsafe arena.string(name)
            return unsafe response
        }
    static let decodeRelease:
        @Sendable (UnsafePointer<Holdfast__Ipam__V1__ReleaseRequest>) throws(RPCStatus) -> String = {
            (request) throws(RPCStatus) in unsafe try text(request.pointee.owner?.pointee.name, "owner.name")
        }
    static let encodeRelease:
        @Sendable (String, borrowing MessageArena) -> UnsafeMutablePointer<Holdfast__Ipam__V1__ReleaseResponse> = {
            (name, arena) in
            let response = unsafe arena.make(Holdfast__Ipam__V1__ReleaseResponse.self)
            unsafe response.pointee.binding = unsafe arena.make(Holdfast__Ipam__V1__Binding.self)
            unsafe response.pointee.binding.pointee.mac = unsafe arena.string(name)
            return unsafe response
        }
    static let decodeWatch:
        @Sendable (UnsafePointer<Holdfast__Ipam__V1__WatchBindingsRequest>) throws(RPCStatus) -> Allocate = {
            (request) throws(RPCStatus) in
            unsafe Allocate(mode: try text(request.pointee.pool, "pool"), name: try text(request.pointee.name, "name"))
        }
    static let encodeEvent:
        @Sendable (UInt64, borrowing MessageArena) -> UnsafeMutablePointer<Holdfast__Ipam__V1__BindingEvent> = {
            (revision, arena) in
            let event = unsafe arena.make(Holdfast__Ipam__V1__BindingEvent.self)
            unsafe event.pointee.revision = revision
            if revision == .max {
                unsafe event.pointee.binding = unsafe arena.make(Holdfast__Ipam__V1__Binding.self)
                unsafe event.pointee.binding.pointee.mac = unsafe arena.string(ballast)
            }
            return unsafe event
        }
}
