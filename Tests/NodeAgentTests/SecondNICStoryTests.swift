import CNI
import Foundation
import IPAMModel
import KubeVirt
import Logging
import NodeAgent
import Testing

/// What a real API server sent while a VM with a second NIC was restarted, migrated and deleted, played to two agents:
/// kubelet's call for the pod's first NIC, Multus' for the other.
struct SecondNICStoryTests {
    private let ipam: LedgerIPAM
    private let source = StatedSource()

    init() throws { ipam = try LedgerIPAM() }

    private static let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    private static let second = MachineNetwork(name: "net1").interface

    private func call(_ verb: String, _ interface: String, of pod: Pod, on node: String) async throws -> JSON? {
        var network: JSONObject = [
            "cniVersion": "1.0.0", "name": "vm-net", "type": "bridge", "ipam": ["type": "holdfast-cni"],
        ]
        var args = "K8S_POD_NAMESPACE=\(pod.metadata.namespace);K8S_POD_NAME=\(pod.metadata.name)"
        if interface != "eth0" {
            network["name"] = "vlan10"
            network["ipam"] = ["type": "holdfast-cni", "range": "10.20.0.0/24"]
            // What the pod's annotation says, as Multus passes it on.
            args += ";MAC=02:00:00:aa:bb:01"
        }
        let handler = AttachmentHandler(node: node, ipam: ipam, source: source, log: Self.log)
        let request = AgentRequest(
            environment: [
                "CNI_COMMAND": verb, "CNI_CONTAINERID": "sandbox-\(pod.metadata.name)", "CNI_NETNS": "/run/netns/x",
                "CNI_IFNAME": interface, "CNI_ARGS": args,
            ], configuration: network)
        if verb == "ADD" { return try await handler.add(request) }
        try await handler.delete(request)
        return nil
    }

    @Test func `both NICs keep their addresses and MACs, each its own, until the VM is deleted`() async throws {
        var objects = ClusterObjects()
        objects.virtualMachines = [
            VirtualMachine(metadata: ObjectMeta(namespace: "default", name: "other", uid: "other"))
        ]
        var agents = ["node-a", "node-b"].map { Reconciliation(node: $0, ipam: ipam, source: source, log: Self.log) }
        var attached: Set<String> = []
        var seen: [String: Set<String>] = [:]
        var now = ContinuousClock.now
        for event in try Recording.events(of: "secondary") {
            objects.apply(event)
            source.state(objects)
            if case .pod(let pod) = event.object, let node = pod.nodeName {
                for interface in ["eth0", Self.second] {
                    if event.isDeletion || pod.hasEnded {
                        _ = try await call("DEL", interface, of: pod, on: node)
                    } else if attached.insert(pod.metadata.uid + interface).inserted {
                        let answer = try await call("ADD", interface, of: pod, on: node)
                        let address = answer?["result"]?["ips"]?.array?.first?["address"]?.string ?? ""
                        seen[interface, default: []].insert("\(address) \(answer?["mac"]?.string ?? "")")
                    }
                }
            }
            for _ in 0..<2 {
                now += .seconds(6)
                for index in agents.indices { await agents[index].pass(at: now) }
            }
            let hasMachine = objects.virtualMachines.contains { $0.metadata.name == "testvm" }
            if hasMachine, !attached.isEmpty {
                let carriers = ipam.bindings.map { $0.active?.podUID }
                #expect(carriers.count == 2 && Set(carriers).count == 1)
            }
        }
        for _ in 0..<4 {
            now += .seconds(6)
            for index in agents.indices { await agents[index].pass(at: now) }
        }
        #expect(seen.count == 2 && seen.values.allSatisfy { $0.count == 1 }, "\(seen)")
        #expect(seen[Self.second] == ["10.20.0.1/24 02:00:00:aa:bb:01"])
        #expect(attached.count > 4 && ipam.bindings.isEmpty)
    }
}
