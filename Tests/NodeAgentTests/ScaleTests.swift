import KubeVirt
import KubernetesAPI
import Logging
import NodeAgent
import TestCluster
import Testing

/// 5,000 VMs on 500 nodes.
struct ScaleTests {
    private static let nodes = 500
    private static let machinesPerNode = 10

    private func node(_ index: Int) -> String { "node-\(index)" }

    private func fill(_ cluster: TestCluster) throws {
        for index in 0..<Self.nodes * Self.machinesPerNode {
            let (name, node) = ("vm-\(index)", node(index % Self.nodes))
            try cluster.put(
                Manifest.instance(name, uid: "vmi-\(index)", labels: [KubeVirtName.nodeName: node], machine: name))
            try cluster.put(Manifest.pod("launcher-\(index)", node: node, instance: name, instanceUID: "vmi-\(index)"))
        }
    }

    private func wait(
        _ what: String, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () async -> Bool
    ) async {
        let deadline = ContinuousClock.now + .seconds(120)
        while await !condition(), .now < deadline { try? await Task.sleep(for: .milliseconds(50)) }
        #expect(await condition(), "waited in vain: \(what)", sourceLocation: sourceLocation)
    }

    @Test func `each of 500 agents asks for and holds what is on its node, and no more`() async throws {
        try await TestCluster.run { cluster in
            try fill(cluster)
            let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            // They start all at once, on the test machine's few cores.
            var patience = KubernetesClient.Patience()
            (patience.connect, patience.head, patience.body) = (.seconds(100), .seconds(100), .seconds(100))
            let agents = (0..<Self.nodes).map {
                KubernetesSource(
                    node: node($0),
                    client: KubernetesClient(cluster.configuration, patience: patience, log: log), log: log)
            }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for agent in agents { group.addTask { try await agent.run() } }
                await wait("the watches") { cluster.watchCount == 3 * Self.nodes }
                // A pod and an instance for each VM: nothing is held twice, and nothing of another node.
                #expect(agents.allSatisfy { $0.heldObjects == 2 * Self.machinesPerNode })
                for (index, agent) in agents.enumerated() {
                    let reading = await agent.read()
                    #expect(reading.isComplete && reading.objects.pods.allSatisfy { $0.nodeName == node(index) })
                }
                // One list and one watch for each of three selections, and what they brought was asked for. A few more,
                // should connections have broken when 1,500 were made at once.
                let (asked, brought) = (6 * Self.nodes, 2 * Self.nodes * Self.machinesPerNode)
                #expect((asked...asked + asked / 100).contains(cluster.requests.count))
                let items = cluster.requests.reduce(0) { $0 + $1.items }
                #expect((brought...brought + brought / 100).contains(items))

                // A migration is the business of two nodes, and of two only.
                cluster.forgetRequests()
                try cluster.put(Manifest.migration("m", of: "vm-0"))
                try cluster.put(
                    Manifest.pod(
                        "target", node: node(1), instance: "vm-0", instanceUID: "vmi-0",
                        migration: (uid: "vmim-1", name: "m")))
                await wait("the migration") { await agents[1].read().objects.migrations.count == 1 }
                try cluster.put(Manifest.migration("m", of: "vm-0", phase: "Succeeded"))
                try cluster.put(
                    Manifest.instance("vm-0", uid: "vmi-0", labels: [KubeVirtName.nodeName: node(1)], machine: "vm-0"))
                await wait("the move") {
                    let (source, target) = (await agents[0].read().objects, await agents[1].read().objects)
                    return source.instances.count == Self.machinesPerNode - 1
                        && target.instances.count == Self.machinesPerNode + 1
                        && target.migrations.first?.phase == "Succeeded"
                }
                #expect(cluster.requests.allSatisfy { $0.verb == "get" && $0.name == "m" })
                #expect(cluster.requests.count < 20)
                group.cancelAll()
            }
        }
    }

    @Test func `the list of all VMs is read in pages, and nothing is kept of them that is not used`() async throws {
        try await TestCluster.run { cluster in
            let filling = String(repeating: "x", count: 4096)
            let count = Self.nodes * Self.machinesPerNode
            for index in 0..<count {
                try cluster.put(
                    """
                    {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachine","metadata":{"name":"vm-\(index)",\
                    "namespace":"default","uid":"uid-\(index)","annotations":\
                    {"kubectl.kubernetes.io/last-applied-configuration":"\(filling)"}},"spec":{"template":"\(filling)"}}
                    """)
            }
            let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            let client = KubernetesClient(cluster.configuration, log: log)
            let list = try await client.list(VirtualMachine.self, .virtualMachines)
            #expect(list.objects.count == count && list.items.count == count)
            #expect(cluster.requests.map(\.items) == Array(repeating: 500, count: count / 500))
            // 8 KiB came over the wire for each.
            let kept = list.items.map { "\($0)".utf8.count }.max() ?? 0
            #expect(kept < 512, "\(kept) characters")
        }
    }
}
