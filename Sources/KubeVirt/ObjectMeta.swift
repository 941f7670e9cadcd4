import FoundationEssentials
package import IPAMModel

/// An object's metadata, as far as it is used.
package struct ObjectMeta: Hashable, Sendable {
    package var namespace: String
    package var name: String
    package var uid: String
    package var labels: [String: String]
    package var annotations: [String: String]
    package var owners: [OwnerReference]
    package var createdAt: Timestamp?

    package init(
        namespace: String, name: String, uid: String, labels: [String: String] = [:],
        annotations: [String: String] = [:], owners: [OwnerReference] = [], createdAt: Timestamp? = nil
    ) {
        self.namespace = namespace
        self.name = name
        self.uid = uid
        self.labels = labels
        self.annotations = annotations
        self.owners = owners
        self.createdAt = createdAt
    }

    /// The managing controller, of which there is one at most.
    package var controller: OwnerReference? { owners.first { $0.controller == true } }
}

package struct OwnerReference: Hashable, Sendable, Decodable {
    package var apiVersion: String
    package var kind: String
    package var name: String
    package var uid: String
    package var controller: Bool?

    package init(apiVersion: String, kind: String, name: String, uid: String, controller: Bool? = true) {
        self.apiVersion = apiVersion
        self.kind = kind
        self.name = name
        self.uid = uid
        self.controller = controller
    }

    /// Whether it names an object of `kind` in KubeVirt's group, in any of its versions.
    package func isKubeVirt(_ kind: String) -> Bool { self.kind == kind && apiVersion.hasPrefix("kubevirt.io/") }
}

extension ObjectMeta: Decodable {
    private enum CodingKeys: String, CodingKey {
        case namespace, name, uid, labels, annotations, ownerReferences, creationTimestamp
    }

    /// Annotations that hold kilobytes each and say nothing about addresses.
    private static let unused = [
        "kubectl.kubernetes.io/last-applied-configuration", "k8s.v1.cni.cncf.io/networks-status",
    ]

    /// Without a namespace it is `default`'s, as kubectl takes it.
    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        namespace = try values.decodeIfPresent(String.self, forKey: .namespace) ?? "default"
        name = try values.decode(String.self, forKey: .name)
        uid = try values.decode(String.self, forKey: .uid)
        labels = try values.decodeIfPresent([String: String].self, forKey: .labels) ?? [:]
        annotations = try values.decodeIfPresent([String: String].self, forKey: .annotations) ?? [:]
        for name in Self.unused { annotations[name] = nil }
        owners = try values.decodeIfPresent([OwnerReference].self, forKey: .ownerReferences) ?? []
        createdAt = try values.decodeIfPresent(String.self, forKey: .creationTimestamp).flatMap(
            Timestamp.init(rfc3339:))
    }
}

extension Timestamp {
    /// Nil where `text` is no RFC 3339 time.
    init?(rfc3339 text: String) {
        guard let date = try? Date(text, strategy: .iso8601) else { return nil }
        self.init(seconds: Int64(date.timeIntervalSince1970))
    }
}
