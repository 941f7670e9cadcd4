package import Addresses
import FoundationEssentials

/// A pod: what the kubelet runs.
package struct Pod: Hashable, Sendable {
    package var metadata: ObjectMeta
    package var nodeName: String?
    package var phase: String?
    /// Those that Multus has made in it, each with its addresses; nil where it says nothing.
    package var interfaces: [String: [IPAddress]]?
    /// By what Multus has made each of them: "namespace/name" of a NetworkAttachmentDefinition, or the default network's name.
    package var definitions: [String: String]

    package init(
        metadata: ObjectMeta, nodeName: String? = nil, phase: String? = nil, interfaces: [String: [IPAddress]]? = nil,
        definitions: [String: String] = [:]
    ) {
        self.metadata = metadata
        self.nodeName = nodeName
        self.phase = phase
        self.interfaces = interfaces
        self.definitions = definitions
    }

    /// All its containers have ended for good.
    package var hasEnded: Bool { phase == "Succeeded" || phase == "Failed" }
}

extension Pod: Decodable {
    private struct Spec: Decodable { var nodeName: String? }
    private struct Status: Decodable { var phase: String? }
    /// An entry of `networkStatus` (Network Custom Resource Definition De-facto Standard, 5).
    private struct NetworkStatus: Decodable {
        var name: String?
        var interface: String?
        var ips: [String]?
    }
    private enum CodingKeys: String, CodingKey { case metadata, spec, status }

    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        metadata = try values.decode(ObjectMeta.self, forKey: .metadata)
        // A static pod is who it is for the kubelet and the runtime; its mirror may be made anew while it runs. No annotation
        // makes a pod another one that the API server knows by its own UID: that has hyphens, and a manifest's hash does not.
        if let uid = metadata.annotations[KubeVirtName.staticPod], uid.count == 32, uid.allSatisfy(\.isHexDigit) {
            metadata.uid = uid
        }
        definitions = [:]
        // Kilobytes, of which names and addresses are all that is used.
        if let text = metadata.annotations.removeValue(forKey: KubeVirtName.networkStatus),
            let entries = try? JSONDecoder().decode([NetworkStatus].self, from: Data(text.utf8))
        {
            interfaces = [:]
            for entry in entries {
                guard let name = entry.interface else { continue }
                interfaces?[name, default: []] += (entry.ips ?? []).compactMap(IPAddress.init)
                definitions[name] = entry.name
            }
        }
        nodeName = try values.decodeIfPresent(Spec.self, forKey: .spec)?.nodeName
        phase = try values.decodeIfPresent(Status.self, forKey: .status)?.phase
    }
}
