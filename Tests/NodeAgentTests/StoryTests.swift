import CNI
import Foundation
import IPAMModel
import KubeVirt
import Logging
import NodeAgent
import Testing

/// What a real API server sent while KubeVirt's controllers ran VMs, played to two agents: CNI is called as kubelet would,
/// and passes run after some events only, twice or late, with the server away now and then.
struct StoryTests {
    enum Disturbance: CaseIterable { case none, skippedPasses, serverAway, agentRestarts }

    @Test(
        arguments: ["lifecycle", "migrate", "migrate-failures", "secondary"], Disturbance.allCases)
    func `a VM's address is held from its first pod to its deletion, by the pod that carries it`(
        story: String, disturbance: Disturbance
    ) async throws {
        let seed = UInt64.random(in: .min ... .max)
        print("\(story) \(disturbance) seed \(seed)")
        var player = try Player(disturbance: disturbance, random: Random(seed: seed))
        for event in try Recording.events(of: story) {
            try await player.play(event)
            try player.checkHeld()
        }
        try await player.settle()
        // The VM's UID left with it, and its binding.
        #expect(player.ipam.bindings.isEmpty, "seed \(seed)")
        #expect(player.addresses.count == 1, "seed \(seed)")
        #expect(player.checks > 0)
    }
}

private struct Player {
    let ipam: LedgerIPAM
    private let source = StatedSource()
    private let disturbance: StoryTests.Disturbance
    private var random: Random
    private var objects = ClusterObjects()
    private var agents: [String: Reconciliation] = [:]
    private var now = ContinuousClock.now
    private var attached: Set<String> = []
    private(set) var addresses: Set<String> = []
    private(set) var checks = 0
    private var isSettled = true

    init(disturbance: StoryTests.Disturbance, random: Random) throws {
        ipam = try LedgerIPAM()
        self.disturbance = disturbance
        self.random = random
        // Something that stays, as in any cluster: a source that shows nothing is not believed.
        objects.virtualMachines = [
            VirtualMachine(metadata: ObjectMeta(namespace: "default", name: "other", uid: "other"))
        ]
        for node in ["node-a", "node-b"] { agents[node] = agent(node) }
    }

    private func agent(_ node: String) -> Reconciliation {
        Reconciliation(node: node, ipam: ipam, source: source, log: Self.log)
    }

    private static var log: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

    mutating func play(_ event: Recording.Event) async throws {
        objects.apply(event)
        source.state(objects)
        if case .pod(let pod) = event.object, let node = pod.nodeName {
            if event.isDeletion || pod.hasEnded {
                try await call(pod, node: node, isAdd: false)
            } else if attached.insert(pod.metadata.uid).inserted {
                try await call(pod, node: node, isAdd: true)
            }
        }
        isSettled = false
        switch disturbance {
        case .none: try await settle()
        case .skippedPasses:
            if Bool.random(using: &random) { try await settle() }
        case .serverAway:
            ipam.fail(with: IPAMError(.unavailable, .noAnswer, "away"))
            await pass()
            ipam.fail(with: nil)
            if Bool.random(using: &random) { try await settle() }
        case .agentRestarts:
            try await settle()
            // Not between a VM's last sight and its release: what an agent has never seen it does not miss.
            let node = Bool.random(using: &random) ? "node-a" : "node-b"
            if objects.virtualMachines.count > 1 { agents[node] = agent(node) }
        }
    }

    /// Passes until all that stands there has been carried out, also after a back-off.
    mutating func settle() async throws {
        for _ in 0..<4 { await pass() }
        isSettled = true
    }

    private mutating func pass() async {
        now += .seconds(6)
        for node in agents.keys.sorted() { await agents[node]?.pass(at: now) }
    }

    private mutating func call(_ pod: Pod, node: String, isAdd: Bool) async throws {
        let handler = AttachmentHandler(node: node, ipam: ipam, source: source, log: Self.log)
        let request = AgentRequest(
            environment: [
                "CNI_COMMAND": isAdd ? "ADD" : "DEL", "CNI_CONTAINERID": "sandbox-\(pod.metadata.name)",
                "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": "eth0",
                "CNI_ARGS": "K8S_POD_NAMESPACE=\(pod.metadata.namespace);K8S_POD_NAME=\(pod.metadata.name)",
            ],
            configuration: [
                "cniVersion": "1.0.0", "name": "vm-net", "type": "bridge", "ipam": ["type": "holdfast-cni"],
            ])
        if isAdd {
            let answer = try await handler.add(request)
            for ip in answer["result"]?["ips"]?.array ?? [] { addresses.insert(ip["address"]?.string ?? "") }
        } else {
            try await handler.delete(request)
        }
    }

    /// While a VM is there so is its binding; and its carrier is on the node that KubeVirt says the VM belongs to.
    mutating func checkHeld() throws {
        guard let machine = objects.virtualMachines.first(where: { $0.metadata.name == "testvm" }), !attached.isEmpty
        else { return }
        let binding = try #require(ipam.bindings.first)
        #expect(ipam.bindings.count == 1 && binding.owner.uid == machine.metadata.uid)
        guard isSettled, let instance = objects.instances.first, let active = binding.active else { return }
        let final = objects.migrations.allSatisfy { $0.phase == "Succeeded" || $0.phase == "Failed" }
        if final, binding.state == .migrating { Issue.record("a migration is open that has ended") }
        if final, let node = instance.nodeName, let pod = objects.pod(uid: active.podUID), !pod.hasEnded,
            pod.metadata.controller?.uid == instance.metadata.uid
        {
            #expect(active.node == node)
            checks += 1
        }
    }
}

/// SplitMix64: the same numbers for the same seed.
struct Random: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}
