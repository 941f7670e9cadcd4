import CMessages
import RPC

extension RPCChannel {
    func check(_ service: String) async throws -> UInt32 {
        unsafe try await unary(
            cmessages_grpc_health_v1_health(), service, encode: encodeHealth,
            decode: { (response: UnsafePointer<Grpc__Health__V1__HealthCheckResponse>) throws(RPCStatus) in
                unsafe UInt32(response.pointee.status.rawValue)
            }, timeout: .seconds(30))
    }

    func watchHealth(_ service: String) -> RPCResponses<UInt32> {
        unsafe serverStreaming(
            cmessages_grpc_health_v1_health(), service, encode: encodeHealth,
            decode: { (response: UnsafePointer<Grpc__Health__V1__HealthCheckResponse>) throws(RPCStatus) in
                unsafe UInt32(response.pointee.status.rawValue)
            })
    }

    func allocate(_ mode: String, _ name: String) async throws -> String {
        unsafe try await unary(
            cmessages_holdfast_ipam_v1_ipam(), (mode, name),
            encode: { (input, arena) in
                let request = unsafe arena.make(Holdfast__Ipam__V1__AllocateRequest.self)
                unsafe request.pointee.pool = unsafe arena.string(input.0)
                unsafe request.pointee.owner = unsafe arena.make(Holdfast__Ipam__V1__Owner.self)
                unsafe request.pointee.owner.pointee.name = unsafe arena.string(input.1)
                return unsafe request
            },
            decode: { (response: UnsafePointer<Holdfast__Ipam__V1__AllocateResponse>) throws(RPCStatus) in
                unsafe try text(response.pointee.binding?.pointee.mac, "binding.mac")
            }, timeout: .seconds(30))
    }

    func release(
        _ mode: String, metadata: RPCMetadata = RPCMetadata(), timeout: Duration = .seconds(30)
    ) async throws -> String {
        unsafe try await unary(
            cmessages_holdfast_ipam_v1_ipam(), mode,
            encode: { (mode, arena) in
                let request = unsafe arena.make(Holdfast__Ipam__V1__ReleaseRequest.self)
                unsafe request.pointee.owner = unsafe arena.make(Holdfast__Ipam__V1__Owner.self)
                unsafe request.pointee.owner.pointee.name = unsafe arena.string(mode)
                return unsafe request
            },
            decode: { (response: UnsafePointer<Holdfast__Ipam__V1__ReleaseResponse>) throws(RPCStatus) in
                unsafe try text(response.pointee.binding?.pointee.mac, "binding.mac")
            }, metadata: metadata, timeout: timeout)
    }

    func watch(_ mode: String, _ count: Int, timeout: Duration? = nil) -> RPCResponses<UInt64> {
        unsafe serverStreaming(
            cmessages_holdfast_ipam_v1_ipam(), (mode, count),
            encode: { (input, arena) in
                let request = unsafe arena.make(Holdfast__Ipam__V1__WatchBindingsRequest.self)
                unsafe request.pointee.pool = unsafe arena.string(input.0)
                unsafe request.pointee.name = unsafe arena.string("\(input.1)")
                return unsafe request
            },
            decode: { (event: UnsafePointer<Holdfast__Ipam__V1__BindingEvent>) throws(RPCStatus) in
                unsafe event.pointee.revision
            }, timeout: timeout)
    }
}

private func encodeHealth(
    _ service: String, _ arena: borrowing MessageArena
) -> UnsafeMutablePointer<Grpc__Health__V1__HealthCheckRequest> {
    let request = unsafe arena.make(Grpc__Health__V1__HealthCheckRequest.self)
    unsafe request.pointee.service = unsafe arena.string(service)
    return unsafe request
}

/// An echo server on a free port and a channel to it, both gone afterwards.
func withEcho(
    maxMessageBytes: Int = 1 << 20, maxOpenCalls: Int = 4096,
    _ body: (RPCServer, RPCChannel, Probe) async throws -> Void
) async throws {
    let probe = Probe()
    // What is kept holds its call, whose handler holds the probe.
    defer { probe.keep(nil) }
    let server = try RPCServer(
        configuration: .init(
            listeners: [.init("127.0.0.1:0")], maxMessageBytes: maxMessageBytes, maxOpenCalls: maxOpenCalls),
        services: [EchoService.make(probe)])
    let address = try server.start()[0]
    let channel = try RPCChannel(target: address)
    let result: Result<Void, any Error>
    do { result = .success(try await body(server, channel, probe)) } catch { result = .failure(error) }
    await channel.close()
    await server.shutdown(grace: .seconds(5))
    try result.get()
}
