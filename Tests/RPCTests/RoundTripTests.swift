import CMessages
import RPC
import Testing

@Suite struct RoundTripTests {
    @Test func `a health check is answered over TCP`() async throws {
        let server = try RPCServer(
            configuration: .init(listeners: [.init("127.0.0.1:0")]), services: [])
        let address = try server.start()[0]
        let channel = try RPCChannel(target: address)
        let status = try await channel.check("")
        #expect(status == 1)
        await #expect(throws: RPCStatus(.notFound, "no service nothing")) { try await channel.check("nothing") }
        await channel.close()
        await server.shutdown(grace: .seconds(5))
    }
}

extension RPCChannel {
    func check(_ service: String) async throws(RPCStatus) -> UInt32 {
        try await unary(
            cmessages_grpc_health_v1_health(), service,
            encode: { (service, arena) -> UnsafeMutablePointer<Grpc__Health__V1__HealthCheckRequest> in
                let request = arena.make(Grpc__Health__V1__HealthCheckRequest.self)
                request.pointee.service = arena.string(service)
                return request
            },
            decode: { (response: UnsafePointer<Grpc__Health__V1__HealthCheckResponse>) throws(RPCStatus) in
                UInt32(response.pointee.status.rawValue)
            }, timeout: .seconds(10))
    }
}
