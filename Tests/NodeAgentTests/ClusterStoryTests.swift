import CNI
import Foundation
import IPAMModel
import KubeVirt
import KubernetesAPI
import NodeAgent
import TestCluster
import Testing

/// The recorded stories behind an API server: two agents watch their nodes, kubelet's calls come as it would make them, and
/// the watches break as they do.
struct ClusterStoryTests {
    enum Weather: CaseIterable { case fair, foul }

    @Test(arguments: Story.names, Weather.allCases)
    func `a VM keeps its address, carried by the pod on its node, when agents see no more than their nodes`(
        name: String, weather: Weather
    ) async throws {
        let seed = UInt64.random(in: .min ... .max)
        print("\(name) \(weather) seed \(seed)")
        var random = Random(seed: seed)
        try await TestCluster.run { cluster in
            let ipam = try LedgerIPAM()
            var patience = KubernetesClient.Patience()
            patience.longestPause = .milliseconds(50)
            patience.watchSilence = .milliseconds(500)
            let nodes = ["node-a", "node-b"].map { node in
                PlayedNode(
                    name: node, ipam: ipam,
                    source: KubernetesSource(
                        node: node,
                        client: KubernetesClient(cluster.configuration, patience: patience, log: NodeOnCluster.quiet),
                        log: NodeOnCluster.quiet))
            }
            var kubelet = Kubelet(nodes: nodes)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for node in nodes { group.addTask { try await node.run() } }
                for event in try Story(name).events {
                    if weather == .foul { disturb(cluster, &random) }
                    try cluster.play(event)
                    try await kubelet.follow(event)
                    if weather == .fair || Bool.random(using: &random) {
                        try await settle(cluster, ipam, "seed \(seed) at \(event.resourceVersion)")
                    }
                }
                try await settle(cluster, ipam, "seed \(seed) at the end")
                group.cancelAll()
            }
            #expect(kubelet.addresses.count == 1, "seed \(seed)")
            // The VM has been deleted; that is for the server to find out, which sees the whole cluster.
            let binding = try #require(ipam.bindings.first)
            #expect(ipam.bindings.count == 1 && binding.state == .reserved && binding.owner.name == "testvm")
        }
    }

    private func disturb(_ cluster: TestCluster, _ random: inout Random) {
        switch UInt8.random(in: 0..<20, using: &random) {
        case 0: cluster.endWatches(inMidLine: Bool.random(using: &random))
        case 1:
            cluster.compact(asEvent: Bool.random(using: &random))
            cluster.endWatches()
        case 2: cluster.freezeWatches()
        case 3: cluster.fail("watch", status: 500)
        case 4: cluster.fail("get", status: 429, retryAfter: 0)
        case 5: cluster.hold([.pods, .virtualMachineInstances].randomElement(using: &random) ?? .pods)
        case 6...8: cluster.release()
        default: break
        }
    }

    /// Waits until the binding is where the cluster says that the VM is.
    private func settle(_ cluster: TestCluster, _ ipam: LedgerIPAM, _ moment: String) async throws {
        func all<Object: Decodable>(_ type: Object.Type, _ resource: KubernetesResource) throws -> [Object] {
            try cluster.objects(resource).map { try JSONDecoder().decode(type, from: $0.json) }
        }
        let migrations = try all(VirtualMachineInstanceMigration.self, .virtualMachineInstanceMigrations)
        guard migrations.allSatisfy(\.hasEnded) else { return }
        cluster.release()
        let instance = try all(VirtualMachineInstance.self, .virtualMachineInstances).first
        let pods = try all(Pod.self, .pods)
        func isSettled() -> Bool {
            guard let binding = ipam.bindings.first else { return true }
            if binding.state == .migrating { return false }
            guard let active = binding.active, let node = instance?.nodeName,
                let pod = pods.first(where: { $0.metadata.uid == active.podUID }), !pod.hasEnded,
                pod.metadata.controller?.uid == instance?.metadata.uid
            else { return true }
            return active.node == node
        }
        let deadline = ContinuousClock.now + .seconds(60)
        while !isSettled(), .now < deadline { try await Task.sleep(for: .milliseconds(2)) }
        #expect(isSettled(), "\(moment): \(String(describing: ipam.bindings.first))")
    }
}

/// An agent without its socket.
private struct PlayedNode: Sendable {
    let name: String
    let ipam: LedgerIPAM
    let source: KubernetesSource

    var handler: AttachmentHandler {
        AttachmentHandler(node: name, ipam: ipam, source: source, log: NodeOnCluster.quiet)
    }

    func run() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await source.run() }
            group.addTask {
                try await ReconciliationService(
                    Reconciliation(node: name, ipam: ipam, source: source, log: NodeOnCluster.quiet)
                ).run()
            }
            try await group.waitForAll()
        }
    }
}

/// Calls CNI when a pod has come to its node, and when it has ended or gone.
private struct Kubelet {
    let nodes: [PlayedNode]
    private var attached: Set<String> = []
    private(set) var addresses: Set<String> = []

    init(nodes: [PlayedNode]) { self.nodes = nodes }

    mutating func follow(_ event: Story.Event) async throws {
        guard event.kind == "Pod" else { return }
        let pod = try JSONDecoder().decode(Pod.self, from: event.object)
        guard let node = nodes.first(where: { $0.name == pod.nodeName }) else { return }
        let isAdd = event.change != .deleted && !pod.hasEnded
        if isAdd, !attached.insert(pod.metadata.uid).inserted { return }
        let request = AgentRequest(
            environment: [
                "CNI_COMMAND": isAdd ? "ADD" : "DEL", "CNI_CONTAINERID": "sandbox-\(pod.metadata.name)",
                "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": "eth0",
                "CNI_ARGS": """
                K8S_POD_NAMESPACE=\(pod.metadata.namespace);K8S_POD_NAME=\(pod.metadata.name);\
                K8S_POD_UID=\(pod.metadata.uid)
                """,
            ],
            configuration: [
                "cniVersion": "1.0.0", "name": "vm-net", "type": "bridge", "ipam": ["type": "holdfast-cni"],
            ])
        guard isAdd else { return try await node.handler.delete(request) }
        let answer = try await add(request, on: node)
        for ip in answer["result"]?["ips"]?.array ?? [] { addresses.insert(ip["address"]?.string ?? "") }
    }

    /// Again and again while an agent says that it may help, as a kubelet does.
    private func add(_ request: AgentRequest, on node: PlayedNode) async throws -> JSON {
        let deadline = ContinuousClock.now + .seconds(60)
        while true {
            do throws(CNIError) {
                return try await node.handler.add(request)
            } catch {
                guard error.code == .tryAgainLater, .now < deadline else { throw error }
            }
            try await Task.sleep(for: .milliseconds(10))
        }
    }
}
