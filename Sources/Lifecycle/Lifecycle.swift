import Addresses
package import IPAMAPI
package import IPAMModel
import KubernetesAPI
package import Logging

/// Carries the ends of VMs, pods and migrations to the service, by comparing what is with what should be: so it may be
/// away, miss anything, and start anew at any time.
package struct Lifecycle: Sendable {
    package struct Pace: Sendable {
        /// How long a disagreement must last before it is acted upon.
        package var grace = Duration.seconds(60)
        /// Between two comparisons while everything agrees.
        package var interval = Duration.seconds(300)
        /// Between two looks at open migrations, which agents end much sooner.
        package var migrationInterval = Duration.seconds(5)
        package var migrationGrace = Duration.seconds(15)

        package init() {}
    }

    private let ipam: any IPAMCalls
    private let cluster: any ClusterReads
    private let repair: Repair
    private let events: any LifecycleEvents
    private let pace: Pace
    private let log: Logger
    private let metrics: LifecycleMetrics

    package init(
        ipam: any IPAMCalls, cluster: any ClusterReads, events: any LifecycleEvents, pace: Pace, log: Logger,
        metrics: LifecycleMetrics = LifecycleMetrics()
    ) {
        self.ipam = ipam
        self.cluster = cluster
        self.events = events
        self.pace = pace
        self.log = log
        self.metrics = metrics
        repair = Repair(ipam: ipam, cluster: cluster)
    }

    /// What one activity remembers between its passes.
    package struct Memory: Sendable {
        var observations: Observations
        var doubt: String?
        var isFailing = false
        var backOff = Duration.seconds(1)

        package init(grace: Duration) { observations = Observations(grace: grace) }
    }

    package var comparing: Memory { Memory(grace: pace.grace) }
    package var settling: Memory { Memory(grace: pace.migrationGrace) }

    /// Compares the whole ledger with the cluster. Returns how long to wait before the next time.
    package func compare(_ memory: inout Memory, at now: ContinuousClock.Instant) async -> Duration {
        await attempt(.compare, &memory, "the ledger was not compared with the cluster, trying on") {
            (memory) throws(Repair.Failure) in
            let bindings = try await list(BindingFilter())
            let inventory = try await look { cluster throws(KubernetesError) in
                try await cluster.inventory(of: .needed(for: bindings))
            }
            var result = memory.observations.compare(bindings, with: inventory, at: now)
            if result.doubt == nil { result.found = try await standing(result.found) }
            metrics.set(disagreements: result.found.count)
            metrics.count(.compare, result.doubt == nil ? .complete : .doubted)
            let found = await act(on: result, &memory)
            return found ? min(pace.grace, pace.interval) : pace.interval
        }
    }

    /// Ends migrations that have ended in the cluster, where no agent has done so. Returns as `compare` does.
    package func settleMigrations(_ memory: inout Memory, at now: ContinuousClock.Instant) async -> Duration {
        await attempt(.migrations, &memory, "open migrations were not looked at, trying on") {
            (memory) throws(Repair.Failure) in
            let open = try await list(BindingFilter(state: .migrating))
            if open.isEmpty {
                metrics.count(.migrations, .complete)
            } else {
                let inventory = try await look { cluster throws(KubernetesError) in
                    try await cluster.migrations(of: open)
                }
                let result = memory.observations.compare(open, with: inventory, at: now)
                metrics.count(.migrations, result.doubt == nil ? .complete : .doubted)
                _ = await act(on: result, &memory)
            }
            return pace.migrationInterval
        }
    }

    /// A VM, or an instance that stood alone, was seen to be deleted: what it had is freed now. False where that could not
    /// be done yet, and a comparison has to.
    package func machineDeleted(_ name: ObjectName, uid: String, standsAlone: Bool = false) async -> Bool {
        do throws(Repair.Failure) {
            var (isDone, look) = (true, Repair.Look())
            let named = try await list(BindingFilter(namespace: name.namespace, name: name.name))
            for binding in named where binding.owner.kind == .virtualMachine && binding.owner.uid == uid {
                let disagreement = Disagreement(binding, "the VM was deleted", .free, standsAlone: standsAlone)
                isDone = try await carryOut(disagreement, &look) && isDone
            }
            return isDone
        } catch {
            if !Task.isCancelled {
                log.warning(
                    "a deleted VM's addresses not released yet", metadata: ["owner": "vm \(name)", "error": "\(error)"])
            }
            return false
        }
    }

    /// Acts upon what is due; true where something is amiss that may be due later.
    private func act(on result: Observations.Result, _ memory: inout Memory) async -> Bool {
        if result.doubt != memory.doubt, let doubt = result.doubt {
            log.warning("nothing is freed: the cluster's state is in doubt", metadata: ["why": "\(doubt)"])
        }
        memory.doubt = result.doubt
        var (look, failures) = (Repair.Look(), 0)
        for disagreement in result.due {
            do {
                _ = try await carryOut(disagreement, &look)
            } catch {
                if Task.isCancelled { return true }
                failures += 1
                log.log(
                    level: failures == 1 ? .warning : .debug, "a disagreement was not mended, trying on",
                    metadata: ["owner": "\(disagreement.binding.owner.key)", "error": "\(error)"])
            }
        }
        if failures > 1 {
            log.warning("further disagreements were not mended, trying on", metadata: ["count": "\(failures - 1)"])
        }
        return result.found.contains { $0.remedy != .byHand }
    }

    /// False where a fresh look spoke against it.
    private func carryOut(
        _ disagreement: Disagreement, _ look: inout Repair.Look
    ) async throws(Repair.Failure) -> Bool {
        let binding = disagreement.binding
        var metadata: Logger.Metadata = [
            "owner": "\(binding.owner.key)", "uid": "\(binding.owner.uid)", "why": "\(disagreement.reason)",
            "addresses": "\(binding.assignments.map(\.address.description).joined(separator: ","))",
        ]
        if let active = binding.active { (metadata["pod"], metadata["node"]) = ("\(active.pod)", "\(active.node)") }
        if binding.target != nil { metadata["migration"] = "\(binding.migrationUID)" }
        switch try await repair.carryOut(disagreement, &look) {
        case .done:
            log.info("\(disagreement.remedy.event)", metadata: metadata)
            metrics.count(disagreement.remedy)
            events.mended(disagreement)
            return true
        case .notNeeded(let reason):
            metadata["but"] = "\(reason)"
            log.info("left as it is", metadata: metadata)
            return false
        }
    }

    private func attempt(
        _ pass: LifecycleMetrics.Pass, _ memory: inout Memory, _ complaint: Logger.Message,
        _ body: (inout Memory) async throws(Repair.Failure) -> Duration
    ) async -> Duration {
        do {
            let pause = try await body(&memory)
            (memory.isFailing, memory.backOff) = (false, .seconds(1))
            return pause
        } catch {
            if !Task.isCancelled {
                log.log(level: memory.isFailing ? .debug : .warning, complaint, metadata: ["error": "\(error)"])
                if !error.isOfFollower { metrics.count(pass, .failed) }
            }
            memory.isFailing = true
            defer { memory.backOff = min(memory.backOff * 2, .seconds(60)) }
            return memory.backOff
        }
    }

    private func standing(_ found: [Disagreement]) async throws(Repair.Failure) -> [Disagreement] {
        do {
            return try await repair.standing(found)
        } catch {
            throw .ledger(error)
        }
    }

    private func list(_ filter: BindingFilter) async throws(Repair.Failure) -> [Binding] {
        do {
            return try await ipam.bindings(matching: filter, timeout: Repair.timeout)
        } catch {
            throw .ledger(error)
        }
    }

    private func look(
        _ body: (any ClusterReads) async throws(KubernetesError) -> Inventory
    ) async throws(Repair.Failure) -> Inventory {
        do {
            return try await body(cluster)
        } catch {
            throw .cluster(error)
        }
    }
}

extension Repair.Failure {
    /// Another server leads: its lifecycle is at work.
    fileprivate var isOfFollower: Bool {
        if case .ledger(let error) = self { error.reason == .notLeader } else { false }
    }
}

/// Who is told of what was mended.
package protocol LifecycleEvents: Sendable {
    /// Must not wait.
    func mended(_ disagreement: Disagreement)
}

extension Inventory.Coverage {
    /// What must be looked at for these bindings; all pods of a cluster are many.
    package static func needed(for bindings: [Binding]) -> Inventory.Coverage {
        bindings.contains { $0.owner.kind == .pod && !$0.owner.uid.isEmpty }
            ? [.machines, .pods] : [.machines, .launchers]
    }
}

extension Disagreement.Remedy {
    /// What was done, for the log.
    fileprivate var event: String {
        switch self {
        case .free: "released"
        case .detach: "detached"
        case .commit: "migration committed"
        case .abort: "migration aborted"
        case .byHand: ""
        }
    }
}
