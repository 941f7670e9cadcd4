package import Addresses
import FoundationEssentials
package import IPAMModel

/// A pod: what the kubelet runs.
package struct Pod: Hashable, Sendable {
    package var metadata: ObjectMeta
    package var nodeName: String?
    package var phase: String?
    /// Those that Multus has made in it, each with its addresses; nil where it says nothing.
    package var interfaces: [String: [IPAddress]]?
    /// By what Multus has made each of them: "namespace/name" of a NetworkAttachmentDefinition, or the default network's name.
    package var definitions: [String: String]

    package init(
        metadata: ObjectMeta, nodeName: String? = nil, phase: String? = nil, interfaces: [String: [IPAddress]]? = nil,
        definitions: [String: String] = [:]
    ) {
        self.metadata = metadata
        self.nodeName = nodeName
        self.phase = phase
        self.interfaces = interfaces
        self.definitions = definitions
    }

    /// All its containers have ended for good.
    package var hasEnded: Bool { phase == "Succeeded" || phase == "Failed" }
}

/// A virtual machine, running or halted.
package struct VirtualMachine: Hashable, Sendable {
    package var metadata: ObjectMeta

    package init(metadata: ObjectMeta) { self.metadata = metadata }
}

/// A virtual machine's run: made anew at each start, kept over a migration.
package struct VirtualMachineInstance: Hashable, Sendable {
    package var metadata: ObjectMeta
    /// The node that owns it now, from the status or else the label.
    package var nodeName: String?
    package var migration: MigrationState?
    package var networks: [MachineNetwork]
    /// `spec.hostname`.
    package var hostNameWish: String?
    /// When it had its pod, ready on a node: its phase became `Scheduled`.
    package var scheduledAt: Timestamp?

    package init(
        metadata: ObjectMeta, nodeName: String? = nil, migration: MigrationState? = nil,
        networks: [MachineNetwork] = [], hostNameWish: String? = nil, scheduledAt: Timestamp? = nil
    ) {
        self.metadata = metadata
        self.nodeName = nodeName
        self.migration = migration
        self.networks = networks
        self.hostNameWish = hostNameWish
        self.scheduledAt = scheduledAt
    }

    /// The VirtualMachine that it is a run of; nil for one that stands alone.
    package var virtualMachine: OwnerReference? {
        metadata.controller.flatMap { $0.isKubeVirt("VirtualMachine") ? $0 : nil }
    }

    /// The guest's host name, as KubeVirt gives it by cloud-init and DHCP (pkg/util/net/dns/sanitize.go).
    package var hostName: String {
        if let hostNameWish, !hostNameWish.isEmpty { return hostNameWish }
        return String(metadata.name.prefix { $0 != "." }.prefix(63))
    }

    /// Whether it says that it runs in this pod: the one that its last migration brought it to, or took it from in vain.
    /// Before any migration it names no pod.
    func runs(in pod: Pod) -> Bool {
        guard let migration, let nodeName, nodeName == pod.nodeName else { return false }
        if migration.failed == true { return migration.sourcePod == pod.metadata.name }
        // KubeVirt moves the instance's node before it says `completed`.
        return migration.targetPod == pod.metadata.name
            && migration.migrationUid == pod.metadata.labels[KubeVirtName.migrationJobUID]
            && (migration.completed == true || migration.sourceNode.map { $0 != nodeName } ?? false)
    }
}

/// An instance's `status.migrationState`: the migration handed to virt-handler last, open or ended.
package struct MigrationState: Hashable, Sendable, Decodable {
    package var migrationUid: String?
    package var sourceNode: String?
    package var sourcePod: String?
    package var targetNode: String?
    package var targetPod: String?
    /// "Used as a trigger to help coordinate when CNI drivers fail over the IP to the new pod"
    /// (KubeVirt pkg/virt-handler/migration-target.go).
    package var targetNodeDomainReadyTimestamp: String?
    package var completed: Bool?
    package var failed: Bool?
    package var abortStatus: String?
    /// Of a decentralized migration: both halves, the other one's as KubeVirt's synchronization controller brought it.
    package var sourceState: Half?
    package var targetState: Half?

    package struct Half: Hashable, Sendable, Decodable {
        package var migrationUID: String?
        package init(migrationUID: String?) { self.migrationUID = migrationUID }
    }

    package init(
        migrationUid: String? = nil, sourceNode: String? = nil, sourcePod: String? = nil, targetNode: String? = nil,
        targetPod: String? = nil, targetNodeDomainReadyTimestamp: String? = nil, completed: Bool? = nil,
        failed: Bool? = nil, abortStatus: String? = nil, sourceState: Half? = nil, targetState: Half? = nil
    ) {
        self.migrationUid = migrationUid
        self.sourceNode = sourceNode
        self.sourcePod = sourcePod
        self.targetNode = targetNode
        self.targetPod = targetPod
        self.targetNodeDomainReadyTimestamp = targetNodeDomainReadyTimestamp
        self.completed = completed
        self.failed = failed
        self.abortStatus = abortStatus
        self.sourceState = sourceState
        self.targetState = targetState
    }
}

