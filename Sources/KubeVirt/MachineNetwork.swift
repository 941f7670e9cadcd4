package import Addresses
import Crypto

/// One of a VM's networks (`spec.networks`), as far as it tells the NIC's name in the pod.
package struct MachineNetwork: Hashable, Sendable {
    package static let primaryInterface = "eth0"

    package var name: String
    /// The pod network, or the Multus network that stands in for it (`multus.default`).
    package var isPrimary: Bool
    /// The guest has the NIC's address, and not the pod: the VM's interface of this name (`spec.domain.devices.interfaces`)
    /// has the binding `bridge`, or the plugin `managedtap`.
    package var isBridged: Bool
    /// The guest's, as the VM asks for it or as its domain has it; nil where neither says so.
    package var mac: MACAddress?

    package init(name: String, isPrimary: Bool = false, isBridged: Bool = false, mac: MACAddress? = nil) {
        self.name = name
        self.isPrimary = isPrimary
        self.isBridged = isBridged
        self.mac = mac
    }

    /// The NIC's name in the pod: "pod" and the first 11 hexadecimal digits of the name's SHA-256, but for the primary
    /// one (KubeVirt pkg/network/namescheme/networknamescheme.go).
    package var interface: String {
        if isPrimary { return Self.primaryInterface }
        var digits = ""
        for byte in SHA256.hash(data: Array(name.utf8)).prefix(6) {
            digits += (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
        return "pod" + digits.prefix(11)
    }

    /// Whether an interface has such a name.
    package static func isSecondaryInterface(_ name: String) -> Bool {
        name.utf8.count == 14 && name.hasPrefix("pod") && name.dropFirst(3).allSatisfy(\.isHexDigit)
    }

    /// Of a name like "net1", which Multus gives and KubeVirt gave before 1.0 to all of a VM's networks but the primary one, in
    /// their order: which of them it is, from 1. Nil for another name.
    package static func ordinal(ofInterface name: String) -> Int? {
        guard name.hasPrefix("net"), name.dropFirst(3).allSatisfy({ $0.isASCII && $0.isNumber }) else { return nil }
        return Int(name.dropFirst(3))
    }
}

extension MachineNetwork: Decodable {
    private struct Multus: Decodable { var `default`: Bool? }
    private struct Empty: Decodable {}
    private enum CodingKeys: String, CodingKey { case name, pod, multus }

    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        name = try values.decode(String.self, forKey: .name)
        let isPodNetwork = try values.decodeIfPresent(Empty.self, forKey: .pod) != nil
        let multus = try values.decodeIfPresent(Multus.self, forKey: .multus)
        isPrimary = isPodNetwork || multus?.default == true
        isBridged = false
    }
}
