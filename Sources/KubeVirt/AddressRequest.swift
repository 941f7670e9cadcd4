package import Addresses

/// What a pod's annotations ask for, in the names that Kube-OVN's users write already.
package struct AddressRequest: Hashable, Sendable {
    /// At most one of each family.
    package var addresses: [IPAddress] = []
    package var mac: MACAddress?
    package var pool: String?

    package static let addressAnnotation = "ovn.kubernetes.io/ip_address"
    package static let macAnnotation = "ovn.kubernetes.io/mac_address"
    package static let poolAnnotation = "ovn.kubernetes.io/logical_switch"

    /// What the annotations ask for one interface of the pod: the plain names for the primary one, Kube-OVN's names for
    /// a provider, `<nad>.<namespace>.ovn.kubernetes.io/ip_address`, for another one, where the network is named `<nad>`
    /// or `<namespace>/<nad>`. Empty values ask for nothing.
    package init(annotations: [String: String], interface: String, network: String) throws(AnnotationError) {
        guard let provider = interface == "eth0" ? "" : Self.provider(of: network, in: annotations.keys) else { return }
        let (addressAnnotation, macAnnotation) = (provider + Self.addressAnnotation, provider + Self.macAnnotation)
        if let text = annotations[addressAnnotation], !text.isEmpty {
            for part in text.split(separator: ",", omittingEmptySubsequences: false) {
                guard let address = IPAddress(Self.trimmed(part)) else {
                    throw AnnotationError(addressAnnotation, text, "one IPv4 or IPv6 address, or one of each")
                }
                guard !addresses.contains(where: { $0.family == address.family }) else {
                    throw AnnotationError(addressAnnotation, text, "at most one address of each family")
                }
                addresses.append(address)
            }
        }
        if let text = annotations[macAnnotation], !text.isEmpty {
            guard let mac = MACAddress(text), !mac.isMulticast, !mac.isZero else {
                throw AnnotationError(macAnnotation, text, "a unicast MAC like 02:00:0a:10:00:0f")
            }
            self.mac = mac
        }
        if let text = annotations[provider + Self.poolAnnotation], !text.isEmpty { pool = text }
    }

    /// The prefix "<nad>.<namespace>."; where the network's name tells no namespace, the one that the annotations name.
    private static func provider(of network: String, in annotations: some Sequence<String>) -> String? {
        let parts = network.split(separator: "/")
        if parts.count == 2 { return "\(parts[1]).\(parts[0])." }
        let names: [Substring] = [addressAnnotation[...], macAnnotation[...], poolAnnotation[...]]
        for annotation in annotations.sorted() where annotation.hasPrefix(network + ".") {
            let rest = annotation.dropFirst(network.count + 1).split(separator: ".", maxSplits: 1)
            if rest.count == 2, names.contains(rest[1]) { return "\(network).\(rest[0])." }
        }
        return nil
    }

    private static func trimmed(_ text: Substring) -> String {
        var text = text.drop { $0 == " " }
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}

/// An annotation whose value cannot be honoured.
package struct AnnotationError: Error, Hashable, Sendable {
    package var annotation: String
    package var value: String
    package var expected: String

    init(_ annotation: String, _ value: String, _ expected: String) {
        self.annotation = annotation
        self.value = value
        self.expected = expected
    }
}
