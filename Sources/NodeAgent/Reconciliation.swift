package import IPAMAPI
import IPAMModel
import KubeVirt
package import Logging

/// Carries what happened in the cluster to the service: migrations that came to an end, machines that were deleted.
///
/// Each pass compares what is with what should be, so passes may fail, be missed or be repeated.
package struct Reconciliation: Sendable {
    private static let timeout = Duration.seconds(5)
    /// How often open migrations are asked for while nothing changes in the cluster.
    private static let idleInterval = Duration.seconds(5)
    /// The same while one is open.
    private static let busyInterval = Duration.seconds(1)

    private let node: String
    private let ipam: any IPAMCalls
    private let source: any ObjectSource
    private let cluster: ClusterNotes?
    private let guests: GuestService?
    private let seen: SeenMachines?
    private let log: Logger
    private let metrics: AgentMetrics

    private var commits: CommitWatch
    /// Migrations to this node that are open no more, as they were then, of which the network has not been told yet.
    private var unannounced: [Binding] = []
    /// The pods of decentralized migrations to this node, by UID, whose bindings are all their own VM's.
    private var arrived: Set<String> = []
    private var deletions: DeletionWatch
    /// The reading before showed nothing, and that was logged.
    private var isSuspicious = false
    private var previous: Reading?
    /// The reading by which the migrations were judged last.
    private var judged: Reading?
    private var judgeAgainAt: ContinuousClock.Instant?
    private var migrationBackOff = BackOff()
    private var deletionBackOff = BackOff()

    /// `cluster`: where people are told of migrations. `seen`: what outlives the agent of the machines that `source` shows.
    package init(
        node: String, ipam: any IPAMCalls, source: any ObjectSource, cluster: ClusterNotes? = nil,
        guests: GuestService? = nil, seen: SeenMachines? = nil, log: Logger, metrics: AgentMetrics = AgentMetrics()
    ) {
        self.node = node
        self.ipam = ipam
        self.source = source
        self.cluster = cluster
        self.guests = guests
        self.seen = seen
        deletions = DeletionWatch(seen: seen?.all ?? [])
        self.log = log
        self.metrics = metrics
        commits = CommitWatch(node: node)
    }

    /// Returns when another pass may find something new, and after `interval` in any case.
    func change(within interval: Duration) async { await source.change(within: interval) }

    package mutating func pass(at now: ContinuousClock.Instant) async {
        let reading = await source.read()
        await settleMigrations(reading, at: now)
        let deleted = deletions.observe(reading)
        if deletions.suspects(reading), !isSuspicious {
            log.warning(
                """
                nothing at all is to be seen where VMs were: no address is freed until something shows again, other \
                than by hand with `holdfast release`
                """)
        }
        isSuspicious = deletions.suspects(reading)
        await releaseDeleted(deleted, at: now)
        seen?.keep(deletions.seen)
        previous = reading
    }

    private mutating func settleMigrations(_ reading: Reading, at now: ContinuousClock.Instant) async {
        guard migrationBackOff.allows(now), reading != judged || now >= judgeAgainAt ?? now else { return }
        var failure: IPAMError?
        do throws(IPAMError) {
            let open = try await bindings(matching: BindingFilter(node: node, state: .migrating))
            metrics.set(openMigrations: open.count)
            unannounced += commits.observe(open)
            for ended in unannounced {
                do throws(IPAMError) {
                    try await announce(ended)
                    unannounced.removeAll { $0 == ended }
                } catch {
                    failure = error
                }
            }
            var isArriving = false
            do throws(IPAMError) {
                isArriving = try await handOver(seeing: reading)
            } catch {
                failure = error
            }
            for binding in open {
                do throws(IPAMError) {
                    try await carryOut(
                        MigrationVerdict(on: binding, in: reading, previous: previous), on: binding, seeing: reading)
                } catch {
                    failure = error
                }
            }
            judgeAgainAt = now + (open.isEmpty && !isArriving ? Self.idleInterval : Self.busyInterval)
        } catch {
            failure = error
        }
        if let failure {
            // The agent's own end is no failure.
            if Task.isCancelled { return }
            log.log(
                level: migrationBackOff.isFailing ? .debug : .warning, "migrations not settled, trying on",
                metadata: ["error": "\(failure.message)"])
            migrationBackOff.failed(at: now)
        } else {
            judged = reading
            migrationBackOff.succeeded()
        }
    }

    private func announce(_ ended: Binding) async throws(IPAMError) {
        guard let guests, let target = ended.target else { return }
        let now = try await bindings(
            matching: BindingFilter(namespace: ended.owner.namespace, name: ended.owner.name, node: node))
        if now.contains(where: { $0.owner.key == ended.owner.key && $0.active?.id == target.id }) {
            guests.committed(ended.owner, to: target)
        }
    }

    /// Gives VMs that have come by a decentralized migration the bindings that their pods carry, where the source's release
    /// came before the COMMIT. By what is there now: an agent that has just started goes on where the one before ended. True
    /// while something is left to do.
    private mutating func handOver(seeing reading: Reading) async throws(IPAMError) -> Bool {
        arrived.formIntersection(reading.objects.pods.map(\.metadata.uid))
        let arrivals = reading.objects.pods.filter { $0.nodeName == node && !arrived.contains($0.metadata.uid) }
            .compactMap { Arrival($0, in: reading.objects) }
        if arrivals.isEmpty { return false }
        let here = try await bindings(matching: BindingFilter(node: node))
        var failure: IPAMError?
        var isWaiting = false
        for arrival in arrivals {
            let carried = here.filter(arrival.carries)
            var isDone = !carried.isEmpty
            for binding in carried where !arrival.owns(binding) {
                do throws(IPAMError) {
                    let judged = arrival.handOver(of: binding, seeing: reading, previous: previous)
                    if let (verdict, ended) = judged, case .commit = verdict {
                        try await carryOut(verdict, on: ended, seeing: reading)
                        continue
                    }
                    // A failed one's DEL comes by itself.
                    if case .abort? = judged?.verdict {} else { isWaiting = true }
                } catch {
                    failure = error
                }
                isDone = false
            }
            if isDone { arrived.insert(arrival.pod.metadata.uid) }
        }
        if let failure { throw failure }
        return isWaiting
    }

    private mutating func carryOut(
        _ verdict: MigrationVerdict, on binding: Binding, seeing reading: Reading
    ) async throws(IPAMError) {
        let (phase, event, sign): (TransferPhase, Logger.Message, String)
        switch verdict {
        case .wait: return
        case .commit(let why, let newOwner):
            (phase, event, sign) = (.commit(targetOwner: newOwner), "migration committed", why)
        case .abort(let why): (phase, event, sign) = (.abort, "migration aborted", why)
        }
        let request = TransferRequest(owner: binding.owner, migrationUID: binding.migrationUID, phase: phase)
        var metadata: Logger.Metadata = [
            "owner": "\(binding.owner.key)", "migration": "\(binding.migrationUID)", "sign": "\(sign)",
            "target": "\(binding.target?.node ?? "")",
        ]
        do {
            _ = try await ipam.transfer(request, timeout: Self.timeout)
            log.info(event, metadata: metadata)
            if case .commit = phase {
                let standsAlone = reading.objects.instances.contains { $0.metadata.uid == binding.owner.uid }
                cluster?.migrated(binding, standsAlone: standsAlone)
            }
            if case .commit = verdict, let target = binding.target, target.node == node {
                guests?.committed(binding.owner, to: target)
                commits.forget(binding)
            }
        } catch  where [.failedPrecondition, .notFound].contains(error.code) || error.reason == .otherNode {
            // Another agent, a newer migration or the VM's deletion came first: what it did stands.
            metadata["error"] = "\(error.message)"
            log.info("migration ended otherwise", metadata: metadata)
        }
    }

    private mutating func releaseDeleted(_ machines: [MachineReference], at now: ContinuousClock.Instant) async {
        guard !machines.isEmpty, deletionBackOff.allows(now) else { return }
        let fresh = await source.read()
        var isDone = true
        for machine in machines where deletions.confirm(machine, in: fresh) {
            do throws(IPAMError) {
                if try await release(machine, seeing: fresh.objects) {
                    deletions.forget(machine)
                } else {
                    isDone = false
                }
            } catch {
                isDone = false
                if Task.isCancelled { return }
                log.warning(
                    "a deleted VM's addresses not released",
                    metadata: ["owner": "vm \(machine.namespace)/\(machine.name)", "error": "\(error.message)"])
            }
        }
        if isDone { deletionBackOff.succeeded() } else { deletionBackOff.failed(at: now) }
    }

    /// False where a pod still uses a binding: a VM that was deleted with its pods orphaned runs on. One that only an agent
    /// before this one has seen, and that another node's pod carries now, is left to that node's.
    private func release(_ machine: MachineReference, seeing objects: ClusterObjects) async throws(IPAMError) -> Bool {
        var isDone = true
        let own = try await bindings(matching: BindingFilter(namespace: machine.namespace, name: machine.name))
            .filter { $0.owner.kind == .virtualMachine && $0.owner.uid == machine.uid }
        let nodes = own.flatMap { [$0.active, $0.target].compactMap { $0?.node } }
        if deletions.isUnseen(machine), nodes.contains(where: { $0 != node }) { return true }
        for binding in own {
            let carriers = [binding.active, binding.target].compactMap { $0.flatMap { objects.pod(uid: $0.podUID) } }
            guard carriers.allSatisfy(\.hasEnded) else {
                isDone = false
                continue
            }
            _ = try await ipam.release(.binding(binding.owner), timeout: Self.timeout)
            log.info("released with its VM", metadata: ["owner": "\(binding.owner.key)", "uid": "\(machine.uid)"])
        }
        return isDone
    }

    private func bindings(matching filter: BindingFilter) async throws(IPAMError) -> [Binding] {
        try await ipam.allBindings(matching: filter, timeout: Self.timeout).map(\.binding)
    }
}

/// Longer and longer waits while something fails: from 200 ms, doubled up to 5 s.
struct BackOff: Sendable {
    private var delay = Duration.milliseconds(200)
    private var notBefore: ContinuousClock.Instant?

    /// Failed last time.
    var isFailing: Bool { notBefore != nil }

    func allows(_ now: ContinuousClock.Instant) -> Bool { notBefore.map { now >= $0 } ?? true }

    mutating func failed(at now: ContinuousClock.Instant) {
        notBefore = now + delay
        delay = min(delay * 2, .seconds(5))
    }

    mutating func succeeded() { self = BackOff() }
}
