import IPAMAPI
import IPAMModel
import IPAMService
import KubeVirt
import KubernetesAPI
import Lifecycle
import ServiceLifecycle
import TestCluster
import Testing

/// The service against an API server.
struct ServiceTests {
    private func machine(_ name: String, uid: String? = nil, kind: String = "VirtualMachine") -> String {
        """
        {"apiVersion":"kubevirt.io/v1","kind":"\(kind)","metadata":{"namespace":"default","name":"\(name)",\
        "uid":"\(uid ?? "uid-\(name)")"}}
        """
    }

    /// Runs `body` beside the service, which compares every 50 ms with a grace time of 200 ms.
    private func withService(
        _ ledger: Writer, _ cluster: TestCluster, interval: Duration = .milliseconds(50),
        longestPause: Duration = .milliseconds(50),
        leadership: AsyncStream<Bool> = AsyncStream { $0.yield(true) },
        metrics: (LifecycleMetrics) -> Void = { _ in }, _ body: () async throws -> Void
    ) async throws {
        var pace = Lifecycle.Pace()
        pace.grace = .milliseconds(200)
        pace.interval = interval
        pace.migrationInterval = .milliseconds(50)
        pace.migrationGrace = .milliseconds(100)
        var patience = KubernetesClient.Patience()
        patience.longestPause = longestPause
        let service = LifecycleService(
            client: KubernetesClient(cluster.configuration, patience: patience, log: quiet), ipam: ledger,
            instance: "test", leadership: leadership, pace: pace, log: quiet)
        metrics(service.metrics)
        let group = ServiceGroup(configuration: .init(services: [.init(service: service)], logger: quiet))
        let outcome = try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            let outcome: Result<Void, any Error>
            do { outcome = .success(try await body()) } catch { outcome = .failure(error) }
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
            return outcome
        }
        try outcome.get()
    }

    @Test func `the deletion of a VM, or of an instance that stands alone, is followed`() async throws {
        let ledger = try await makeLedger()
        for owner in ["a", "b", "c", "d"] { try await ledger.bind(vm(owner)) }
        try await TestCluster.run { cluster in
            try cluster.put(machine("a"))
            try cluster.put(machine("b"))
            for name in ["c", "d"] { try cluster.put(machine(name, kind: "VirtualMachineInstance")) }
            // So seldom compared that only the watches can tell.
            try await withService(ledger, cluster, interval: .seconds(3600)) {
                try await eventually("two watches") { cluster.watchCount == 2 }
                try cluster.delete(.virtualMachines, name: "a")
                try await eventually("a is freed") { try await ledger.all.count == 3 }
                try cluster.delete(.virtualMachineInstances, name: "d")
                try await eventually("d is freed") { try await ledger.all.count == 2 }
                // On the object that was there.
                for (name, kind) in [("a", "VirtualMachine"), ("d", "VirtualMachineInstance")] {
                    try await eventually("told") {
                        cluster.objects(.events).contains {
                            let text = String(decoding: $0.json, as: UTF8.self)
                            return text.contains(#""uid-\#(name)""#) && text.contains(#""\#(kind)""#)
                        }
                    }
                }
                // The list after a gap shows what the watch has missed.
                cluster.endWatches(inMidLine: true)
                try cluster.delete(.virtualMachineInstances, name: "c")
                try await eventually("c is freed") { try await ledger.all.map(\.owner.name) == ["b"] }
            }
        }
    }

    @Test func `an API server that ends each watch at once is not asked in a tight loop`() async throws {
        let ledger = try await makeLedger()
        try await TestCluster.run { cluster in
            try await withService(ledger, cluster, interval: .seconds(3600), longestPause: .seconds(10)) {
                let end = ContinuousClock.now + .seconds(2)
                while .now < end {
                    cluster.endWatches()
                    try await Task.sleep(for: .milliseconds(1))
                }
                let count = cluster.requests.count { $0.verb == "watch" }
                #expect((2...24).contains(count), "\(count)")
            }
        }
    }

    @Test func `to follow deletions is no list of all VMs`() async throws {
        let ledger = try await makeLedger()
        try await TestCluster.run { cluster in
            for name in ["a", "b", "c"] { try cluster.put(machine(name)) }
            try await withService(ledger, cluster, interval: .seconds(3600)) {
                try await eventually("two watches") { cluster.watchCount == 2 }
                let lists = cluster.requests.filter { $0.verb == "list" && $0.resource == .virtualMachines }
                // Those of comparisons are of metadata.
                let begun = lists.filter { $0.accept?.contains("PartialObjectMetadata") == false }
                #expect(begun.map(\.items) == [1], "\(begun)")
            }
        }
    }

    @Test func `a pod is found by its name and node in whatever namespace, in one piece`() async throws {
        try await TestCluster.run { cluster in
            func put(_ name: String, in namespace: String, on node: String) throws {
                try cluster.put(
                    """
                    {"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"\(namespace)","name":"\(name)",\
                    "uid":"\(namespace)-\(name)-\(node)"},"spec":{"nodeName":"\(node)"}}
                    """)
            }
            try put("p", in: "blue", on: "node-a")
            try put("p", in: "green", on: "node-a")
            try put("p", in: "red", on: "node-b")
            try put("q", in: "blue", on: "node-a")
            let client = KubernetesClient(cluster.configuration, log: quiet)
            let found = try await KubernetesCluster(client).pods(named: "p", on: "node-a")
            let anywhere = try await KubernetesCluster(client).pods(named: "p", on: "")
            await client.shutDown()
            #expect(found.unreadable == nil && Set(found.pods.keys) == ["blue-p-node-a", "green-p-node-a"])
            #expect(anywhere.unreadable == nil && anywhere.pods.count == 3)
            #expect(
                cluster.requests.map(\.query) == [
                    ["fieldSelector": "metadata.name=p,spec.nodeName=node-a"], ["fieldSelector": "metadata.name=p"],
                ])
        }
    }

    @Test(arguments: [
        ("virtualmachines.kubevirt.io", #""apiVersion":"kubevirt.io/v1","kind":"VirtualMachine""#),
        ("virtualmachineinstances.kubevirt.io", #""apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance""#),
        ("pods", #""apiVersion":"v1","kind":"Pod""#),
    ])
    func `an object that cannot be read is named`(resource: String, kind: String) async throws {
        try await TestCluster.run { cluster in
            try cluster.put(
                """
                {\(kind),"metadata":{"namespace":"default","name":"odd","uid":"u","labels":{"x":5}}}
                """)
            let client = KubernetesClient(cluster.configuration, log: quiet)
            let unreadable = try await KubernetesCluster(client).inventory(of: [.machines, .pods]).unreadable
            await client.shutDown()
            #expect(unreadable?.hasPrefix("\(resource) default/odd: ") == true, "\(unreadable ?? "")")
        }
    }

    @Test func `after a watch's error its objects are listed anew, and compared`() async throws {
        let ledger = try await makeLedger()
        try await TestCluster.run { cluster in
            try await withService(ledger, cluster, interval: .seconds(3600)) {
                func lists() -> Int { cluster.requests.count { $0.verb == "list" && $0.resource == .virtualMachines } }
                try await eventually("two watches") { cluster.watchCount == 2 }
                // Each watch's own, and the comparisons that they ask for.
                try await Task.sleep(for: .milliseconds(600))
                let before = lists()
                cluster.inject(
                    #"{"type":"ERROR","object":{"kind":"Status","code":500,"message":"etcdserver: no leader"}}"#,
                    into: .virtualMachines)
                try await eventually("listed anew, and compared") { lists() >= before + 2 }
            }
        }
    }

    @Test func `only a leader looks at the cluster, in each of its terms`() async throws {
        let ledger = try await makeLedger()
        for owner in ["a", "b"] { try await ledger.bind(vm(owner)) }
        let (leadership, leads) = AsyncStream.makeStream(of: Bool.self)
        try await TestCluster.run { cluster in
            try cluster.put(machine("a"))
            try await withService(ledger, cluster, interval: .seconds(3600), leadership: leadership) {
                leads.yield(false)
                for expected in ["a", ""] {
                    leads.yield(true)
                    try await eventually("two watches") { cluster.watchCount == 2 }
                    try await eventually("freed") { try await ledger.all.map(\.owner.name).joined() == expected }
                    leads.yield(false)
                    try await eventually("no watch") { cluster.watchCount == 0 }
                    let count = cluster.requests.count
                    // Without a leader nobody is told.
                    if expected == "a" { try cluster.delete(.virtualMachines, name: "a") }
                    try cluster.put(machine("c"))
                    try await Task.sleep(for: .milliseconds(300))
                    #expect(cluster.requests.count == count)
                }
            }
        }
    }

    @Test func `one that leads no longer shows nothing of what it found`() async throws {
        let ledger = try await makeLedger()
        for owner in ["a", "b"] { try await ledger.bind(vm(owner)) }
        let (leadership, leads) = AsyncStream.makeStream(of: Bool.self)
        try await TestCluster.run { cluster in
            // Another cluster, as it seems.
            try cluster.put(machine("other"))
            var metrics: LifecycleMetrics?
            try await withService(ledger, cluster, leadership: leadership, metrics: { metrics = $0 }) {
                leads.yield(true)
                func shows(_ line: String) throws -> Bool { try #require(metrics).exposition.contains("\n\(line)\n") }
                try await eventually("found") {
                    try shows("holdfast_lifecycle_disagreements 2")
                        && shows(#"holdfast_lifecycle_in_doubt{pass="compare"} 1"#)
                }
                leads.yield(false)
                try await eventually("shown no more") {
                    try shows("holdfast_lifecycle_disagreements 0")
                        && shows(#"holdfast_lifecycle_in_doubt{pass="compare"} 0"#)
                }
            }
        }
    }

    @Test func `what was missed, also by a watch whose versions are gone, is found by comparing`() async throws {
        let ledger = try await makeLedger()
        for owner in ["a", "b", "c"] { try await ledger.bind(vm(owner)) }
        try await TestCluster.run { cluster in
            try cluster.put(machine("b"))
            try cluster.put(machine("c"))
            try await withService(ledger, cluster, interval: .seconds(3600)) {
                try await eventually("a is freed") { try await ledger.all.map(\.owner.name).sorted() == ["b", "c"] }
                try await eventually("two watches") { cluster.watchCount == 2 }
                try cluster.delete(.virtualMachines, name: "b", isAnnounced: false)
                cluster.compact()
                cluster.endWatches()
                try await eventually("b is freed") { try await ledger.all.map(\.owner.name) == ["c"] }
            }
        }
    }

    @Test func `an API server that fails, is slow, or forbids frees nothing, and is asked again`() async throws {
        let ledger = try await makeLedger()
        try await ledger.bind(vm("a"))
        try await TestCluster.run { cluster in
            try cluster.put(machine("other"))
            cluster.fail("list", .virtualMachineInstances, status: 500, times: 3)
            cluster.fail("get", .virtualMachines, status: 403, times: 1000)
            try await withService(ledger, cluster) {
                try await eventually("the VM was asked for") {
                    cluster.requests.contains { $0.verb == "get" && $0.status == 403 }
                }
                #expect(try await ledger.all.count == 1)
                cluster.recover()
                try await eventually("a is freed") { try await ledger.all.isEmpty }
            }
        }
    }

    @Test func `a list that is empty all of a sudden frees nothing`() async throws {
        let ledger = try await makeLedger()
        for owner in ["a", "b"] { try await ledger.bind(vm(owner)) }
        try await TestCluster.run { cluster in
            try cluster.put(machine("a"))
            try cluster.put(machine("b"))
            try await withService(ledger, cluster) {
                try await eventually("two watches") { cluster.watchCount == 2 }
                func lists() -> Int { cluster.requests.count { $0.verb == "list" && $0.resource == .virtualMachines } }
                let before = lists()
                try await eventually("compared") { lists() > before + 2 }
                // As after a restore of the wrong etcd: no deletion is told.
                try cluster.delete(.virtualMachines, name: "a", isAnnounced: false)
                try cluster.delete(.virtualMachines, name: "b", isAnnounced: false)
                let after = lists()
                try await eventually("compared often") { lists() > after + 12 }
                #expect(try await ledger.all.count == 2)
                // Once VMs show again, what is missing among them is gone.
                try cluster.put(machine("a"))
                try await eventually("b is freed") { try await ledger.all.map(\.owner.name) == ["a"] }
            }
        }
    }

    @Test func `a migration to another namespace that hangs is settled there`() async throws {
        let ledger = try await makeLedger()
        try await ledger.bind(vm("testvm"), pod: "source")
        try await ledger.prepare(vm("testvm"), migration: "receiver", pod: "target")
        func migration(_ name: String, _ namespace: String, of instance: String, _ half: String, _ phase: String)
            -> String
        {
            """
            {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstanceMigration","metadata":{"namespace":\
            "\(namespace)","name":"\(name)","uid":"\(name)","labels":{"kubevirt.io/vmi-name":"\(instance)"}},\
            "spec":{"vmiName":"\(instance)","\(half)":{"migrationID":"x"}},"status":{"phase":"\(phase)"}}
            """
        }
        try await TestCluster.run { cluster in
            try cluster.put(machine("testvm"))
            try cluster.put(migration("sender", "default", of: "testvm", "sendTo", "Running"))
            try cluster.put(migration("receiver", "green", of: "testvm2", "receive", "Running"))
            try cluster.put(
                """
                {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","metadata":{"namespace":"green",\
                "name":"testvm2","uid":"vmi-2"}}
                """)
            try cluster.put(
                """
                {"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"green","name":"target","uid":"uid-target"},\
                "spec":{"nodeName":"node-b"},"status":{"phase":"Running"}}
                """)
            try cluster.put(
                """
                {"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"default","name":"source","uid":"uid-source",\
                "labels":{"kubevirt.io":"virt-launcher"}},"spec":{"nodeName":"node-a"},"status":{"phase":"Running"}}
                """)
            try await withService(ledger, cluster) {
                func looks() -> Int { cluster.requests.count { $0.name == "target" } }
                try await eventually("looked at often") { looks() > 8 }
                #expect(try await ledger.all.map(\.state) == [.migrating])
                try cluster.put(migration("receiver", "green", of: "testvm2", "receive", "Succeeded"))
                try await eventually("it is the other VM's") {
                    let binding = try #require(try await ledger.all.first)
                    return binding.owner.namespace == "green" && binding.owner.uid == "vmi-2"
                        && binding.active?.pod == "target"
                }
            }
            // With a limit etcd would be read for each VM that migrates.
            let ofOne = cluster.requests.filter {
                $0.resource == .virtualMachineInstanceMigrations && $0.query["labelSelector"] != nil
            }
            #expect(!ofOne.isEmpty && ofOne.allSatisfy { $0.query["limit"] == nil })
        }
    }

    @Test func `the list of all VMs comes in pages, and holds no labels or annotations`() async throws {
        try await TestCluster.run { cluster in
            for index in 0..<1200 {
                try cluster.put(
                    """
                    {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","metadata":{"name":"vm-\(index)",\
                    "labels":{"a":"b"},"annotations":{"c":"d"}}}
                    """)
            }
            try cluster.put(machine("halted"))
            let client = KubernetesClient(cluster.configuration, log: quiet)
            let inventory = try await KubernetesCluster(client).inventory(of: [.machines, .launchers])
            await client.shutDown()
            #expect(inventory.instances.count == 1200 && inventory.unreadable == nil)
            #expect(inventory.machines == [name("halted"): "uid-halted"])
            #expect(inventory.instances.values.allSatisfy { $0.metadata.labels.isEmpty })
            #expect(inventory.instances.values.allSatisfy { $0.metadata.annotations.isEmpty })
            #expect(cluster.requests.map(\.items).max() == 500)
            #expect(
                cluster.requests.contains {
                    $0.resource == .pods && $0.query["labelSelector"] == "kubevirt.io=virt-launcher"
                })
        }
    }
}
