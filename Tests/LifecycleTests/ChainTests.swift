import Addresses
import Foundation
import IPAMAPI
import IPAMModel
import KubeVirt
import KubernetesAPI
import Lifecycle
import TestCluster
import Testing

/// VM objects in, the plugin called at the moments that kubelet would, the pods' interfaces and the ledger read.
@Suite(.serialized) struct ChainTests {
    enum Disturbance: CaseIterable { case none, crashes }

    @Test(arguments: Story.names, Disturbance.allCases)
    func `through a whole story the VM's addresses are its own, with the pod that KubeVirt says`(
        story name: String, disturbance: Disturbance
    ) async throws {
        let seed =
            ProcessInfo.processInfo.environment["HOLDFAST_SEED"].flatMap(UInt64.init) ?? .random(in: .min ... .max)
        print("\(name) \(disturbance) seed \(seed)")
        var random = Random(seed: seed)
        let story = try Story(name)
        let networks =
            [PlayedPod.Network(name: "vm-net", interface: "eth0")]
            + (name == "secondary" ? [PlayedPod.Network(name: "vlan10", interface: "pod6c270ef2f25")] : [])
        try await TestCluster.run { cluster in
            // As in any cluster there is another VM, halted.
            try cluster.put(
                """
                {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachine","metadata":{"namespace":"default","name":"idle",\
                "uid":"idle"}}
                """)
            let chain = try Chain(cluster)
            do {
                let idle = try await chain.client.allocate(
                    AllocateRequest(owner: vm("idle", uid: "idle")), timeout: .seconds(20))
                try await play(story, networks, cluster, chain, disturbance, &random)
                // The halted VM has kept its address.
                let left = try await chain.client.bindings(matching: BindingFilter(), timeout: .seconds(20))
                #expect(left.map(\.assignments) == [idle.binding.binding.assignments], "seed \(seed)")
            } catch {
                for process in ["server"] + Chain.nodes { print(process, chain.log(of: process)) }
                await chain.stop()
                throw error
            }
            await chain.stop()
        }
    }

    private func play(
        _ story: Story, _ networks: [PlayedPod.Network], _ cluster: TestCluster, _ chain: Chain,
        _ disturbance: Disturbance, _ random: inout Random
    ) async throws {
        var state = PlayedState()
        var attached: [String: PlayedPod] = [:]
        var assignments: [String: [Assignment]] = [:]
        for event in story.events {
            try cluster.play(event)
            state.take(event)
            if disturbance == .crashes { try crash(chain, &random) }
            if let pod = PlayedPod(event, networks: networks) {
                if pod.hasEnded, attached.removeValue(forKey: pod.uid) != nil {
                    try await chain.delete(pod)
                } else if !pod.hasEnded, attached[pod.uid] == nil {
                    try await chain.add(pod)
                    attached[pod.uid] = pod
                }
            }
            // A migration has come to an end: the ledger has the VM where KubeVirt has it.
            guard state.hasSettled(event), let carrier = attached.values.first(where: { $0.node == state.node }) else {
                continue
            }
            try await eventually("\(event.name) settled") {
                let bindings = try await chain.client.bindings(
                    matching: BindingFilter(name: "testvm"), timeout: .seconds(20))
                return bindings.count == networks.count
                    && bindings.allSatisfy { $0.state == .bound && $0.active?.podUID == carrier.uid }
            }
            for binding in try await chain.client.bindings(
                matching: BindingFilter(name: "testvm"), timeout: .seconds(20))
            {
                #expect(binding.owner.uid == state.machineUID)
                #expect(assignments[binding.owner.network] ?? binding.assignments == binding.assignments)
                assignments[binding.owner.network] = binding.assignments
                let network = try #require(networks.first { "\($0.name)/\($0.interface)" == binding.owner.network })
                if let addresses = try chain.addresses(of: carrier, network) {
                    #expect(addresses == binding.assignments.map { "\($0.address)" })
                }
            }
        }
        #expect(attached.isEmpty && assignments.count == networks.count)
        try await eventually("the deleted VM's addresses are freed") {
            try await chain.client.bindings(matching: BindingFilter(name: "testvm"), timeout: .seconds(20)).isEmpty
        }
    }

    /// Now and then one of the processes dies and is started again, at once.
    private func crash(_ chain: Chain, _ random: inout Random) throws {
        switch Int.random(in: 0..<24, using: &random) {
        case 0:
            chain.kill("server")
            try chain.startServer()
        case 1:
            let node = Chain.nodes.randomElement(using: &random) ?? "node-a"
            chain.kill(node)
            try chain.startAgent(node)
        default: break
        }
    }
}

/// What the story has come to.
private struct PlayedState {
    var machineUID = ""
    /// The node that the VM's instance belongs to.
    var node: String?

    private var openMigrations: Set<String> = []

    mutating func take(_ event: Story.Event) {
        if event.kind == "VirtualMachine" { machineUID = event.uid }
        if event.kind == "VirtualMachineInstanceMigration" {
            openMigrations.insert(event.uid)
            if event.change == .deleted || hasEnded(event) { openMigrations.remove(event.uid) }
        }
        guard event.kind == "VirtualMachineInstance" else { return }
        let status = event.members["status"] as? [String: Any]
        node = event.change == .deleted ? nil : status?["nodeName"] as? String
    }

    /// Whether it is the moment at which a run or a migration has come to rest.
    func hasSettled(_ event: Story.Event) -> Bool {
        guard event.change == .modified, openMigrations.isEmpty else { return false }
        return switch event.kind {
        case "VirtualMachineInstanceMigration": hasEnded(event)
        case "VirtualMachineInstance": phase(of: event) == "Running"
        default: false
        }
    }

    private func hasEnded(_ event: Story.Event) -> Bool { ["Succeeded", "Failed"].contains(phase(of: event)) }

    private func phase(of event: Story.Event) -> String? {
        (event.members["status"] as? [String: Any])?["phase"] as? String
    }
}
