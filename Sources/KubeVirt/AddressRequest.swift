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

    /// Empty values ask for nothing.
    package init(annotations: [String: String]) throws(AnnotationError) {
        if let text = annotations[Self.addressAnnotation], !text.isEmpty {
            for part in text.split(separator: ",", omittingEmptySubsequences: false) {
                guard let address = IPAddress(Self.trimmed(part)) else {
                    throw AnnotationError(Self.addressAnnotation, text, "one IPv4 or IPv6 address, or one of each")
                }
                guard !addresses.contains(where: { $0.family == address.family }) else {
                    throw AnnotationError(Self.addressAnnotation, text, "at most one address of each family")
                }
                addresses.append(address)
            }
        }
        if let text = annotations[Self.macAnnotation], !text.isEmpty {
            guard let mac = MACAddress(text), !mac.isMulticast, !mac.isZero else {
                throw AnnotationError(Self.macAnnotation, text, "a unicast MAC like 02:00:0a:10:00:0f")
            }
            self.mac = mac
        }
        if let text = annotations[Self.poolAnnotation], !text.isEmpty { pool = text }
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
