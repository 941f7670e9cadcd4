import Addresses
package import Foundation
package import IPAMModel
import Yams

/// Pools as people write them: YAML or JSON in the API's field names, one pool, a list of pools, or a list below `pools:`.
/// What `holdfast pool show -o yaml` prints is read too: lowerCamelCase names, and output fields, which are left out, but for
/// the revision where it is asked for.
package enum PoolManifest {
    /// `source` names the text in errors. Throws INVALID_ARGUMENT naming the field.
    package static func parse(
        _ content: Data, source: String, keepsRevision: Bool = false
    ) throws(IPAMError) -> [Pool] {
        func invalid(_ why: String) -> IPAMError {
            IPAMError(.invalidArgument, .invalidField, "\(source): \(why)", metadata: ["field": "pools"])
        }
        let document: Document
        do {
            guard let text = String(bytes: content, encoding: .utf8) else { throw invalid("is not UTF-8 text") }
            guard let root = try compose(yaml: text) else { throw invalid("is empty: \(DecodingError.wantedAtRoot)") }
            document = try YAMLDecoder().decode(Document.self, from: root.withProtoNames)
        } catch let error as IPAMError {
            throw error
        } catch let error as DecodingError {
            throw invalid(error.placeAndReason)
        } catch {
            throw invalid("\(error)")
        }
        do throws(IPAMError) {
            var pools: [Pool] = []
            for (index, entry) in document.pools.enumerated() {
                var pool = try entry.pool("pools[\(index)]")
                if !keepsRevision { pool.revision = 0 }
                pools.append(pool)
            }
            return pools
        } catch {
            throw invalid(error.message)
        }
    }
}

// MARK: - The file's form

extension Node {
    /// The names of ipam.proto for their JSON forms ("is_default" for "isDefault"), without what only the server says.
    fileprivate var withProtoNames: Node {
        switch self {
        case .scalar, .alias: return self
        case .sequence(var items):
            for index in items.indices { items[index] = items[index].withProtoNames }
            return .sequence(items)
        case .mapping(let fields):
            let kept = fields.filter { name, _ in name.string != "usage" }
            return Node(
                kept.map { name, value in (name.withProtoName, value.withProtoNames) }, fields.tag, fields.style)
        }
    }

    private var withProtoName: Node {
        guard case .scalar(var name) = self else { return self }
        name.string = name.string.reduce(into: "") { $0 += $1.isUppercase ? "_\($1.lowercased())" : "\($1)" }
        return .scalar(name)
    }
}

/// A mapping whose keys are all known: a misspelt key is an error, not a setting that silently does nothing.
private struct StrictKeys: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }
    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
}

extension Decoder {
    fileprivate func strictContainer<Key: CodingKey & CaseIterable>(
        keyedBy type: Key.Type
    ) throws -> KeyedDecodingContainer<Key> {
        let known = Key.allCases.map(\.stringValue)
        if let stranger = try container(keyedBy: StrictKeys.self).allKeys.first(where: {
            !known.contains($0.stringValue)
        }) {
            throw DecodingError.dataCorrupted(
                .init(
                    codingPath: codingPath,
                    debugDescription:
                        "'\(stranger.stringValue)' is unknown here; known are \(known.joined(separator: ", "))"))
        }
        return try container(keyedBy: type)
    }
}

extension DecodingError {
    fileprivate static let wantedAtRoot = "a list of pools is wanted, or one pool"

    fileprivate var placeAndReason: String {
        let (path, reason): ([any CodingKey], String)
        switch self {
        case .keyNotFound(let key, let context): (path, reason) = (context.codingPath + [key], "is missing")
        case .typeMismatch(let type, let context), .valueNotFound(let type, let context):
            (path, reason) = (context.codingPath, context.codingPath.isEmpty ? Self.wantedAtRoot : Self.wanted(type))
        case .dataCorrupted(let context):
            (path, reason) = (context.codingPath, context.underlyingError.map { "\($0)" } ?? context.debugDescription)
        @unknown default: return "\(self)"
        }
        let place = path.map { $0.intValue.map { "[\($0)]" } ?? ".\($0.stringValue)" }.joined(separator: "")
            .drop { $0 == "." }
        return place.isEmpty ? reason : "\(place): \(reason)"
    }

    /// Of the types that a manifest is made of, and the YAML decoder's.
    private static func wanted(_ type: any Any.Type) -> String {
        switch type {
        case is Bool.Type: "true or false is wanted"
        case is String.Type, is Node.Scalar.Type: "a text is wanted"
        case is UInt32.Type: "a whole number is wanted"
        case is Node.Mapping.Type: "fields and their values are wanted"
        default: "a list is wanted"
        }
    }
}

private struct Document: Decodable {
    var pools: [Entry]

    enum CodingKeys: String, CodingKey, CaseIterable { case pools }

    init(from decoder: any Decoder) throws {
        if var list = try? decoder.unkeyedContainer() {
            pools = []
            while !list.isAtEnd { pools.append(try list.decode(Entry.self)) }
        } else if try decoder.container(keyedBy: CodingKeys.self).contains(.pools) {
            pools = try decoder.strictContainer(keyedBy: CodingKeys.self).decode([Entry].self, forKey: .pools)
        } else {
            pools = [try Entry(from: decoder)]
        }
    }
}