/// The wish to move an instance to another node, or to another instance (decentralized), and how far that got.
package struct VirtualMachineInstanceMigration: Hashable, Sendable {
    package var metadata: ObjectMeta
    package var vmiName: String
    package var phase: String?
    /// Of a decentralized migration: what its two halves have in common. This one is the source's.
    package var sends: String?
    /// The same; this one is the target's.
    package var receives: String?

    package init(
        metadata: ObjectMeta, vmiName: String, phase: String? = nil, sends: String? = nil, receives: String? = nil
    ) {
        self.metadata = metadata
        self.vmiName = vmiName
        self.phase = phase
        self.sends = sends
        self.receives = receives
    }

    /// One way or the other, for good.
    package var hasEnded: Bool { phase == "Succeeded" || phase == "Failed" }
}

/// Names that KubeVirt's controllers write (staging/src/kubevirt.io/api/core/v1/types.go).
package enum KubeVirtName {
    /// Label of an instance's pods: the instance's UID.
    package static let createdBy = "kubevirt.io/created-by"
    /// Annotation of the API server's mirror of a static pod: the UID by which the kubelet knows that.
    static let staticPod = "kubernetes.io/config.mirror"
    /// Annotation of a pod: what Multus has made in it.
    static let networkStatus = "k8s.v1.cni.cncf.io/network-status"
    /// Label of a migration's target pod: the migration's UID. It stays after success.
    package static let migrationJobUID = "kubevirt.io/migrationJobUID"
    /// Annotation of a migration's target pod: the migration's name.
    package static let migrationJobName = "kubevirt.io/migrationJobName"
    /// Annotation of a migration's target pod once the target's domain runs.
    package static let migrationTargetReady = "kubevirt.io/migration-target-ready-timestamp"
    /// Label of a migration: its instance's name.
    package static let migrationOfInstance = "kubevirt.io/vmi-name"
    /// Label of an instance: the node that owns it.
    package static let nodeName = "kubevirt.io/nodeName"
    /// Label of an instance from the hand-over to virt-handler until a migration has ended: the node that it moves to.
    package static let migrationTargetNodeName = "kubevirt.io/migrationTargetNodeName"
}

extension Pod: Decodable {
    private struct Spec: Decodable { var nodeName: String? }
    private struct Status: Decodable { var phase: String? }
    /// An entry of `networkStatus` (Network Custom Resource Definition De-facto Standard, 5).
    private struct NetworkStatus: Decodable {
        var name: String?
        var interface: String?
        var ips: [String]?
    }
    private enum CodingKeys: String, CodingKey { case metadata, spec, status }

    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        metadata = try values.decode(ObjectMeta.self, forKey: .metadata)
        // A static pod is who it is for the kubelet and the runtime; its mirror may be made anew while it runs. No annotation
        // makes a pod another one that the API server knows by its own UID: that has hyphens, and a manifest's hash does not.
        if let uid = metadata.annotations[KubeVirtName.staticPod], uid.count == 32, uid.allSatisfy(\.isHexDigit) {
            metadata.uid = uid
        }
        definitions = [:]
        // Kilobytes, of which names and addresses are all that is used.
        if let text = metadata.annotations.removeValue(forKey: KubeVirtName.networkStatus),
            let entries = try? JSONDecoder().decode([NetworkStatus].self, from: Data(text.utf8))
        {
            interfaces = [:]
            for entry in entries {
                guard let name = entry.interface else { continue }
                interfaces?[name, default: []] += (entry.ips ?? []).compactMap(IPAddress.init)
                definitions[name] = entry.name
            }
        }
        nodeName = try values.decodeIfPresent(Spec.self, forKey: .spec)?.nodeName
        phase = try values.decodeIfPresent(Status.self, forKey: .status)?.phase
    }
}

extension VirtualMachine: Decodable {}

