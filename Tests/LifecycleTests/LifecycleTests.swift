import Addresses
import IPAMAPI
import IPAMModel
import IPAMService
import KubeVirt
import KubernetesAPI
import Lifecycle
import Synchronization
import TestLog
import Testing

/// The loop's passes over a stated cluster and the real rules.
struct LifecycleTests {
    private let cluster = StatedCluster()
    private let mended = RecordedEvents()
    private let start = ContinuousClock.now

    init() {
        cluster.state {
            $0.machines = [name("other")]
            $0.pods = [pod("other")]
        }
    }

    private func lifecycle(_ ledger: Writer) -> Lifecycle {
        Lifecycle(ipam: ledger, cluster: cluster, events: mended, pace: Lifecycle.Pace(), log: quiet)
    }

    /// Comparisons a minute apart.
    private func compare(_ ledger: Writer, times: Int) async {
        let lifecycle = lifecycle(ledger)
        var memory = lifecycle.comparing
        for minute in 0..<times { _ = await lifecycle.compare(&memory, at: start + .seconds(60 * minute)) }
    }

    @Test func `a VM deleted while nobody looked is freed on all its networks, at the second look`() async throws {
        let ledger = try await makeLedger()
        try await ledger.bind(vm("testvm"))
        try await ledger.bind(vm("testvm", network: "vlan/net1"))
        try await ledger.bind(vm("other"))
        await compare(ledger, times: 1)
        #expect(try await ledger.all.count == 3)
        await compare(ledger, times: 2)
        #expect(try await ledger.all.map(\.owner.name) == ["other"])
        #expect(mended.all.count == 2)
    }

    @Test func `a VM that a fresh look still shows is not freed, whatever the lists say`() async throws {
        let ledger = try await makeLedger()
        try await ledger.bind(vm("testvm"))
        cluster.state {
            $0.machines.insert(name("testvm"))
            var lying = Inventory(coverage: [.machines, .launchers])
            lying.machines = [name("other"): "uid-other"]
            $0.listed = lying
        }
        await compare(ledger, times: 5)
        #expect(try await ledger.all.count == 1)
        #expect(cluster.looks > 0)
    }

    @Test func `nothing is freed while lists fail, lack something, or the fresh look fails`() async throws {
        let ledger = try await makeLedger()
        try await ledger.bind(vm("testvm"))
        let away = KubernetesError(.unreachable, "away")
        cluster.state { $0.failure = away }
        await compare(ledger, times: 4)
        cluster.state {
            $0.failure = nil
            $0.unreadable = "pods default/odd"
        }
        await compare(ledger, times: 4)
        #expect(try await ledger.all.count == 1)
        // The fresh look fails: the lists are seen twice, then the API server goes away.
        cluster.state { $0.unreadable = nil }
        let lifecycle = lifecycle(ledger)
        var memory = lifecycle.comparing
        _ = await lifecycle.compare(&memory, at: start)
        cluster.state { $0.failure = away }
        #expect(await !lifecycle.machineDeleted(name("testvm"), uid: "uid-testvm"))
        #expect(try await ledger.all.count == 1)
        cluster.state { $0.failure = nil }
        #expect(await lifecycle.compare(&memory, at: start + .seconds(60)) == .seconds(60))
        #expect(try await ledger.all.isEmpty)
    }

    @Test func `a deletion that is told frees at once, by UID`() async throws {
        let ledger = try await makeLedger()
        try await ledger.bind(vm("testvm"), pod: "p")
        try await ledger.bind(podOwner("testvm"))
        #expect(await lifecycle(ledger).machineDeleted(name("testvm"), uid: "another"))
        #expect(try await ledger.all.count == 2)
        cluster.state { $0.pods.append(pod("p")) }
        #expect(await !lifecycle(ledger).machineDeleted(name("testvm"), uid: "uid-testvm"))
        #expect(try await ledger.all.count == 2)
        // It came to another VM by a decentralized migration, and the ledger has not been told whose it is now.
        cluster.state { $0.pods[$0.pods.count - 1].metadata.namespace = "elsewhere" }
        #expect(await !lifecycle(ledger).machineDeleted(name("testvm"), uid: "uid-testvm"))
        #expect(try await ledger.all.count == 2)
        cluster.state { $0.pods = [pod("p", phase: "Succeeded")] }
        #expect(await lifecycle(ledger).machineDeleted(name("testvm"), uid: "uid-testvm"))
        #expect(try await ledger.all.map(\.owner.kind) == [.pod])
    }

