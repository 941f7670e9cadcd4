package import Addresses

/// What one source asks for a NIC.
package struct Wish: Hashable, Sendable {
    package enum Source: Hashable, Sendable {
        /// An annotation of the pod, by its whole name.
        case annotation(String)
        /// The runtime's call: a path in the network configuration, or a key in CNI_ARGS.
        case runtime(String)
    }

    package enum Content: Hashable, Sendable {
        /// At most one of each family, IPv4 first; at least one.
        case addresses([IPAddress])
        /// The first of these that is free; each as `addresses`, no two the same.
        case choices([[IPAddress]])
        case mac(MACAddress)
        case pool(String)
        /// Kube-OVN's IPPool: a part of a subnet.
        case part(String)
        /// Kube-OVN's subnet.
        case subnet(String)
    }

    package var source: Source
    /// The value as it was written.
    package var text: String
    package var content: Content

    package init(source: Source, text: String, content: Content) {
        self.source = source
        self.text = text
        self.content = content
    }
}

extension Wish.Content {
    var addresses: [IPAddress]? { if case .addresses(let value) = self { value } else { nil } }
    var choices: [[IPAddress]]? { if case .choices(let value) = self { value } else { nil } }
    var mac: MACAddress? { if case .mac(let value) = self { value } else { nil } }
    var pool: String? { if case .pool(let value) = self { value } else { nil } }
    var part: String? { if case .part(let value) = self { value } else { nil } }
    var subnet: String? { if case .subnet(let value) = self { value } else { nil } }
}

extension Wish.Source: CustomStringConvertible {
    package var description: String {
        switch self {
        case .annotation(let name): "annotation \(name)"
        case .runtime(let name): name
        }
    }
}

/// A wish that cannot be honoured: nothing is asked of the service then.
package enum WishError: Error, Hashable, Sendable {
    case unreadable(Wish.Source, value: String, expected: String)
    /// Both speak for the same NIC.
    case contradiction(Wish, Wish)

    /// What is to be corrected, in reading order.
    package var sources: [Wish.Source] {
        switch self {
        case .unreadable(let source, _, _): [source]
        case .contradiction(let first, let second): [first.source, second.source]
        }
    }
}
