package import IPAMModel

/// Who a pod's addresses belong to, and whether it is the target of a migration (DESIGN, "From a pod to its owner").
package struct PodIdentity: Hashable, Sendable {
    package var pod: Pod
    package var kind: OwnerKind
    package var name: String
    /// The VirtualMachine's, the stand-alone instance's, or the pod's; never empty.
    package var uid: String
    /// The node that the pod's instance is said to belong to.
    package var instanceNode: String?
    /// Whether the pod's instance says that it runs in this pod, which a migration has brought it to.
    package var isCarrier = false
    /// The migration that this pod was made for.
    package var migration: Migration?
    /// The VM's; none of another pod.
    package var networks: [MachineNetwork] = []
    /// The guest's; empty for another pod.
    package var hostName = ""

    /// A migration as a target pod's label names it. The label stays, also after the migration's end.
    package struct Migration: Hashable, Sendable {
        package var uid: String
        package var standing: Standing
        /// Where the VM comes from another VM (decentralized migration): its owner, but for the network. Nil for one that
        /// stays the same VM.
        package var source: Owner?

        package enum Standing: Hashable, Sendable {
            case open
            case ended
            /// No such migration of this instance is there: not yet, or no more (KubeVirt keeps the last five).
            case unconfirmed
            /// It is open, and brings a VM from where nobody here knows of: no migration, or more than one, sends what
            /// this one receives, or the VM that is sent goes elsewhere.
            case fromElsewhere
        }
    }

    /// Whether the owner is an instance that no VM owns.
    package var standsAlone: Bool { kind == .virtualMachine && uid == pod.metadata.controller?.uid }

    package func owner(network: String) -> Owner {
        Owner(kind: kind, namespace: pod.metadata.namespace, name: name, uid: uid, network: network)
    }
}

/// Why a pod's owner cannot be told: what the cluster shows does not (yet) fit together.
package enum IdentityError: Error, Hashable, Sendable {
    case noPod(namespace: String, name: String)
    case otherPod(namespace: String, name: String, uid: String, asked: String)
    case noInstance(namespace: String, name: String, uid: String)
    case instanceReplaced(name: String, uid: String)
    /// The instance had its pod before this one was made.
    case notItsPod(instance: String, pod: String)
    /// Who could tell does not answer, or refuses to.
    case unavailable(reason: String)
}

extension ClusterObjects {
    /// How far the clocks of virt-controller and the API server may be apart.
    private static let clockSkew = Delay.seconds(10)

    /// The identity of the pod of this name, and of this UID where the runtime gives one.
    package func identity(
        ofPod name: String, in namespace: String, uid: String?
    ) throws(IdentityError) -> PodIdentity {
        guard let pod = pod(namespace: namespace, name: name) else {
            throw .noPod(namespace: namespace, name: name)
        }
        if let uid, uid != pod.metadata.uid {
            throw .otherPod(namespace: namespace, name: name, uid: pod.metadata.uid, asked: uid)
        }
        guard let controller = pod.metadata.controller, controller.isKubeVirt("VirtualMachineInstance") else {
            return PodIdentity(pod: pod, kind: .pod, name: name, uid: pod.metadata.uid)
        }
        let instance = try confirmedInstance(controller, in: namespace)
        // An instance has one pod in its life, and others for its migrations alone. One made anew from a manifest that was
        // exported has the time of the one before it still, and no other is written.
        if pod.metadata.labels[KubeVirtName.migrationJobUID] == nil, let created = pod.metadata.createdAt,
            let scheduled = instance.scheduledAt?.advanced(by: Self.clockSkew), created > scheduled,
            instance.metadata.createdAt.map({ $0 <= scheduled }) ?? true
        {
            throw .notItsPod(instance: controller.name, pod: name)
        }
        let migration = pod.metadata.labels[KubeVirtName.migrationJobUID].map {
            standing(ofMigration: $0, of: controller.name, in: namespace)
        }
        return PodIdentity(
            pod: pod, kind: .virtualMachine, name: controller.name,
            uid: instance.virtualMachine?.uid ?? instance.metadata.uid, instanceNode: instance.nodeName,
            isCarrier: instance.runs(in: pod), migration: migration, networks: instance.networks,
            hostName: instance.hostName)
    }

    private func standing(
        ofMigration uid: String, of instance: String, in namespace: String
    ) -> PodIdentity.Migration {
        guard let found = migration(uid: uid), found.metadata.namespace == namespace, found.vmiName == instance else {
            return PodIdentity.Migration(uid: uid, standing: .unconfirmed)
        }
        if found.hasEnded { return PodIdentity.Migration(uid: uid, standing: .ended) }
        guard let id = found.receives else { return PodIdentity.Migration(uid: uid, standing: .open) }
        // Promise 8: both halves must be there, each once; KubeVirt too knows them by this ID. But whoever may make
        // migrations may write any ID. The source's instance names its target in its status, which KubeVirt alone writes: before
        // it lets the target have a pod (pkg/virt-controller/watch/migration/migration.go: a source without it stays
        // `Synchronizing`, and only later tells the target of its pod, for which the target waits).
        let senders = migrations.filter { $0.sends == id && !$0.hasEnded }
        guard senders.count == 1, let sender = senders.first,
            migrations.count(where: { $0.receives == id && !$0.hasEnded }) == 1,
            let source = self.instance(namespace: sender.metadata.namespace, name: sender.vmiName),
            source.migration?.sourceState?.migrationUID == sender.metadata.uid,
            source.migration?.targetState?.migrationUID == uid
        else { return PodIdentity.Migration(uid: uid, standing: .fromElsewhere) }
        let owner = Owner(
            kind: .virtualMachine, namespace: sender.metadata.namespace, name: sender.vmiName,
            uid: source.virtualMachine?.uid ?? source.metadata.uid, network: "")
        return PodIdentity.Migration(uid: uid, standing: .open, source: owner)
    }

    /// Only the instance itself confirms what a pod says of its owner (promise 8): the name alone would give a pod that
    /// anybody made the address of a VM that is halted.
    private func confirmedInstance(
        _ instance: OwnerReference, in namespace: String
    ) throws(IdentityError) -> VirtualMachineInstance {
        guard let found = self.instance(namespace: namespace, name: instance.name) else {
            throw .noInstance(namespace: namespace, name: instance.name, uid: instance.uid)
        }
        guard found.metadata.uid == instance.uid else {
            throw .instanceReplaced(name: instance.name, uid: instance.uid)
        }
        return found
    }
}
