import CMessages
import Testing

@testable import RPC

@Suite struct ReflectionTests {
    private typealias Request = Grpc__Reflection__V1__ServerReflectionRequest
    private typealias Response = Grpc__Reflection__V1__ServerReflectionResponse

    private enum Answer: Hashable, Sendable {
        case services([String])
        case files([[UInt8]])
        case numbers(String)
        case error(Int32)
        case other
    }

    private func ask(
        _ channel: RPCChannel, _ fill: (UnsafeMutablePointer<Request>, borrowing MessageArena) -> Void
    ) async throws -> [Answer] {
        let responses: RPCResponses<Answer> = unsafe channel.stream(
            cmessages_grpc_reflection_v1_server_reflection(), .bidirectional, (),
            encode: { (_, arena) in
                let request = unsafe arena.make(Request.self)
                unsafe request.pointee.host = unsafe arena.string("here")
                unsafe fill(request, arena)
                return unsafe request
            }, decode: unsafe Self.read, RPCMetadata(), .seconds(30))
        var answers: [Answer] = []
        for try await answer in responses { answers.append(answer) }
        return answers
    }

    private static let read: @Sendable (UnsafePointer<Response>) throws(RPCStatus) -> Answer = {
        (response) throws(RPCStatus) in
        let echoed = unsafe try text(response.pointee.original_request?.pointee.host, "host")
        guard echoed == "here", unsafe try text(response.pointee.valid_host, "valid_host") == "here" else {
            return .other
        }
        switch unsafe response.pointee.message_response_case {
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE:
            guard let list = unsafe response.pointee.list_services_response?.pointee else { return .other }
            var names: [String] = []
            for index in unsafe 0..<list.n_service {
                unsafe names.append(try text(list.service[index]?.pointee.name, "name"))
            }
            return .services(names)
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE:
            guard let list = unsafe response.pointee.file_descriptor_response?.pointee else { return .other }
            return unsafe .files(
                (0..<list.n_file_descriptor_proto).map { index in
                    let bytes = unsafe list.file_descriptor_proto[index]
                    return unsafe Array(UnsafeBufferPointer(start: bytes.data, count: bytes.len))
                })
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ALL_EXTENSION_NUMBERS_RESPONSE:
            return unsafe .numbers(
                try text(response.pointee.all_extension_numbers_response?.pointee.base_type_name, "type"))
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE:
            return unsafe .error(response.pointee.error_response?.pointee.error_code ?? -1)
        default: return .other
        }
    }

    private func asking(symbol: String) -> (UnsafeMutablePointer<Request>, borrowing MessageArena) -> Void {
        { request, arena in
            unsafe request.pointee.message_request_case =
                GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL
            unsafe request.pointee.file_containing_symbol = unsafe arena.string(symbol)
        }
    }

    @Test func `it lists every service that the server has`() async throws {
        try await withEcho { _, channel, _ in
            let answers = unsafe try await ask(channel) { request, arena in
                unsafe request.pointee.message_request_case =
                    GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES
                unsafe request.pointee.list_services = unsafe arena.string("*")
            }
            #expect(
                answers == [
                    .services([
                        "holdfast.ipam.v1.IPAM", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                        "grpc.reflection.v1alpha.ServerReflection",
                    ])
                ])
        }
    }

    @Test(arguments: [
        "holdfast.ipam.v1.IPAM", "holdfast.ipam.v1.IPAM.Allocate", "holdfast.ipam.v1.BindingEvent.Type",
        "holdfast.ipam.v1.BindingEvent.CREATED", "holdfast.ipam.v1.OWNER_KIND_POD", "holdfast.ipam.v1.Owner.name",
        "holdfast.ipam.v1.GetBindingRequest.by",
    ])
    func `a symbol of any kind is found, its file with all that it imports`(_ symbol: String) async throws {
        try await withEcho { _, channel, _ in
            guard case .files(let files) = unsafe try await ask(channel, asking(symbol: symbol)).first else {
                Issue.record("no files")
                return
            }
            let names = files.map { bytes in
                var reader = WireReader(bytes[...])
                return reader.next()?.text
            }
            #expect(names.first == "holdfast/ipam/v1/ipam.proto")
            #expect(Set(names.dropFirst()) == ["google/protobuf/duration.proto", "google/protobuf/timestamp.proto"])
        }
    }

    @Test func `what is not there is NOT_FOUND, and extensions are answered too`() async throws {
        try await withEcho { _, channel, _ in
            let symbol = unsafe try await ask(channel, asking(symbol: "holdfast.ipam.v1.Nothing"))
            #expect(symbol == [.error(5)])
            let file = unsafe try await ask(channel) { request, arena in
                unsafe request.pointee.message_request_case =
                    GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME
                unsafe request.pointee.file_by_filename = unsafe arena.string("google/rpc/error_details.proto")
            }
            guard case .files(let files) = file.first else {
                Issue.record("no file")
                return
            }
            #expect(files.count == 2)
            let extensions = unsafe try await ask(channel) { request, arena in
                unsafe request.pointee.message_request_case =
                    GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE
                unsafe request.pointee.all_extension_numbers_of_type = unsafe arena.string("holdfast.ipam.v1.Owner")
            }
            #expect(extensions == [.numbers("holdfast.ipam.v1.Owner")])
            let nothing = unsafe try await ask(channel) { _, _ in }
            #expect(nothing == [.error(3)])
        }
    }

    @Test func `v1alpha answers on its own path`() async throws {
        let server = try RPCServer(configuration: .init(listeners: [.init("127.0.0.1:0")]), services: [])
        let client = try RawClient(try server.start()[0])
        #expect(
            DescriptorSet.embedded.kinds["grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"]
                == .bidirectional)
        // list_services: ""
        try client.call(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", message: [0x3a, 0])
        let isListed = try client.reads("grpc.reflection.v1alpha.ServerReflection")
        #expect(isListed)
        client.close()
        await server.shutdown(grace: .seconds(5))
    }

    @Test func `the descriptor set knows every method of every service, and which stream`() {
        let kinds = DescriptorSet.embedded.kinds
        #expect(kinds["holdfast.ipam.v1.IPAM/Allocate"] == .unary)
        #expect(kinds["holdfast.ipam.v1.IPAM/WatchBindings"] == .serverStreaming)
        #expect(kinds["grpc.health.v1.Health/Watch"] == .serverStreaming)
        let methods =
            unsafe RPCMethod.all(of: cmessages_holdfast_ipam_v1_ipam())
            + RPCMethod.all(of: cmessages_holdfast_ipam_v1_pools())
        #expect(methods.count == 12)
        for method in methods { #expect(kinds[method.service + "/" + method.name] != nil) }
    }
}
