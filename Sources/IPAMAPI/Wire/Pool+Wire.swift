import Addresses
import CMessages
package import IPAMModel
package import RPC

extension Pool {
    /// Of a request. Throws INVALID_ARGUMENT naming the field below `path`.
    package init(_ message: UnsafeMutablePointer<Wire.Pool>?, _ path: String = "pool") throws(IPAMError) {
        guard let message = unsafe message?.pointee else { throw Rules.invalid(path, "is needed") }
        try unsafe self.init(reading: message, path)
        try Rules.check(self, path)
    }

    /// By its syntax alone.
    fileprivate init(reading message: Wire.Pool, _ path: String) throws(IPAMError) {
        self.init(
            name: unsafe string(message.name),
            prefixes: try unsafe messages(message.n_prefixes, message.prefixes) { item, index throws(IPAMError) in
                try unsafe PoolPrefix(item, "\(path).prefixes[\(index)]")
            },
            namespaces: unsafe strings(message.n_namespaces, message.namespaces),
            routes: try unsafe messages(message.n_routes, message.routes) { item, index throws(IPAMError) in
                try unsafe Route(item, "\(path).routes[\(index)]")
            },
            isDefault: unsafe message.is_default != 0,
            reuseDelay: try unsafe Delay.read(message.reuse_delay, "\(path).reuse_delay") ?? Pool.defaultReuseDelay,
            namespaceQuota: unsafe message.namespace_quota,
            historyRetention: try unsafe Delay.read(message.history_retention, "\(path).history_retention")
                ?? Pool.defaultHistoryRetention,
            revision: unsafe message.revision)
        if let dns = unsafe message.dns { self.dns = try unsafe DNS(dns.pointee, "\(path).dns") }
    }
}

extension PoolPrefix {
    init(_ message: Wire.Prefix, _ path: String) throws(IPAMError) {
        let gateway = unsafe string(message.gateway)
        self.init(
            prefix: try unsafe Rules.prefix(string(message.prefix), "\(path).prefix"),
            gateway: gateway.isEmpty ? nil : try Rules.anyAddress(gateway, "\(path).gateway"),
            usesEdgeAddresses: unsafe message.use_edge_addresses != 0)
        for (index, text) in unsafe strings(message.n_excluded, message.excluded).enumerated() {
            excluded.append(try Rules.range(text, "\(path).excluded[\(index)]"))
        }
    }

    func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.Prefix> {
        let message = unsafe arena.make(Wire.Prefix.self)
        unsafe message.pointee.prefix = arena.string(prefix.description)
        if let gateway { unsafe message.pointee.gateway = arena.string(gateway) }
        unsafe (message.pointee.n_excluded, message.pointee.excluded) = strings(excluded.map(\.description), arena)
        unsafe message.pointee.use_edge_addresses = usesEdgeAddresses ? 1 : 0
        return unsafe message
    }
}

extension Delay {
    /// Nil when absent. What 64 bits of nanoseconds cannot hold, or is less than nothing, is INVALID_ARGUMENT.
    static func read(
        _ message: UnsafeMutablePointer<Wire.Duration>?, _ path: @autoclosure Rules.Path
    ) throws(IPAMError) -> Delay? {
        guard let message = unsafe message?.pointee else { return nil }
        guard unsafe (0...9_200_000_000).contains(message.seconds), unsafe (0..<1_000_000_000).contains(message.nanos)
        else { throw Rules.noDuration(path()) }
        return unsafe Delay(nanoseconds: message.seconds * 1_000_000_000 + Int64(message.nanos))
    }

    var seconds: Int64 { nanoseconds / 1_000_000_000 }

    func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.Duration> {
        let message = unsafe arena.make(Wire.Duration.self)
        unsafe message.pointee.seconds = seconds
        unsafe message.pointee.nanos = Int32(nanoseconds % 1_000_000_000)
        return unsafe message
    }
}

extension DescribedPool {
    package func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.Pool> {
        let message = unsafe arena.make(Wire.Pool.self)
        unsafe message.pointee.name = arena.string(pool.name)
        unsafe message.pointee.n_prefixes = pool.prefixes.count
        unsafe message.pointee.prefixes = arena.array(pool.prefixes.count) { unsafe pool.prefixes[$0].wire(in: arena) }
        unsafe (message.pointee.n_namespaces, message.pointee.namespaces) = strings(pool.namespaces, arena)
        unsafe message.pointee.n_routes = pool.routes.count
        unsafe message.pointee.routes = arena.array(pool.routes.count) { unsafe pool.routes[$0].wire(in: arena) }
        if let dns = pool.dns { unsafe message.pointee.dns = dns.wire(in: arena) }
        unsafe message.pointee.is_default = pool.isDefault ? 1 : 0
        unsafe message.pointee.reuse_delay = pool.reuseDelay.wire(in: arena)
        unsafe message.pointee.namespace_quota = pool.namespaceQuota
        unsafe message.pointee.history_retention = pool.historyRetention.wire(in: arena)
        unsafe message.pointee.revision = pool.revision
        unsafe message.pointee.n_usage = usage.count
        unsafe message.pointee.usage = arena.array(usage.count) { unsafe usage[$0].wire(in: arena) }
        return unsafe message
    }

    /// As a server sent it.
    package init(_ message: Wire.Pool) throws(IPAMError) {
        self.init(
            pool: try unsafe Pool(reading: message, "pool"),
            usage: try unsafe messages(message.n_usage, message.usage) { item, index throws(IPAMError) in
                try unsafe PrefixUsage(item, "usage[\(index)]")
            })
    }
}

extension PrefixUsage {
    func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.PrefixUsage> {
        let message = unsafe arena.make(Wire.PrefixUsage.self)
        unsafe message.pointee.prefix = arena.string(prefix.description)
        unsafe message.pointee.total = total
        unsafe message.pointee.bound = bound
        unsafe message.pointee.reserved = reserved
        unsafe message.pointee.quarantined = quarantined
        unsafe message.pointee.free = free
        return unsafe message
    }

    init(_ message: Wire.PrefixUsage, _ path: String) throws(IPAMError) {
        self.init(
            prefix: try unsafe Rules.prefix(string(message.prefix), "\(path).prefix"),
            total: unsafe message.total, bound: unsafe message.bound, reserved: unsafe message.reserved,
            quarantined: unsafe message.quarantined, free: unsafe message.free)
    }
}

/// The `name` field of GetPool and DeletePool.
package func poolName(_ field: UnsafeMutablePointer<CChar>?) throws(IPAMError) -> String {
    try unsafe Rules.poolName(string(field), "name")
}

/// The `namespace` field of UpdatePool; nil where an operator asks.
package func describingNamespace(_ field: UnsafeMutablePointer<CChar>?) throws(IPAMError) -> String? {
    let text = unsafe string(field)
    return text.isEmpty ? nil : try Rules.namespace(text, "namespace")
}
