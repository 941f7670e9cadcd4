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

    /// Reads an object; what it lacks of uid and creation time is made up.
    package init(_ json: Data, resourceVersion: Int) throws {
        guard var object = try JSONSerialization.jsonObject(with: json) as? [String: Any],
            var metadata = object["metadata"] as? [String: Any], let kind = object["kind"] as? String,
            let apiVersion = object["apiVersion"] as? String, let name = metadata["name"] as? String
        else { throw ClusterError.noObject(String(decoding: json, as: UTF8.self)) }
        let parts = apiVersion.split(separator: "/").map(String.init)
        resource = KubernetesResource(
            group: parts.count == 2 ? parts[0] : "", version: parts.last ?? "", plural: kind.lowercased() + "s")
        var isAsGiven = true
        func given(_ field: String, _ otherwise: String) -> String {
            if let value = metadata[field] as? String { return value }
            metadata[field] = otherwise
            isAsGiven = false
            return otherwise
        }
        namespace = given("namespace", "default")
        self.name = name
        uid = given("uid", UUID().uuidString.lowercased())
        _ = given("creationTimestamp", "2026-11-24T04:40:00Z")
        if metadata["resourceVersion"] as? String != "\(resourceVersion)" {
            metadata["resourceVersion"] = "\(resourceVersion)"
            isAsGiven = false
        }
        self.resourceVersion = resourceVersion
        labels = metadata["labels"] as? [String: String] ?? [:]
        fields = ["metadata.name": name, "metadata.namespace": namespace]
        if resource.group.isEmpty {
            let spec = object["spec"] as? [String: Any]
            let status = object["status"] as? [String: Any]
            fields["spec.nodeName"] = spec?["nodeName"] as? String ?? ""
            fields["status.phase"] = status?["phase"] as? String ?? ""
            for (field, value) in object["involvedObject"] as? [String: Any] ?? [:] {
                fields["involvedObject.\(field)"] = value as? String
            }
        }
        object["metadata"] = metadata
        self.json = isAsGiven ? json : try Self.encode(object)
    }

    /// As lists show it: a built-in resource's items do not say what they are.
    var item: Data {
        guard resource.group.isEmpty,
            var object = try? JSONSerialization.jsonObject(with: json) as? [String: Any]
        else { return json }
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
