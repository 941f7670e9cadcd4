import FoundationEssentials

/// One network that a pod asks Multus for (Kubernetes Network Custom Resource Definition De-facto Standard, 4.1; Multus
/// pkg/k8sclient/k8sclient.go, `parsePodNetworkAnnotation`).
struct NetworkSelection: Hashable, Sendable {
    static let networksAnnotation = "k8s.v1.cni.cncf.io/networks"
    static let defaultNetworkAnnotation = "v1.multus-cni.io/default-network"

    var name: String
    /// Nil: the pod's, or for a default network Multus' own.
    var namespace: String?
    /// Nil: net1, net2, … in order.
    var interface: String?
    var ips: [String]
    var mac: String

    /// Reads either form: JSON, or names like "namespace/name@interface" with commas between them. Nil where it is
    /// neither.
    static func list(_ text: String) -> [NetworkSelection]? {
        if text.contains(where: { "[{\"".contains($0) }) {
            let data = Data(text.utf8)
            return (try? JSONDecoder().decode([NetworkSelection].self, from: data))
                ?? (try? JSONDecoder().decode(NetworkSelection.self, from: data)).map { [$0] }
        }
        var selections: [NetworkSelection] = []
        for item in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard let selection = NetworkSelection(short: item) else { return nil }
            selections.append(selection)
        }
        return selections
    }

    private init?(short text: Substring) {
        let text = text.filter { !$0.isWhitespace }
        let sides = text.split(separator: "@", omittingEmptySubsequences: false)
        let names = (sides.first ?? "").split(separator: "/", omittingEmptySubsequences: false)
        guard sides.count <= 2, names.count <= 2, names.allSatisfy({ !$0.isEmpty }), let name = names.last else {
            return nil
        }
        self.name = String(name)
        namespace = names.count == 2 ? String(names[0]) : nil
        interface = sides.count == 2 ? String(sides[1]) : nil
        ips = []
        mac = ""
    }
}

extension NetworkSelection: Decodable {
    private enum CodingKeys: String, CodingKey { case name, namespace, interface, interfaceRequest, ips, mac }

    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        func string(_ key: CodingKeys) throws -> String? {
            try values.decodeIfPresent(String.self, forKey: key).flatMap { $0.isEmpty ? nil : $0 }
        }
        name = try values.decode(String.self, forKey: .name)
        namespace = try string(.namespace)
        // The second name is the older one, which Multus still takes.
        interface = try string(.interface) ?? string(.interfaceRequest)
        ips = try values.decodeIfPresent([String].self, forKey: .ips) ?? []
        mac = try string(.mac) ?? ""
    }
}
