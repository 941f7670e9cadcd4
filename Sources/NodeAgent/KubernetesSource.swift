import IPAMModel
package import KubeVirt
package import KubernetesAPI
package import Logging
import ServiceLifecycle
import Synchronization

/// The API server, as far as one node is concerned: watches the node's pods and the instances that run on it or come to
/// it, looks after the migrations whose target pods are here, and asks for what a pod's ADD needs and no watch has shown.
package final class KubernetesSource: ObjectSource, Service {
    /// A watch that is well hears from the server each minute.
    private static let staleAfter = Duration.seconds(150)
    /// Changes come in swarms: one look serves them all.
    private static let swarm = Duration.milliseconds(20)

    private let node: String
    private let client: KubernetesClient
    private let pods: ObjectWatch<Pod>
    private let running: ObjectWatch<VirtualMachineInstance>
    private let coming: ObjectWatch<VirtualMachineInstance>
    private let migrations: MigrationLookups
    private let asked = Mutex<[String: Listed<Pod>]>([:])
    private let changed = ChangeSignal()
    private let madeAt = ContinuousClock.now

    package init(node: String, client: KubernetesClient, log: Logger) {
        self.node = node
        self.client = client
        let (changed, mayMigrate) = (changed, ChangeSignal())
        pods = ObjectWatch(Pod.self, of: client, .pods, Selection(fields: "spec.nodeName=\(node)"), log: log) { _ in
            changed.raise()
            mayMigrate.raise()
        }
        func instances(_ label: String) -> ObjectWatch<VirtualMachineInstance> {
            ObjectWatch(
                VirtualMachineInstance.self, of: client, .virtualMachineInstances,
                Selection(labels: "\(label)=\(node)"), log: log
            ) { _ in changed.raise() }
        }
        running = instances(KubeVirtName.nodeName)
        coming = instances(KubeVirtName.migrationTargetNodeName)
        migrations = MigrationLookups(client: client, log: log, changed: changed, mayMigrate: mayMigrate)
    }

    /// Watches until the service is shut down.
    package func run() async throws {
        await cancelWhenGracefulShutdown {
            await withDiscardingTaskGroup { group in
                group.addTask { await self.pods.run() }
                group.addTask { await self.running.run() }
                group.addTask { await self.coming.run() }
                group.addTask { await self.migrations.run { self.pods.copy } }
            }
        }
    }

    package func change(within interval: Duration) async {
        await changed.wait(within: interval)
        try? await Task.sleep(for: Self.swarm)
    }

    package func read() async -> Reading {
        let (pods, running, coming) = (pods.copy, running.copy, coming.copy)
        var objects = ClusterObjects()
        objects.pods = pods.objects + askedPods(unknownTo: pods)
        // Where a migration has a node for its source and target, both watches show the instance.
        objects.instances =
            running.objects
            + coming.objects.filter { running.object(namespace: $0.metadata.namespace, name: $0.metadata.name) == nil }
        objects.migrations = migrations.found(for: objects.pods)
        let isComplete =
            pods.isComplete(asOf: Self.staleAfter) && running.isComplete(asOf: Self.staleAfter)
            && coming.isComplete(asOf: Self.staleAfter)
        return Reading(objects: objects, isComplete: isComplete, isCurrent: false)
    }

    package var watches: [WatchHealth] {
        [health("pods", pods), health("instances", running), health("arriving_instances", coming)]
    }

    private func health<Object>(_ name: String, _ watch: ObjectWatch<Object>) -> WatchHealth {
        let copy = watch.copy
        return WatchHealth(name: name, isSynced: copy.isSynced, silence: .now - (copy.confirmedAt ?? madeAt))
    }

    /// How many objects are held, for those who watch over this process's memory.
    package var heldObjects: Int { pods.copy.count + running.copy.count + coming.copy.count + migrations.count }
}

// MARK: - What an ADD asks for

