import CMessages

/// A method of a service, found by its messages, so that nobody writes its name by hand.
struct RPCMethod: Sendable, Hashable {
    /// `holdfast.ipam.v1.IPAM`
    var service: String
    /// `Allocate`
    var name: String
    var kind: DescriptorSet.Kind

    /// What HTTP/2 asks for.
    var path: String { "/\(service)/\(name)" }

    static func all(of descriptor: UnsafePointer<ProtobufCServiceDescriptor>) -> [RPCMethod] {
        unsafe (0..<Int(descriptor.pointee.n_methods)).map { unsafe method(descriptor, $0) }
    }

    /// Nil unless exactly one method has this kind and these messages.
    static func find(
        _ descriptor: UnsafePointer<ProtobufCServiceDescriptor>, _ kind: DescriptorSet.Kind,
        _ input: UnsafePointer<ProtobufCMessageDescriptor>, _ output: UnsafePointer<ProtobufCMessageDescriptor>
    ) -> RPCMethod? {
        var found: RPCMethod?
        for index in unsafe 0..<Int(descriptor.pointee.n_methods)
        where unsafe descriptor.pointee.methods[index].input == input
            && descriptor.pointee.methods[index].output == output
        {
            let method = unsafe method(descriptor, index)
            guard method.kind == kind else { continue }
            if found != nil { return nil }
            found = method
        }
        return found
    }

    private static func method(_ descriptor: UnsafePointer<ProtobufCServiceDescriptor>, _ index: Int) -> RPCMethod {
        let service = unsafe String(cString: descriptor.pointee.name)
        let name = unsafe String(cString: descriptor.pointee.methods[index].name)
        return RPCMethod(
            service: service, name: name, kind: DescriptorSet.embedded.kinds[service + "/" + name] ?? .unary)
    }
}
