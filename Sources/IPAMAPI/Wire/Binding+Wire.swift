import Addresses
import CMessages
package import IPAMModel
package import RPC

extension Assignment {
    func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.Assignment> {
        let message = unsafe arena.make(Wire.Assignment.self)
        unsafe message.pointee.address = arena.string(address)
        unsafe message.pointee.prefix_length = UInt32(prefixLength)
        if let gateway { unsafe message.pointee.gateway = arena.string(gateway) }
        return unsafe message
    }

    init(_ message: Wire.Assignment, _ path: String) throws(IPAMError) {
        let gateway = unsafe string(message.gateway)
        self.init(
            address: try unsafe Rules.anyAddress(string(message.address), "\(path).address"),
            prefixLength: unsafe Int(message.prefix_length),
            gateway: gateway.isEmpty ? nil : try Rules.anyAddress(gateway, "\(path).gateway"))
    }
}

extension Route {
    func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.Route> {
        let message = unsafe arena.make(Wire.Route.self)
        unsafe message.pointee.destination = arena.string(destination.description)
        if let gateway { unsafe message.pointee.gateway = arena.string(gateway) }
        return unsafe message
    }

    init(_ message: Wire.Route, _ path: String) throws(IPAMError) {
        let gateway = unsafe string(message.gateway)
        self.init(
            destination: try unsafe Rules.prefix(string(message.destination), "\(path).destination"),
            gateway: gateway.isEmpty ? nil : try Rules.anyAddress(gateway, "\(path).gateway"))
    }
}

extension DNS {
    func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.DNS> {
        let message = unsafe arena.make(Wire.DNS.self)
        unsafe (message.pointee.n_nameservers, message.pointee.nameservers) = strings(
            nameservers.map(\.description), arena)
        unsafe message.pointee.domain = arena.string(domain)
        unsafe (message.pointee.n_search, message.pointee.search) = strings(search, arena)
        unsafe (message.pointee.n_options, message.pointee.options) = strings(options, arena)
        return unsafe message
    }

    init(_ message: Wire.DNS, _ path: String) throws(IPAMError) {
        unsafe self.init(
            domain: string(message.domain), search: strings(message.n_search, message.search),
            options: strings(message.n_options, message.options))
        for (index, text) in unsafe strings(message.n_nameservers, message.nameservers).enumerated() {
            nameservers.append(try Rules.anyAddress(text, "\(path).nameservers[\(index)]"))
        }
    }
}

extension MessageArena {
    func string(_ address: IPAddress) -> UnsafeMutablePointer<CChar> {
        unsafe string(atMost: IPAddress.mostText) { address.write(to: &$0) }
    }

    func string(_ mac: MACAddress) -> UnsafeMutablePointer<CChar> {
        unsafe string(atMost: MACAddress.textLength) { mac.write(to: &$0) }
    }
}

/// A repeated string field's count and elements, for writing.
func strings(
    _ texts: [String], _ arena: borrowing MessageArena
) -> (Int, UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) {
    guard !texts.isEmpty else { return (0, nil) }
    return unsafe (texts.count, arena.array(texts.count) { unsafe arena.string(texts[$0]) })
}