extension VirtualMachineInstance: Decodable {
    private struct Spec: Decodable {
        struct Domain: Decodable { var devices: Devices? }
        struct Devices: Decodable { var interfaces: [Interface]? }
        struct Interface: Decodable {
            struct Method: Decodable { var name: String? }
            var name: String
            var macAddress: String?
            var bridge: Method?
            var binding: Method?

            var isBridged: Bool { bridge != nil || binding?.name?.lowercased() == "managedtap" }
        }
        var networks: [MachineNetwork]?
        var hostname: String?
        var domain: Domain?
    }
    private struct Status: Decodable {
        struct Interface: Decodable {
            var name: String?
            var mac: String?
        }
        struct Transition: Decodable {
            var phase: String?
            var phaseTransitionTimestamp: String?
        }
        var nodeName: String?
        var migrationState: MigrationState?
        var interfaces: [Interface]?
        var phaseTransitionTimestamps: [Transition]?
    }
    private enum CodingKeys: String, CodingKey { case metadata, spec, status }

    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        metadata = try values.decode(ObjectMeta.self, forKey: .metadata)
        let status = try values.decodeIfPresent(Status.self, forKey: .status)
        nodeName = status?.nodeName ?? metadata.labels[KubeVirtName.nodeName]
        migration = status?.migrationState
        let spec = try values.decodeIfPresent(Spec.self, forKey: .spec)
        networks = spec?.networks ?? []
        hostNameWish = spec?.hostname
        for index in networks.indices {
            let name = networks[index].name
            let interface = spec?.domain?.devices?.interfaces?.first { $0.name == name }
            networks[index].isBridged = interface?.isBridged == true
            let found = status?.interfaces?.first { $0.name == name }?.mac
            networks[index].mac =
                [interface?.macAddress, found].lazy.compactMap { $0.flatMap(MACAddress.init) }.first
        }
        scheduledAt = status?.phaseTransitionTimestamps?.first { $0.phase == "Scheduled" }?.phaseTransitionTimestamp
            .flatMap(Timestamp.init(rfc3339:))
    }
}

extension VirtualMachineInstanceMigration: Decodable {
    private struct Half: Decodable { var migrationID: String }
    private struct Spec: Decodable {
        var vmiName: String
        var sendTo: Half?
        var receive: Half?
    }
    private struct Status: Decodable { var phase: String? }
    private enum CodingKeys: String, CodingKey { case metadata, spec, status }

    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        metadata = try values.decode(ObjectMeta.self, forKey: .metadata)
        let spec = try values.decode(Spec.self, forKey: .spec)
        (vmiName, sends, receives) = (spec.vmiName, spec.sendTo?.migrationID, spec.receive?.migrationID)
        phase = try values.decodeIfPresent(Status.self, forKey: .status)?.phase
    }
}

extension ClusterObjects {
    /// Whether the instance of `pod` runs in another one that does not have `interface`, or has it by another definition
    /// (KubeVirt migrates a VM to change that): the NIC is new. False where no pod says what it has, for all that they then
    /// may have.
    package func isNew(_ interface: String, in pod: Pod) -> Bool {
        let others = others(than: pod).filter { !$0.hasEnded }
        let definition = PodInterface.selected(interface, by: pod.metadata)?.description
        return !others.isEmpty && formerName(of: interface, in: pod) == nil
            && others.allSatisfy { other in
                guard let interfaces = other.interfaces else { return false }
                if interfaces[interface] == nil { return true }
                guard let definition, let former = other.definitions[interface] else { return false }
                return former != definition
            }
    }

    /// What another pod of the instance calls the NIC that is `interface` in `pod`, where it has the names that KubeVirt gave
    /// before 1.0; nil where none has.
    package func formerName(of interface: String, in pod: Pod) -> String? {
        guard MachineNetwork.isSecondaryInterface(interface) else { return nil }
        let definition = PodInterface.selected(interface, by: pod.metadata)?.description
        return others(than: pod).filter { !$0.hasEnded }.lazy.compactMap { other in
            other.interfaces?.keys.sorted().first { name in
                guard MachineNetwork.ordinal(ofInterface: name) != nil else { return false }
                return definition == nil || other.definitions[name] == nil || other.definitions[name] == definition
            }
        }.first
    }

    /// The other pods of its instance.
    package func others(than pod: Pod) -> [Pod] {
        guard let instance = pod.metadata.controller?.uid else { return [] }
        return pods.filter { $0.metadata.uid != pod.metadata.uid && $0.metadata.controller?.uid == instance }
    }
}