extension KubernetesSource {
    /// The pod by the watch, or where that has not seen it (it may lag behind the kubelet's, or know an older pod of the
    /// name) by the API server. The instance likewise: until the pod is ready no label says that it is on this node. The
    /// migration always by the API server, so that one that has ended is not believed, and the instance of its target, so that
    /// it tells where the VM runs now.
    package func identity(
        ofPod name: String, in namespace: String, uid: String?, afresh: Bool, by deadline: ContinuousClock.Instant
    ) async throws(IdentityError) -> PodIdentity {
        var objects = ClusterObjects()
        guard let pod = try await pod(name, in: namespace, uid: afresh ? nil : uid, by: deadline) else {
            throw .noPod(namespace: namespace, name: name)
        }
        objects.pods = [pod]
        if let controller = pod.metadata.controller, controller.isKubeVirt("VirtualMachineInstance") {
            let isTarget = pod.metadata.labels[KubeVirtName.migrationJobUID] != nil
            let watched = (isTarget || afresh ? [] : [running, coming]).lazy.compactMap {
                $0.copy.object(namespace: namespace, name: controller.name)
            }.first { $0.metadata.uid == controller.uid }
            let instance =
                if let watched { watched } else {
                    try await get(
                        VirtualMachineInstance.self, .virtualMachineInstances, namespace, controller.name, deadline)
                }
            if let instance { objects.instances = [instance] }
            if isTarget, let migration = pod.metadata.annotations[KubeVirtName.migrationJobName], !migration.isEmpty,
                let found = try await get(
                    VirtualMachineInstanceMigration.self, .virtualMachineInstanceMigrations, namespace, migration,
                    deadline)
            {
                objects.migrations = [found]
                if let id = found.receives { try await add(sendersOf: id, to: &objects, by: deadline) }
            }
        }
        return try objects.identity(ofPod: name, in: namespace, uid: uid)
    }

    /// The other half of a decentralized migration, wherever it is, and its instance.
    private func add(
        sendersOf id: String, to objects: inout ClusterObjects, by deadline: ContinuousClock.Instant
    ) async throws(IdentityError) {
        do {
            let all = try await client.list(
                VirtualMachineInstanceMigration.self, .virtualMachineInstanceMigrations, by: deadline)
            let known = Set(objects.migrations.map(\.metadata.uid))
            objects.migrations += all.objects.filter {
                ($0.sends == id || $0.receives == id) && !known.contains($0.metadata.uid)
            }
        } catch {
            throw .unavailable(reason: error.message)
        }
        // Of more than one nobody knows which it is: whoever may make migrations makes this ask for no more.
        let senders = objects.migrations.filter { $0.sends == id && !$0.hasEnded }
        guard senders.count == 1, let sender = senders.first else { return }
        let instance = try await get(
            VirtualMachineInstance.self, .virtualMachineInstances, sender.metadata.namespace, sender.vmiName, deadline)
        if let instance { objects.instances.append(instance) }
    }

    /// By the API server: the other pod is another node's.
    package func pods(
        ofInstanceOf pod: Pod, by deadline: ContinuousClock.Instant
    ) async throws(IdentityError) -> ClusterObjects {
        var objects = ClusterObjects()
        guard let instance = pod.metadata.controller?.uid else { return objects }
        do {
            objects.pods = try await client.list(
                Pod.self, .pods,
                Selection(namespace: pod.metadata.namespace, labels: "\(KubeVirtName.createdBy)=\(instance)"),
                // For these are few: with a limit some versions read all of the namespace's from etcd.
                pageSize: 0, by: deadline
            ).objects
        } catch {
            throw .unavailable(reason: error.message)
        }
        return objects
    }

    private func pod(
        _ name: String, in namespace: String, uid: String?, by deadline: ContinuousClock.Instant
    ) async throws(IdentityError) -> Pod? {
        if let uid, let known = pods.copy.object(namespace: namespace, name: name), known.metadata.uid == uid {
            return known
        }
        guard let found = try await get(Listed<Pod>.self, .pods, namespace, name, deadline) else { return nil }
        guard let pod = found.object else {
            throw .unavailable(reason: "pod \(namespace)/\(name) cannot be read: \(found.problem ?? "")")
        }
        if pod.nodeName == node, !pod.hasEnded { asked.withLock { $0[pod.metadata.uid] = found } }
        return pod
    }

    private func get<Object: Decodable & Sendable>(
        _ type: Object.Type, _ resource: KubernetesResource, _ namespace: String, _ name: String,
        _ deadline: ContinuousClock.Instant
    ) async throws(IdentityError) -> Object? {
        do {
            return try await client.get(type, resource, namespace: namespace, name: name, by: deadline)
        } catch {
            throw .unavailable(reason: error.message)
        }
    }

    /// Pods that the API server has shown when it was asked, and the watch not yet.
    private func askedPods(unknownTo copy: ObjectCopy<Pod>) -> [Pod] {
        asked.withLock { asked in
            // What the watch is past it shows, or it is gone.
            asked = asked.filter {
                let reference = $0.value.reference
                let shown = copy.object(namespace: reference.namespace, name: reference.name)
                return copy.isBehind(reference) && shown?.metadata.uid != reference.uid
            }
            return asked.values.compactMap(\.object)
        }
    }
}
