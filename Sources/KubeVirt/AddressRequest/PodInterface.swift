package import Addresses

/// One NIC of a pod, with every name that an annotation may use for it.
package struct PodInterface: Hashable, Sendable {
    /// A NetworkAttachmentDefinition.
    package struct Definition: Hashable, Sendable, CustomStringConvertible {
        package var namespace: String
        package var name: String

        package var description: String { "\(namespace)/\(name)" }
    }

    /// Its name in the pod: "eth0", "net1", "pod6c270ef2f25".
    package var name: String
    /// The network's name in the CNI configuration.
    package var network: String
    /// The definition that the pod was attached by; nil for the cluster's default network.
    package var definition: Definition?
    /// The name in the VM's `spec.networks`; nil for another pod's NIC.
    package var machineNetwork: String?
    /// The VM's guest has its address, and the pod is to have none.
    package var isBridged: Bool
    /// What the VM says of its guest's MAC there.
    package var guestMAC: MACAddress?

    /// The one NIC whose gateway is the pod's way to everywhere else: the VM's first network's, another pod's primary one.
    /// A second default route would take the first one's place, as the plugins' last route goes before the others.
    package var hasDefaultRoute: Bool
    /// False for a NIC of a VM's secondary network that neither the pod's annotation nor the VM's networks have yet: it was
    /// plugged in a moment ago, and what is known of the pod is older. Wishes for it could be missed.
    package var isKnown: Bool

    /// `name` and `network` as the runtime names them. What else they are called is read from what Multus was told (the
    /// NAD's own name, which its configuration need not bear) and from the VM's networks.
    package init(name: String, network: String, pod: ObjectMeta, machineNetworks: [MachineNetwork] = []) {
        self.name = name
        self.network = network
        let selections = NetworkSelection.list(pod.annotations[NetworkSelection.networksAnnotation] ?? "") ?? []
        definition = Self.definition(of: name, network: network, pod: pod, selections)
        let own = machineNetworks.first { $0.interface == name }
        (machineNetwork, guestMAC) = (own?.name, own?.mac)
        isBridged = own?.isBridged == true
        let first = machineNetworks.first(where: \.isPrimary) ?? machineNetworks.first
        hasDefaultRoute = name == first?.interface ?? MachineNetwork.primaryInterface
        isKnown =
            !MachineNetwork.isSecondaryInterface(name)
            || (selections.isEmpty || selections.contains { $0.interface == name })
                && (machineNetworks.isEmpty || machineNetwork != nil)
    }

    /// The pod's first NIC, which the plain names speak for.
    package var isPrimary: Bool { name == MachineNetwork.primaryInterface }

    private static func definition(
        of interface: String, network: String, pod: ObjectMeta, _ selections: [NetworkSelection]
    ) -> Definition? {
        if interface == MachineNetwork.primaryInterface { return primary(by: pod) }
        // Attached by something else than Multus: the configuration's name is the best there is.
        return selected(interface, in: pod.namespace, selections)
            ?? Definition(namespace: pod.namespace, name: network)
    }

    private static func primary(by pod: ObjectMeta) -> Definition? {
        let text = pod.annotations[NetworkSelection.defaultNetworkAnnotation] ?? ""
        guard let selection = NetworkSelection.list(text)?.first, let namespace = selection.namespace else {
            return nil
        }
        return Definition(namespace: namespace, name: selection.name)
    }

    /// What Multus is told to make a pod's interface by; nil where the pod says nothing of it.
    static func selected(_ interface: String, by pod: ObjectMeta) -> Definition? {
        if interface == MachineNetwork.primaryInterface { return primary(by: pod) }
        let selections = NetworkSelection.list(pod.annotations[NetworkSelection.networksAnnotation] ?? "") ?? []
        return selected(interface, in: pod.namespace, selections)
    }

    private static func selected(
        _ interface: String, in namespace: String, _ selections: [NetworkSelection]
    ) -> Definition? {
        for (index, selection) in selections.enumerated()
        where selection.interface ?? "net\(index + 1)" == interface {
            return Definition(namespace: selection.namespace ?? namespace, name: selection.name)
        }
        return nil
    }
}

extension PodInterface {
    /// What stands before and after "holdfast.dev/addresses" in the names that speak for this NIC; those first that speak for no
    /// other.
    package var ownForms: [(prefix: String, suffix: String)] {
        var forms = isPrimary ? [("", "")] : []
        for suffix in [name, machineNetwork] {
            if let suffix { forms.append(("", ".\(suffix)")) }
        }
        forms.append(("\(network).", ""))
        // An annotation's name has one "/": "namespace/name" is written the other way round, as Kube-OVN does.
        if let definition { forms.append(("\(definition.name).\(definition.namespace).", "")) }
        return forms
    }

    /// Kube-OVN's providers (pkg/controller/pod.go, `getPodAttachmentNet`): "ovn" is the primary one; a definition's own
    /// has ".ovn" where Kube-OVN is the network as well, and the interface where a pod is attached twice. The narrowest first.
    package var kubeOVNProviders: [String] {
        let plain = isPrimary ? ["ovn"] : []
        guard let definition else { return plain }
        let base = "\(definition.name).\(definition.namespace)"
        return plain + ["\(base).ovn.\(name)", "\(base).ovn", base]
    }
}
