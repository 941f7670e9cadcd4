import Addresses
import IPAMModel
import Program
import Yams

/// whereabouts' objects (pkg/api/whereabouts.cni.cncf.io/v1alpha1).
enum Whereabouts {
    struct Pool {
        struct Allocation {
            var address: IPAddress
            var pod: ForeignObjects.Name?
            /// As it is written.
            var podRef: String
            /// Empty where an older whereabouts wrote it.
            var interface: String
        }

        var name: String
        var prefix: IPPrefix
        var allocations: [Allocation] = []

        /// Its keys are offsets from the range's address. Throws `Failure`.
        init(_ node: Node) throws {
            name = node.name.name
            let range = node["spec"]?["range"]?.text ?? ""
            guard let (first, length) = IPPrefix.split(range), let prefix = IPPrefix(containing: first, length: length)
            else { throw Failure("whereabouts' IPPool \(name): \"\(range)\" is no range") }
            self.prefix = prefix
            for (key, value) in node["spec"]?["allocations"]?.mapping ?? [:] {
                guard let offset = UInt64(key.text), let address = first.advanced(by: UInt128(offset)) else {
                    throw Failure("whereabouts' IPPool \(name): \"\(key.text)\" is no offset of an address in \(range)")
                }
                let reference = value["podref"]?.text ?? ""
                allocations.append(
                    Allocation(
                        address: address, pod: ForeignObjects.Name(reference), podRef: reference,
                        interface: value["ifname"]?.text ?? ""))
            }
            allocations.sort { $0.address < $1.address }
        }
    }

    /// An address in all ranges: its name, with ":" as "-" and after the network's name where there is one
    /// (pkg/storage/kubernetes/ipam.go, NormalizeIP).
    struct Reservation {
        var name: String
        var podRef: String

        init(_ node: Node) { (name, podRef) = (node.name.name, node["spec"]?["podref"]?.text ?? "") }

        func names(_ address: IPAddress) -> Bool {
            let text = "\(address)".replacing(":", with: "-")
            return name == text || name.hasSuffix("-" + text) || name == text + "0"
        }
    }
}
