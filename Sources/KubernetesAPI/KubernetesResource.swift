/// A kind of object as the API server's paths name it.
package struct KubernetesResource: Hashable, Sendable, CustomStringConvertible {
    /// Empty for the core group.
    package var group: String
    package var version: String
    package var plural: String
    /// A part of an object with rights of its own; empty for the object.
    package var subresource: String

    package init(group: String = "", version: String, plural: String, subresource: String = "") {
        self.group = group
        self.version = version
        self.plural = plural
        self.subresource = subresource
    }

    package static let pods = KubernetesResource(version: "v1", plural: "pods")
    /// A pod but for its spec and owners: labels and annotations too (Kubernetes' pkg/registry/core/pod/strategy.go,
    /// `podStatusStrategy`).
    package static let podStatus = KubernetesResource(version: "v1", plural: "pods", subresource: "status")
    /// `core/v1`, which every server has, as kubectl describe reads them.
    package static let events = KubernetesResource(version: "v1", plural: "events")

    /// As RBAC rules and kubectl name it: `pods`, `pods/status`, `virtualmachines.kubevirt.io`.
    package var description: String {
        (group.isEmpty ? plural : "\(plural).\(group)") + (subresource.isEmpty ? "" : "/\(subresource)")
    }

    /// The path of a collection, or of one object in it or its subresource.
    package func path(namespace: String? = nil, name: String? = nil) -> String {
        var path = group.isEmpty ? "/api/\(version)" : "/apis/\(group)/\(version)"
        if let namespace { path += "/namespaces/\(Self.escaped(namespace))" }
        path += "/\(plural)"
        if let name { path += "/\(Self.escaped(name))" }
        if !subresource.isEmpty { path += "/\(subresource)" }
        return path
    }

    /// Percent-encoded but for RFC 3986's unreserved characters.
    static func escaped(_ text: String) -> String {
        var escaped = ""
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                escaped.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let hex = String(byte, radix: 16, uppercase: true)
                escaped += hex.utf8.count == 1 ? "%0\(hex)" : "%\(hex)"
            }
        }
        return escaped
    }
}

/// Which objects of a resource are meant.
package struct Selection: Hashable, Sendable {
    /// Nil for all namespaces.
    package var namespace: String?
    /// As the API takes it: `kubevirt.io/nodeName=node-a`, `a in (b,c)`.
    package var labels: String?
    /// As the API takes it: `spec.nodeName=node-a`, `metadata.name=x`.
    package var fields: String?

    package init(namespace: String? = nil, labels: String? = nil, fields: String? = nil) {
        self.namespace = namespace
        self.labels = labels
        self.fields = fields
    }

    package static let all = Selection()
}