    @Test func `one look serves all networks of a VM whose node died, and no list of all pods`() async throws {
        let ledger = try await makeLedger()
        for network in ["a/eth0", "b/net1", "c/net2"] {
            try await ledger.bind(vm("testvm", network: network), pod: "p")
            try await ledger.bind(vm("second", network: network), pod: "q")
        }
        try await ledger.bind(vm("other"), pod: "other")
        #expect(await lifecycle(ledger).machineDeleted(name("testvm"), uid: "uid-testvm"))
        #expect(cluster.looks == 1 && cluster.namesakeLooks == 1 && cluster.lists == 0)
        await compare(ledger, times: 2)
        #expect(cluster.looks == 2 && cluster.namesakeLooks == 2 && cluster.lists == 2)
        #expect(try await ledger.all.map(\.owner.name) == ["other"])
    }

    @Test func `a look is not kept while the ledger keeps the next binding waiting`() async throws {
        let ledger = try await makeLedger()
        for network in ["a/eth0", "b/net1"] { try await ledger.bind(vm("testvm", network: network)) }
        let repair = Repair(ipam: WithoutReleases(ledger: ledger), cluster: cluster)
        var look = Repair.Look()
        for binding in try await ledger.all {
            await #expect(throws: Repair.Failure.self) {
                try await repair.carryOut(Disagreement(binding, "the VM is gone", .free), &look)
            }
        }
        #expect(cluster.looks == 2)
    }

    /// A minute apart.
    private func linesOfTwoComparisons(of ledger: Writer) async -> [String] {
        let log = RecordedLog()
        let lifecycle = Lifecycle(
            ipam: ledger, cluster: cluster, events: mended, pace: Lifecycle.Pace(), log: log.logger)
        var memory = lifecycle.comparing
        for minute in 0..<2 { _ = await lifecycle.compare(&memory, at: start + .seconds(60 * minute)) }
        return log.lines
    }

    @Test func `of many that are not mended the log has one, and how many more there are`() async throws {
        let ledger = try await makeLedger()
        for owner in ["a", "b", "c"] { try await ledger.bind(vm(owner)) }
        try await ledger.bind(vm("other"))
        cluster.state { $0.lookFailure = KubernetesError(.unreachable, "away") }
        #expect(
            await linesOfTwoComparisons(of: ledger) == [
                "a disagreement was not mended, trying on error=away owner=\(vm("a").key)",
                "further disagreements were not mended, trying on count=2",
            ])
    }

    @Test func `what cannot be read is named in the log, once, also where all else agrees`() async throws {
        let ledger = try await makeLedger()
        try await ledger.bind(vm("other"))
        cluster.state { $0.unreadable = "pods default/odd: it has no name" }
        #expect(
            await linesOfTwoComparisons(of: ledger) == [
                """
                nothing is freed: the cluster's state is in doubt \
                why=not everything in the cluster could be read: pods default/odd: it has no name
                """
            ])
    }

    @Test func `a VM made anew before the deletion of the one before is told keeps the address`() async throws {
        let ledger = try await makeLedger()
        let before = try await ledger.bind(vm("testvm"))
        cluster.state { $0.machines.insert(name("testvm")) }
        _ = await lifecycle(ledger).machineDeleted(name("testvm"), uid: "uid-testvm")
        let after = try await ledger.bind(vm("testvm", uid: "newer"), pod: "p")
        #expect(after.assignments == before.assignments && after.mac == before.mac)
        // The new VM's is not freed by the late word of the old one, nor because the ledger's UID was another.
        _ = await lifecycle(ledger).machineDeleted(name("testvm"), uid: "uid-testvm")
        #expect(try await ledger.all.count == 1)
    }

    @Test func `a carrier that is gone is detached, and the halted VM keeps its address for ever`() async throws {
        let ledger = try await makeLedger()
        let before = try await ledger.bind(vm("testvm"), pod: "p")
        cluster.state { $0.machines.insert(name("testvm")) }
        await compare(ledger, times: 20)
        let after = try #require(try await ledger.all.first)
        #expect(after.state == .reserved && after.assignments == before.assignments)
    }

    /// As one of thousands does at any time. Else there would be no time at which all agrees.
    @Test func `a VM that restarts while the cluster is looked at does not disagree`() async throws {
        let ledger = try await makeLedger()
        try await ledger.bind(vm("testvm"), pod: "gone")
        cluster.state { $0.machines.insert(name("testvm")) }
        let lifecycle = lifecycle(ledger)
        var memory = lifecycle.comparing
        cluster.state { $0.whileListing = { _ = try? await ledger.bind(vm("testvm"), pod: "other") } }
        #expect(await lifecycle.compare(&memory, at: start) == Lifecycle.Pace().interval)
        cluster.state {
            $0.whileListing = nil
            $0.pods = []
        }
        #expect(await lifecycle.compare(&memory, at: start) == Lifecycle.Pace().grace)
    }

    @Test func `a VM that is gone is looked for again soon, also where its pod ended while the cluster was looked at`()
        async throws
    {
        let ledger = try await makeLedger()
        try await ledger.bind(vm("testvm"), pod: "p")
        let lifecycle = lifecycle(ledger)
        var memory = lifecycle.comparing
        cluster.state {
            $0.whileListing = {
                _ = try? await ledger.release(
                    .attachment(attachment("p").id, owner: vm("testvm"), network: "vm-net/eth0"),
                    timeout: Writer.patience)
            }
        }
        #expect(await lifecycle.compare(&memory, at: start) == Lifecycle.Pace().grace)
        #expect(try await ledger.all.map(\.state) == [.reserved])
        cluster.state { $0.whileListing = nil }
        for minute in 1...2 { _ = await lifecycle.compare(&memory, at: start + .seconds(60 * minute)) }
        #expect(try await ledger.all.isEmpty)
    }

    @Test func `a pod's binding is freed once its pod is gone`() async throws {
        let ledger = try await makeLedger()
        try await ledger.bind(podOwner("web"), pod: "web")
        cluster.state { $0.pods.append(pod("web")) }
        await compare(ledger, times: 3)
        #expect(try await ledger.all.count == 1)
        cluster.state { $0.pods.removeLast() }
        await compare(ledger, times: 2)
        #expect(try await ledger.all.isEmpty)
    }

    @Test func `what migrates is not freed with its VM before the migration has ended`() async throws {
        let ledger = try await makeLedger()
        try await ledger.bind(vm("testvm"), pod: "source")
        try await ledger.prepare(vm("testvm"), migration: "m-1", pod: "target")
        #expect(await !lifecycle(ledger).machineDeleted(name("testvm"), uid: "uid-testvm"))
        #expect(try await ledger.all.map(\.state) == [.migrating])
    }

    @Test(arguments: ["Succeeded", "Failed"])
    func `a migration that hangs is settled as the cluster says`(phase: String) async throws {
        let ledger = try await makeLedger()
        try await ledger.bind(vm("testvm"), pod: "source")
        try await ledger.prepare(vm("testvm"), migration: "m-1", pod: "target")
        cluster.state {
            $0.pods = [pod("source"), pod("target", node: "node-b")]
            $0.instances = [instance("testvm")]
            $0.migrations = [migration("m-1", of: "testvm", phase: "Running")]
        }
        let lifecycle = lifecycle(ledger)
        var memory = lifecycle.settling
        for tick in 0..<5 { _ = await lifecycle.settleMigrations(&memory, at: start + .seconds(10 * tick)) }
        #expect(try await ledger.all.first?.state == .migrating)
        cluster.state { $0.migrations = [migration("m-1", of: "testvm", phase: phase)] }
        for tick in 5..<9 { _ = await lifecycle.settleMigrations(&memory, at: start + .seconds(10 * tick)) }
        let binding = try #require(try await ledger.all.first)
        #expect(binding.state == .bound)
        #expect(binding.active?.pod == (phase == "Succeeded" ? "target" : "source"))
    }
}

/// A service that answers what a binding is, and nothing else.
private struct WithoutReleases: IPAMCalls {
    let ledger: Writer
    private var away: IPAMError { IPAMError(.unavailable, .noAnswer, "away") }

    func allocate(_ request: AllocateRequest, timeout: Duration) async throws(IPAMError) -> (
        binding: DescribedBinding, created: Bool
    ) { throw away }

    func release(_ request: ReleaseRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding? {
        throw away
    }

    func transfer(_ request: TransferRequest, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        throw away
    }

    func binding(of owner: Owner, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        try await ledger.binding(of: owner, timeout: timeout)
    }

    func binding(holding address: IPAddress, timeout: Duration) async throws(IPAMError) -> DescribedBinding {
        throw away
    }

    func bindings(
        matching filter: BindingFilter, pageSize: Int, pageToken: String?, timeout: Duration
    ) async throws(IPAMError) -> BindingPage { throw away }
}

final class RecordedEvents: LifecycleEvents {
    private let recorded = Mutex<[Disagreement]>([])
    var all: [Disagreement] { recorded.withLock { $0 } }
    func mended(_ disagreement: Disagreement) { recorded.withLock { $0.append(disagreement) } }
}