private struct Entry: Decodable {
    var name: String
    var prefixes: [PrefixEntry]
    var namespaces: [String]
    var routes: [RouteEntry]
    var dns: DNSEntry?
    var isDefault: Bool
    var reuseDelay: String?
    var namespaceQuota: UInt32
    var historyRetention: String?
    var revision: String?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case name, prefixes, namespaces, routes, dns, revision
        case isDefault = "is_default"
        case reuseDelay = "reuse_delay"
        case namespaceQuota = "namespace_quota"
        case historyRetention = "history_retention"
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.strictContainer(keyedBy: CodingKeys.self)
        name = try container.decode(String.self, forKey: .name)
        prefixes = try container.decode([PrefixEntry].self, forKey: .prefixes)
        namespaces = try container.decodeIfPresent([String].self, forKey: .namespaces) ?? []
        routes = try container.decodeIfPresent([RouteEntry].self, forKey: .routes) ?? []
        dns = try container.decodeIfPresent(DNSEntry.self, forKey: .dns)
        isDefault = try container.decodeIfPresent(Bool.self, forKey: .isDefault) ?? false
        reuseDelay = try container.decodeIfPresent(String.self, forKey: .reuseDelay)
        namespaceQuota = try container.decodeIfPresent(UInt32.self, forKey: .namespaceQuota) ?? 0
        historyRetention = try container.decodeIfPresent(String.self, forKey: .historyRetention)
        revision = try container.decodeIfPresent(String.self, forKey: .revision)
    }

    func pool(_ path: String) throws(IPAMError) -> Pool {
        var pool = Pool(
            name: try Rules.poolName(name, "\(path).name"), prefixes: [], isDefault: isDefault,
            namespaceQuota: namespaceQuota)
        for (index, entry) in prefixes.enumerated() {
            pool.prefixes.append(try entry.prefix("\(path).prefixes[\(index)]"))
        }
        for (index, text) in namespaces.enumerated() {
            pool.namespaces.append(try Rules.namespace(text, "\(path).namespaces[\(index)]"))
        }
        for (index, entry) in routes.enumerated() {
            let path = "\(path).routes[\(index)]"
            pool.routes.append(
                Route(
                    destination: try Rules.prefix(entry.destination, "\(path).destination"),
                    gateway: try entry.gateway.map { text throws(IPAMError) in
                        try Rules.address(text, "\(path).gateway")
                    }))
        }
        pool.dns = try dns.map { entry throws(IPAMError) in try entry.dns("\(path).dns") }
        if let reuseDelay { pool.reuseDelay = try Rules.delay(reuseDelay, "\(path).reuse_delay") }
        if let historyRetention {
            pool.historyRetention = try Rules.delay(historyRetention, "\(path).history_retention")
        }
        if let revision {
            guard let number = UInt64(revision) else {
                throw Rules.invalid("\(path).revision", "'\(revision)' is no number")
            }
            pool.revision = number
        }
        try Rules.check(pool, path)
        return pool
    }
}

private struct PrefixEntry: Decodable {
    var prefix: String
    var gateway: String?
    var excluded: [String]
    var useEdgeAddresses: Bool

    enum CodingKeys: String, CodingKey, CaseIterable {
        case prefix, gateway, excluded
        case useEdgeAddresses = "use_edge_addresses"
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.strictContainer(keyedBy: CodingKeys.self)
        prefix = try container.decode(String.self, forKey: .prefix)
        gateway = try container.decodeIfPresent(String.self, forKey: .gateway)
        excluded = try container.decodeIfPresent([String].self, forKey: .excluded) ?? []
        useEdgeAddresses = try container.decodeIfPresent(Bool.self, forKey: .useEdgeAddresses) ?? false
    }

    func prefix(_ path: String) throws(IPAMError) -> PoolPrefix {
        var result = PoolPrefix(
            prefix: try Rules.prefix(prefix, "\(path).prefix"),
            gateway: try gateway.map { text throws(IPAMError) in try Rules.address(text, "\(path).gateway") },
            usesEdgeAddresses: useEdgeAddresses)
        for (index, text) in excluded.enumerated() {
            result.excluded.append(try Rules.range(text, "\(path).excluded[\(index)]"))
        }
        return result
    }
}

private struct RouteEntry: Decodable {
    var destination: String
    var gateway: String?

    enum CodingKeys: String, CodingKey, CaseIterable { case destination, gateway }

    init(from decoder: any Decoder) throws {
        let container = try decoder.strictContainer(keyedBy: CodingKeys.self)
        destination = try container.decode(String.self, forKey: .destination)
        gateway = try container.decodeIfPresent(String.self, forKey: .gateway)
    }
}

private struct DNSEntry: Decodable {
    var nameservers: [String]
    var domain: String
    var search: [String]
    var options: [String]

    enum CodingKeys: String, CodingKey, CaseIterable { case nameservers, domain, search, options }

    init(from decoder: any Decoder) throws {
        let container = try decoder.strictContainer(keyedBy: CodingKeys.self)
        nameservers = try container.decodeIfPresent([String].self, forKey: .nameservers) ?? []
        domain = try container.decodeIfPresent(String.self, forKey: .domain) ?? ""
        search = try container.decodeIfPresent([String].self, forKey: .search) ?? []
        options = try container.decodeIfPresent([String].self, forKey: .options) ?? []
    }

    func dns(_ path: String) throws(IPAMError) -> DNS {
        var result = DNS(domain: try Rules.identifier(domain, "\(path).domain"))
        for (index, text) in nameservers.enumerated() {
            result.nameservers.append(try Rules.address(text, "\(path).nameservers[\(index)]"))
        }
        for (index, text) in search.enumerated() {
            result.search.append(try Rules.identifier(text, "\(path).search[\(index)]"))
        }
        for (index, text) in options.enumerated() {
            result.options.append(try Rules.identifier(text, "\(path).options[\(index)]"))
        }
        return result
    }
}
