// The names of annotations that ask for something: docs/annotations.md has the table.
extension Wish {
    /// What a pod's annotations ask for one of its NICs.
    package static func wishes(
        in annotations: [String: String], for nic: PodInterface
    ) throws(WishError) -> [Wish] {
        var wishes: [Wish] = []
        func read(_ name: String, _ reader: (String, Source) throws(WishError) -> Wish?) throws(WishError) {
            guard let text = annotations[name], let wish = try reader(text, .annotation(name)) else { return }
            wishes.append(wish)
        }
        for (prefix, suffix) in nic.ownForms {
            try read("\(prefix)holdfast.dev/addresses\(suffix)", addresses)
            try read("\(prefix)holdfast.dev/mac\(suffix)", mac)
            try read("\(prefix)holdfast.dev/pool\(suffix)", pool)
        }
        for provider in nic.kubeOVNProviders {
            try read("\(provider).kubernetes.io/ip_address", addresses)
            try read("\(provider).kubernetes.io/mac_address", mac)
            try read("\(provider).kubernetes.io/ip_pool", ipPool)
            try read("\(provider).kubernetes.io/logical_switch", subnet)
        }
        // Kube-OVN pkg/controller/pod.go, `perInterfaceIPAnnotationKey`.
        if let definition = nic.definition {
            let domain = "\(definition.name).\(definition.namespace).kubernetes.io"
            try read("\(domain)/ip_address.\(nic.name)", addresses)
            try read("\(domain)/mac_address.\(nic.name)", mac)
        }
        // kubevirt/ipam-extensions pkg/config/types.go.
        try read("network.kubevirt.io/addresses") { (text, source) throws(WishError) in
            try jsonAddresses(of: nic.machineNetwork, text, source)
        }
        if nic.isPrimary {
            // Calico cni-plugin/pkg/k8s/k8s.go, `ipAddrsResult`.
            try read("cni.projectcalico.org/ipAddrs", jsonAddresses)
            wishes += try defaultNetwork(annotations)
        }
        return wishes
    }

    /// Multus' word for the pod's first NIC: one selection element, or the network's name alone.
    private static func defaultNetwork(_ annotations: [String: String]) throws(WishError) -> [Wish] {
        let name = NetworkSelection.defaultNetworkAnnotation
        guard let text = annotations[name], !text.isEmpty else { return [] }
        let source = Source.annotation(name)
        guard let selections = NetworkSelection.list(text), selections.count == 1 else {
            throw .unreadable(
                source, value: text,
                expected: #"a network's name, or JSON like [{"name": "net", "namespace": "default"}] with one element"#)
        }
        return [
            try addresses(selections[0].ips, in: text, source), try mac(selections[0].mac, in: text, source),
        ].compactMap { $0 }
    }

    private static func mac(_ value: String, in text: String, _ source: Source) throws(WishError) -> Wish? {
        do throws(WishError) {
            guard var wish = try mac(value, source) else { return nil }
            wish.text = text
            return wish
        } catch {
            if case .unreadable(_, _, let expected) = error {
                throw .unreadable(source, value: text, expected: "as \"mac\" \(expected)")
            }
            throw error
        }
    }
}
