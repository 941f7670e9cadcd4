import Addresses
import CNI
import DHCP
import Glibc
import IPAMAPI
import IPAMModel
import KubeVirt
package import Logging
import ServiceLifecycle
import Syscalls

/// What this node does for guests beside giving them addresses: answers their DHCP, and tells the network where they are.
package struct GuestService: Service {
    private let ports: GuestPorts
    /// Where neither the network nor the VM says so or otherwise.
    private let answersByDefault: Bool
    private let announces: Bool
    private let log: Logger

    package init(ports: GuestPorts, answersByDefault: Bool, announces: Bool, log: Logger) {
        self.ports = ports
        self.answersByDefault = answersByDefault
        self.announces = announces
        self.log = log
    }

    /// Serves the ports of pods that are there already, and of all that come, until the agent is shut down.
    package func run() async throws {
        ports.restore()
        let thread = try SystemThread { [ports] in ports.serve() }
        await cancelWhenGracefulShutdown { while !Task.isCancelled { try? await Task.sleep(for: .seconds(3600)) } }
        ports.stop()
        thread.join()
    }

    /// The pod's interface will be there soon. A guest without address is worse than a pod that says why it waits, so
    /// where its DHCP cannot be answered this throws.
    func attach(
        _ described: DescribedBinding, to nic: PodInterface, _ network: NetworkConfiguration,
        _ invocation: Invocation, _ identity: PodIdentity
    ) throws(CNIError) {
        let owner = described.binding.owner
        guard owner.kind == .virtualMachine else { return }
        let options = try GuestOptions(
            isDefault: answersByDefault, network: network, annotations: identity.pod.metadata.annotations, nic: nic,
            hostName: identity.hostName)
        guard options.isOn || announces else { return }
        if options.isOn, !options.unknown.isEmpty {
            log.warning(
                "DHCP options that are not known are left out",
                metadata: ["owner": "\(owner.key)", "options": "\(options.unknown.joined(separator: ","))"])
        }
        let record = PortRecord(
            key: PortRecord.Key(containerID: invocation.containerID, interface: invocation.interface),
            namespace: invocation.netns, namespaceID: NetworkNamespace.identity(at: invocation.netns) ?? 0,
            owner: "\(owner.key)", guest: try options.configuration(of: described),
            guestMAC: nic.guestMAC ?? (network.pins(described.binding.mac) ? described.binding.mac : nil),
            answersDHCP: options.isOn)
        do throws(SystemError) {
            try ports.attach(record)
        } catch {
            guard options.isOn else {
                log.warning("cannot be announced later", metadata: ["owner": "\(owner.key)", "error": "\(error)"])
                return
            }
            throw CNIError(
                .tryAgainLater, "the guest's DHCP cannot be answered: \(error)",
                details: "\(error.remedyForPort); or switch its DHCP off for this network or VM")
        }
    }

    func detach(_ invocation: Invocation) {
        ports.detach(PortRecord.Key(containerID: invocation.containerID, interface: invocation.interface))
    }

    /// A migration to this node has been committed: the guest runs here now.
    func committed(_ owner: Owner, to attachment: Attachment) {
        guard announces, let slash = owner.network.lastIndex(of: "/") else { return }
        let interface = String(owner.network[owner.network.index(after: slash)...])
        ports.announce(PortRecord.Key(containerID: attachment.containerID, interface: interface))
    }
}

extension SystemError {
    /// What it takes to open a guest's port, where that failed with this.
    var remedyForPort: String {
        number == EMFILE
            ? "holdfast-agent has as many descriptors as it may: raise the hard limit of its open files (RLIMIT_NOFILE)"
            : "holdfast-agent needs the pods' network namespaces (/run/netns) and CAP_SYS_ADMIN"
    }
}

extension NetworkConfiguration {
    /// Whether this plugin is the main plugin, or the address plugin of the one that it delegates to: then the pod's interface
    /// has the binding's MAC, and KubeVirt gives it to a guest whose VM names none.
    fileprivate func pins(_ mac: MACAddress) -> Bool {
        delegate != nil || json["args"]?["cni"]?["mac"]?.string == mac.description
    }
}