/// A repeated string field's elements.
func strings(_ count: Int, _ field: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> [String] {
    guard let field = unsafe field else { return [] }
    return (0..<count).map { unsafe string(field[$0]) }
}

/// A repeated message field's elements, each with its index for the path of an error.
func messages<Message, Value>(
    _ count: Int, _ field: UnsafeMutablePointer<UnsafeMutablePointer<Message>?>?,
    _ value: (Message, Int) throws(IPAMError) -> Value
) throws(IPAMError) -> [Value] {
    var values: [Value] = []
    guard let field = unsafe field else { return values }
    values.reserveCapacity(count)
    for index in 0..<count {
        if let message = unsafe field[index]?.pointee { values.append(try value(message, index)) }
    }
    return values
}

extension DescribedBinding {
    package func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.Binding> {
        let message = unsafe arena.make(Wire.Binding.self)
        unsafe message.pointee.owner = binding.owner.wire(in: arena)
        unsafe message.pointee.pool = arena.string(binding.pool)
        unsafe message.pointee.n_assignments = binding.assignments.count
        unsafe message.pointee.assignments = arena.array(binding.assignments.count) {
            unsafe binding.assignments[$0].wire(in: arena)
        }
        unsafe message.pointee.mac = arena.string(binding.mac)
        unsafe message.pointee.state = Holdfast__Ipam__V1__BindingState(rawValue: UInt32(binding.state.rawValue))
        if let active = binding.active { unsafe message.pointee.active = active.wire(in: arena) }
        if let target = binding.target { unsafe message.pointee.target = target.wire(in: arena) }
        unsafe message.pointee.migration_uid = arena.string(binding.migrationUID)
        unsafe message.pointee.revision = binding.revision
        unsafe message.pointee.created_at = binding.createdAt.wire(in: arena)
        unsafe message.pointee.updated_at = binding.updatedAt.wire(in: arena)
        if !routes.isEmpty {
            unsafe message.pointee.n_routes = routes.count
            unsafe message.pointee.routes = arena.array(routes.count) { unsafe routes[$0].wire(in: arena) }
        }
        if let dns { unsafe message.pointee.dns = dns.wire(in: arena) }
        if let copyValidFor { unsafe message.pointee.copy_valid_for = copyValidFor.wire(in: arena) }
        return unsafe message
    }

    /// As a server sent it. What is not on the wire (ended migration, superseded attachments) stays empty.
    package init(_ message: Wire.Binding, _ path: String = "binding") throws(IPAMError) {
        let epoch = Timestamp(nanoseconds: 0)
        self.init(
            binding: Binding(
                owner: try unsafe Owner(reading: message.owner, "binding.owner"),
                pool: unsafe string(message.pool),
                assignments: try unsafe messages(message.n_assignments, message.assignments) {
                    item, index throws(IPAMError) in
                    try unsafe Assignment(item, "\(path).assignments[\(index)]")
                },
                mac: try unsafe Rules.anyMAC(string(message.mac), "\(path).mac"),
                active: try unsafe Attachment.readAny(message.active, "binding.active"),
                target: try unsafe Attachment.readAny(message.target, "binding.target"),
                migrationUID: unsafe string(message.migration_uid),
                revision: unsafe message.revision,
                createdAt: try unsafe Timestamp.read(message.created_at, "\(path).created_at") ?? epoch,
                updatedAt: try unsafe Timestamp.read(message.updated_at, "\(path).updated_at") ?? epoch),
            routes: try unsafe messages(message.n_routes, message.routes) { item, index throws(IPAMError) in
                try unsafe Route(item, "\(path).routes[\(index)]")
            })
        if let dns = unsafe message.dns { self.dns = try unsafe DNS(dns.pointee, "\(path).dns") }
        copyValidFor = try unsafe Delay.read(message.copy_valid_for, "\(path).copy_valid_for")
    }
}

extension BindingEvent {
    package func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.BindingEvent> {
        let message = unsafe arena.make(Wire.BindingEvent.self)
        unsafe message.pointee.type = Holdfast__Ipam__V1__BindingEvent__Type(rawValue: UInt32(kind.rawValue))
        if let binding { unsafe message.pointee.binding = binding.wire(in: arena) }
        unsafe message.pointee.revision = revision
        return unsafe message
    }

    package init(_ message: Wire.BindingEvent) throws(IPAMError) {
        guard let kind = unsafe UInt8(exactly: message.type.rawValue).flatMap(Kind.init(rawValue:)) else {
            throw unsafe Rules.invalid("type", "\(message.type.rawValue) is unknown to this version of holdfast")
        }
        var binding: DescribedBinding?
        if let item = unsafe message.binding { binding = try unsafe DescribedBinding(item.pointee) }
        self.init(kind: kind, binding: binding, revision: unsafe message.revision)
    }
}
