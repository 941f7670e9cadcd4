package import Foundation
package import KubernetesAPI

/// An object as the cluster keeps it.
package struct StoredObject: Sendable {
    package var resource: KubernetesResource
    package var namespace: String
    package var name: String
    package var uid: String
    package var resourceVersion: Int
    package var labels: [String: String]
    /// What field selectors can ask for.
    package var fields: [String: String]
    /// As watches and GETs show it.
    package var json: Data

    var key: Key { Key(resource: resource, namespace: namespace, name: name) }

    struct Key: Hashable, Comparable {
        var resource: KubernetesResource
        var namespace: String
        var name: String

        static func < (one: Key, other: Key) -> Bool {
            (one.namespace, one.name) < (other.namespace, other.name)
        }
    }

    /// What is looked at of an object.
    private struct Header: Decodable {
        struct Metadata: Decodable {
            var name: String
            var namespace: String?
            var uid: String?
            var resourceVersion: String?
            var creationTimestamp: String?
            var labels: Labels?
        }
        /// Whatever they are: a test may write nonsense.
        struct Labels: Decodable {
            var values: [String: String]

            init(from decoder: any Decoder) { values = (try? [String: String](from: decoder)) ?? [:] }
        }
        struct Spec: Decodable { var nodeName: String? }
        struct Status: Decodable { var phase: String? }
        var apiVersion: String
        var kind: String
        var metadata: Metadata
        var spec: Spec?
        var status: Status?
        var involvedObject: [String: String]?
    }

    /// Reads an object; what it lacks of namespace, uid and creation time is made up.
    package init(_ json: Data, resourceVersion: Int) throws {
        guard let header = try? JSONDecoder().decode(Header.self, from: json) else {
            throw ClusterError.noObject(String(decoding: json, as: UTF8.self))
        }
        let parts = header.apiVersion.split(separator: "/").map(String.init)
        resource = KubernetesResource(
            group: parts.count == 2 ? parts[0] : "", version: parts.last ?? "", plural: header.kind.lowercased() + "s")
        let metadata = header.metadata
        name = metadata.name
        namespace = metadata.namespace ?? "default"
        uid = metadata.uid ?? UUID().uuidString.lowercased()
        self.resourceVersion = resourceVersion
        labels = metadata.labels?.values ?? [:]
        fields = ["metadata.name": name, "metadata.namespace": namespace]
        if resource.group.isEmpty {
            fields["spec.nodeName"] = header.spec?.nodeName ?? ""
            fields["status.phase"] = header.status?.phase ?? ""
            for (field, value) in header.involvedObject ?? [:] { fields["involvedObject.\(field)"] = value }
        }
        var members = ["resourceVersion": "\(resourceVersion)"]
        if metadata.namespace == nil { members["namespace"] = namespace }
        if metadata.uid == nil { members["uid"] = uid }
        if metadata.creationTimestamp == nil { members["creationTimestamp"] = "2026-11-24T04:40:00Z" }
        self.json =
            metadata.resourceVersion == members["resourceVersion"] && members.count == 1
            ? json : try Self.setting(members, isNew: metadata.resourceVersion == nil, in: json)
    }

    /// The object with these members in its metadata.
    private static func setting(_ members: [String: String], isNew: Bool, in json: Data) throws -> Data {
        let start = Data(#""metadata":{"#.utf8)
        // Without parsing, where there is one place only that can be meant: thousands are put.
        if isNew, let range = json.firstRange(of: start), json[..<range.lowerBound].count < 128 {
            let text = members.sorted { $0.key < $1.key }.map { #""\#($0)":"\#($1)","# }.joined()
            return json[..<range.upperBound] + Data(text.utf8) + json[range.upperBound...]
        }
        var object = try JSONSerialization.jsonObject(with: json) as? [String: Any] ?? [:]
        let known = object["metadata"] as? [String: Any] ?? [:]
        object["metadata"] = known.merging(members) { $1 }
        return try encode(object)
    }

    /// As lists show it: a built-in resource's items do not say what they are.
    var item: Data {
        guard resource.group.isEmpty else { return json }
        let start = Data(#"{"apiVersion":"v1","kind":"Pod","#.utf8)
        if json.starts(with: start) { return Data("{".utf8) + json.dropFirst(start.count) }
        guard var object = try? JSONSerialization.jsonObject(with: json) as? [String: Any] else { return json }
        object["kind"] = nil
        object["apiVersion"] = nil
        return (try? Self.encode(object)) ?? json
    }

    static func encode(_ object: Any) throws -> Data {
        try JSONSerialization.data(withJSONObject: object, options: [.sortedKeys, .withoutEscapingSlashes])
    }

    /// The same object at another moment.
    func at(_ resourceVersion: Int) -> StoredObject {
        (try? StoredObject(json, resourceVersion: resourceVersion)) ?? self
    }
}

package enum ClusterError: Error {
    case noObject(String)
    case notFound(String)
}
