enum ReflectionService {
    static func services(besides: [String]) -> [RPCService] { [] }
}
