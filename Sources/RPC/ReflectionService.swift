import CMessages

/// grpc.reflection.v1, and the same under its older name v1alpha: what lets grpcurl and others call a service that they
/// have no .proto of. Serves the embedded descriptor set.
struct ReflectionService: Sendable {
    private typealias Request = Grpc__Reflection__V1__ServerReflectionRequest
    private typealias Response = Grpc__Reflection__V1__ServerReflectionResponse

    private let descriptors = DescriptorSet.embedded
    private let names: [String]

    /// Of both versions together: a conversation lasts as long as its client likes, and says nothing while that does not.
    private static let mostOpenCalls = 64

    /// Both versions. Their messages are the same on the wire, so both are read as v1's.
    static func services(
        besides names: [String], admit: @escaping @Sendable (ServerCall) -> Admission<Void>
    ) -> [RPCService] {
        var services = unsafe [
            RPCService(cmessages_grpc_reflection_v1_server_reflection()),
            RPCService(cmessages_grpc_reflection_v1alpha_server_reflection()),
        ]
        let reflection = ReflectionService(names: names + services.map(\.name))
        let openCalls = OpenCalls(most: mostOpenCalls)
        for index in services.indices {
            services[index].openCalls = openCalls
            unsafe services[index].conversation(admit: admit) { (request: UnsafePointer<Request>, arena) in
                unsafe reflection.answer(request, arena)
            }
        }
        return services
    }

    private func answer(
        _ request: UnsafePointer<Request>, _ arena: borrowing MessageArena
    ) -> UnsafeMutablePointer<Response> {
        let response = unsafe arena.make(Response.self)
        unsafe response.pointee.valid_host = unsafe request.pointee.host
        unsafe response.pointee.original_request = unsafe UnsafeMutablePointer(mutating: request)
        switch unsafe request.pointee.message_request_case {
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
            unsafe listServices(response, arena)
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
            let name = unsafe String(cString: request.pointee.file_by_filename)
            unsafe sendFile(name, asked: "file \(name)", unsafe response, arena)
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
            let symbol = unsafe String(cString: request.pointee.file_containing_symbol)
            unsafe sendFile(descriptors.fileOfSymbol[symbol], asked: "symbol \(symbol)", unsafe response, arena)
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE:
            let type = unsafe String(cString: request.pointee.all_extension_numbers_of_type)
            unsafe sendExtensionNumbers(of: type, response, arena)
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION:
            unsafe sendError(.notFound, "no extension: proto3 has none", response, arena)
        default:
            unsafe sendError(.invalidArgument, "the request asks for nothing that is known here", response, arena)
        }
        return unsafe response
    }

    private func listServices(_ response: UnsafeMutablePointer<Response>, _ arena: borrowing MessageArena) {
        let list = unsafe arena.make(Grpc__Reflection__V1__ListServiceResponse.self)
        unsafe list.pointee.n_service = names.count
        unsafe list.pointee.service = unsafe arena.array(names.count) { index in
            let service = unsafe arena.make(Grpc__Reflection__V1__ServiceResponse.self)
            unsafe service.pointee.name = unsafe arena.string(names[index])
            return unsafe service
        }
        unsafe response.pointee.list_services_response = unsafe list
        unsafe response.pointee.message_response_case =
            GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE
    }

    private func sendFile(
        _ name: String?, asked: String, _ response: UnsafeMutablePointer<Response>, _ arena: borrowing MessageArena
    ) {
        guard let name, descriptors.files[name] != nil else {
            return unsafe sendError(.notFound, "no \(asked)", unsafe response, arena)
        }
        let files = descriptors.closure(of: name)
        let answer = unsafe arena.make(Grpc__Reflection__V1__FileDescriptorResponse.self)
        unsafe answer.pointee.n_file_descriptor_proto = files.count
        unsafe answer.pointee.file_descriptor_proto = unsafe arena.values(files.map { unsafe arena.bytes($0.bytes) })
        unsafe response.pointee.file_descriptor_response = unsafe answer
        unsafe response.pointee.message_response_case =
            GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE
    }

    private func sendExtensionNumbers(
        of type: String, _ response: UnsafeMutablePointer<Response>, _ arena: borrowing MessageArena
    ) {
        guard descriptors.fileOfSymbol[type] != nil else {
            return unsafe sendError(.notFound, "no type \(type)", unsafe response, arena)
        }
        let answer = unsafe arena.make(Grpc__Reflection__V1__ExtensionNumberResponse.self)
        unsafe answer.pointee.base_type_name = unsafe arena.string(type)
        unsafe response.pointee.all_extension_numbers_response = unsafe answer
        unsafe response.pointee.message_response_case =
            GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ALL_EXTENSION_NUMBERS_RESPONSE
    }

    private func sendError(
        _ code: RPCStatus.Code, _ message: String, _ response: UnsafeMutablePointer<Response>,
        _ arena: borrowing MessageArena
    ) {
        let error = unsafe arena.make(Grpc__Reflection__V1__ErrorResponse.self)
        unsafe error.pointee.error_code = code.rawValue
        unsafe error.pointee.error_message = unsafe arena.string(message)
        unsafe response.pointee.error_response = unsafe error
        unsafe response.pointee.message_response_case =
            GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE
    }
}
