import Addresses
package import IPAMModel

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
        if migration.failed == true {
            // Before KubeVirt 1.3 no source pod is named.
            guard let source = migration.sourcePod else {
                return migration.targetPod.map { $0 != pod.metadata.name } ?? false
            }
            return source == pod.metadata.name
        }
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
