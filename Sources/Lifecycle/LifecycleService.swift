package import IPAMAPI
import KubeVirt
package import KubernetesAPI
package import Logging
import ServiceLifecycle
import Synchronization

/// Runs the lifecycle while its server leads, until shutdown: follows deletions as the API server tells them, and compares
/// from time to time.
package struct LifecycleService: Service {
    private static let tick = Duration.milliseconds(250)

    private let client: KubernetesClient
    private let events: EventRecorder
    private let lifecycle: Lifecycle
    private let leadership: AsyncStream<Bool>
    private let log: Logger
    package let metrics = LifecycleMetrics()

    /// `instance` names this server in Events; `leadership` says whether it leads, whenever that changes. The client is shut
    /// down with the service.
    package init(
        client: KubernetesClient, ipam: any IPAMCalls, instance: String, leadership: AsyncStream<Bool>,
        pace: Lifecycle.Pace, log: Logger
    ) {
        self.client = client
        self.leadership = leadership
        self.log = log
        events = EventRecorder(client: client, component: "holdfast-server", instance: instance, log: log)
        lifecycle = Lifecycle(
            ipam: ipam, cluster: KubernetesCluster(client), events: events, pace: pace, log: log,
            metrics: metrics)
    }

    package func run() async throws {
        await cancelWhenGracefulShutdown {
            var changes = leadership.makeAsyncIterator()
            while let leads = await changes.next() {
                guard leads else { continue }
                await withDiscardingTaskGroup { tasks in
                    addActivities(to: &tasks)
                    log.debug("following the cluster")
                    while await changes.next() == true {}
                    tasks.cancelAll()
                }
                metrics.endTerm()
                log.debug("following the cluster no longer")
            }
        }
        await client.shutDown()
    }

    /// All that a term consists of. Nothing is remembered from one to the next: what has been missing must be so anew.
    private func addActivities(to tasks: inout DiscardingTaskGroup) {
        let soon = Soon()
        tasks.addTask { await events.run() }
        tasks.addTask { await repeatedly(soon) { await lifecycle.compare(&$0, at: .now) } }
        tasks.addTask { await repeatedly(nil) { await lifecycle.settleMigrations(&$0, at: .now) } }
        tasks.addTask { await follow(Lean<VirtualMachine>.self, .virtualMachines, soon) }
        tasks.addTask { await follow(Lean<VirtualMachineInstance>.self, .virtualMachineInstances, soon) }
    }

    /// That a comparison is wanted earlier than planned.
    private final class Soon: Sendable {
        private let isWanted = Atomic(false)
        func want() { isWanted.store(true, ordering: .relaxed) }
        func take() -> Bool { isWanted.exchange(false, ordering: .relaxed) }
    }

    private func repeatedly(
        _ soon: Soon?, _ pass: (inout Lifecycle.Memory) async -> Duration
    ) async {
        var memory = soon == nil ? lifecycle.settling : lifecycle.comparing
        while !Task.isCancelled {
            let next = ContinuousClock.now + (await pass(&memory))
            while ContinuousClock.now < next, !Task.isCancelled, soon?.take() != true {
                try? await Task.sleep(for: min(Self.tick, next - .now))
            }
        }
    }

    /// Hears of deletions from now on; what happened in a gap is for a comparison to find.
    private func follow<Object: ObjectWithMetadata>(
        _ type: Lean<Object>.Type, _ resource: KubernetesResource, _ soon: Soon
    ) async {
        var version = ""
        await client.follow(resource, log: log) { () throws(KubernetesError) in
            version = try await client.version(of: resource)
            soon.want()
        } watching: { progress throws(KubernetesError) in
            try await client.watch(type, resource, from: version) { event in
                progress()
                version = await take(event, soon)
            }
        }
    }

    /// The version up to which everything has been told.
    private func take<Object: ObjectWithMetadata>(_ event: WatchEvent<Lean<Object>>, _ soon: Soon) async -> String {
        switch event {
        case .bookmark(let version): return version
        case .added(let listed), .modified(let listed): return listed.reference.resourceVersion
        case .deleted(let listed):
            // An instance that a VM owns ends with each of its runs.
            let instance = listed.object?.object as? VirtualMachineInstance
            if instance?.virtualMachine != nil { return listed.reference.resourceVersion }
            let name = ObjectName(namespace: listed.reference.namespace, name: listed.reference.name)
            let (uid, standsAlone) = (listed.reference.uid, instance != nil)
            if await !lifecycle.machineDeleted(name, uid: uid, standsAlone: standsAlone) { soon.want() }
            return listed.reference.resourceVersion
        }
    }
}
