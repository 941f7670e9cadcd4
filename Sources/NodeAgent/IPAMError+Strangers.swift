import IPAMModel

extension IPAMError {
    /// As people of `namespace` may read it, who are not to know what others have: without the names of owners in other
    /// namespaces (`holder`, `lastOwner`; of a list all of its).
    func told(to namespace: String) -> IPAMError {
        var told = self
        for key in ["holder", "lastOwner"] {
            let names = (metadata[key] ?? "").split(separator: ", ")
            let strangers = names.filter { !$0.contains(" \(namespace)/") }
            guard !strangers.isEmpty else { continue }
            for stranger in strangers { told.message.hide(stranger) }
            let others = names.filter { !strangers.contains($0) }
            told.metadata[key] = others.isEmpty ? nil : others.joined(separator: ", ")
        }
        return told
    }
}

extension String {
    /// An owner's name with its NIC: "vm default/testvm (vm-net/eth0)".
    fileprivate mutating func hide(_ owner: some StringProtocol) {
        while let name = firstRange(of: "\(owner) ("), let end = self[name.upperBound...].firstIndex(of: ")") {
            replaceSubrange(name.lowerBound...end, with: "an owner in another namespace")
        }
    }
}
