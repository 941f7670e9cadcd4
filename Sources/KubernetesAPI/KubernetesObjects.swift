/// An object's place and version, by which copies are kept.
package struct ObjectReference: Hashable, Sendable, CustomStringConvertible {
    /// Empty for what has no namespace.
    package var namespace: String
    package var name: String
    package var uid: String
    package var resourceVersion: String

    package init(namespace: String, name: String, uid: String, resourceVersion: String) {
        self.namespace = namespace
        self.name = name
        self.uid = uid
        self.resourceVersion = resourceVersion
    }

    package var description: String { namespace.isEmpty ? name : "\(namespace)/\(name)" }
}

/// One object of an answer, with as much decoded as `Object` uses.
package struct Listed<Object: Decodable & Sendable>: Sendable {
    package var reference: ObjectReference
    /// Nil where it cannot be decoded as an `Object`.
    package var object: Object?
    /// Why not.
    package var problem: String?
}

/// All objects of a selection at one moment.
package struct ObjectList<Object: Decodable & Sendable>: Sendable {
    package var items: [Listed<Object>]
    /// The moment: where a watch goes on.
    package var resourceVersion: String

    /// Those that could be decoded.
    package var objects: [Object] { items.compactMap(\.object) }
}

/// What a watch tells.
package enum WatchEvent<Object: Decodable & Sendable>: Sendable {
    case added(Listed<Object>)
    case modified(Listed<Object>)
    /// With the object's last state.
    case deleted(Listed<Object>)
    /// All changes up to this resourceVersion have been told.
    case bookmark(String)
}

extension Listed: Decodable {
    package init(from decoder: any Decoder) throws {
        reference = try ItemMeta(from: decoder).reference
        do {
            object = try Object(from: decoder)
        } catch {
            problem = "\(error)"
        }
    }
}

private struct ItemMeta: Decodable {
    struct Metadata: Decodable {
        var namespace: String?
        var name: String?
        var uid: String?
        var resourceVersion: String?
    }
    var metadata: Metadata?

    var reference: ObjectReference {
        ObjectReference(
            namespace: metadata?.namespace ?? "", name: metadata?.name ?? "", uid: metadata?.uid ?? "",
            resourceVersion: metadata?.resourceVersion ?? "")
    }
}

/// A page of a list.
struct ListPage<Object: Decodable & Sendable>: Decodable {
    struct Metadata: Decodable {
        var resourceVersion: String?
        var `continue`: String?
    }
    var metadata: Metadata
    var items: [Listed<Object>]?
}

/// One line of a watch.
struct WatchLine<Object: Decodable & Sendable>: Decodable {
    enum Content {
        case event(WatchEvent<Object>)
        case failure(StatusObject)
        /// Of a type that this client does not know.
        case other
    }
    var content: Content

    private enum CodingKeys: String, CodingKey { case type, object }

    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        func listed() throws -> Listed<Object> { try values.decode(Listed<Object>.self, forKey: .object) }
        content =
            switch try values.decode(String.self, forKey: .type) {
            case "ADDED": .event(.added(try listed()))
            case "MODIFIED": .event(.modified(try listed()))
            case "DELETED": .event(.deleted(try listed()))
            case "BOOKMARK":
                .event(.bookmark(try values.decode(ItemMeta.self, forKey: .object).reference.resourceVersion))
            case "ERROR": .failure(try values.decode(StatusObject.self, forKey: .object))
            default: .other
            }
    }
}

/// `meta/v1 Status`: how the API server says that something went wrong.
struct StatusObject: Decodable {
    struct Details: Decodable {
        struct Cause: Decodable { var reason: String? }
        var retryAfterSeconds: Int?
        var causes: [Cause]?
    }
    var message: String?
    var reason: String?
    var code: Int?
    var details: Details?
}
