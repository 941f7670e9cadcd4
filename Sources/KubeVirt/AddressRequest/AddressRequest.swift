package import Addresses

/// What is asked for one NIC of a pod: all wishes for it together.
package struct AddressRequest: Hashable, Sendable {
    /// The addresses that would do, best first: each has at most one of each family, IPv4 first. Empty: any.
    package var choices: [[IPAddress]] = []
    package var mac: MACAddress?
    package var pool: String?

    /// Throws where two wishes contradict each other: the first two that do, in the order of `wishes`.
    package init(_ wishes: [Wish]) throws(WishError) {
        mac = try Self.agreed(wishes, on: \.mac)
        try setPool(wishes)
        try setChoices(wishes)
    }

    /// The one value that all wishes have which have any.
    private static func agreed<Value: Equatable>(
        _ wishes: [Wish], on value: (Wish.Content) -> Value?
    ) throws(WishError) -> Value? {
        var first: (value: Value, wish: Wish)?
        for wish in wishes {
            guard let value = value(wish.content) else { continue }
            guard let known = first else {
                first = (value, wish)
                continue
            }
            guard known.value == value else { throw .contradiction(known.wish, wish) }
        }
        return first?.value
    }

    private mutating func setPool(_ wishes: [Wish]) throws(WishError) {
        let subnet = try Self.agreed(wishes, on: \.subnet)
        // Kube-OVN's IPPool is a part of a subnet: to name both is no contradiction, and the part is meant.
        let namesPart = wishes.contains { $0.content.part != nil }
        pool = try Self.agreed(wishes) { $0.pool ?? $0.part ?? (namesPart ? nil : $0.subnet) } ?? subnet
    }

    private mutating func setChoices(_ wishes: [Wish]) throws(WishError) {
        var fixed: [IPAddress] = []
        for family in AddressFamily.allCases {
            let address = try Self.agreed(wishes) { content in
                content.addresses?.first { $0.family == family }
            }
            if let address { fixed.append(address) }
        }
        guard let listed = try Self.agreed(wishes, on: \.choices) else {
            choices = fixed.isEmpty ? [] : [fixed]
            return
        }
        for choice in listed where choice.agrees(with: fixed) {
            let whole = Set(choice + fixed).sorted()
            if !choices.contains(whole) { choices.append(whole) }
        }
        guard choices.isEmpty, let list = wishes.first(where: { $0.content.choices != nil }) else { return }
        let others = wishes.filter { $0.content.addresses != nil }
        let stranger = others.first { wish in !listed.contains { $0.agrees(with: wish.content.addresses ?? []) } }
        // Each may be in the list, but never two of different families in one element.
        if let other = stranger ?? others.first { throw .contradiction(other, list) }
    }
}

extension [IPAddress] {
    /// Whether no address is another than one of the same family in `other`.
    fileprivate func agrees(with other: [IPAddress]) -> Bool {
        allSatisfy { own in other.allSatisfy { $0.family != own.family || $0 == own } }
    }
}
