import Addresses
import CNI
import IPAMAPI
import IPAMModel
import KubeVirt
import KubernetesAPI
import Ledger
import NodeAgent
import TestCluster
import Testing

struct ClusterNotesTests {
    @Test func `a pod is annotated once the API server lets it be`() async throws {
        try await NodeOnCluster.run(watching: false) { node in
            let client = KubernetesClient(node.cluster.configuration, log: NodeOnCluster.quiet)
            let notes = ClusterNotes(node: "node-a", client: client, annotatesPods: true, log: NodeOnCluster.quiet)
            let handler = AttachmentHandler(
                node: "node-a", ipam: node.ipam, source: node.source, cluster: notes, log: NodeOnCluster.quiet)
            node.cluster.fail("patch", .podStatus, status: 403, times: 2)
            node.cluster.fail("patch", .podStatus, status: 500)
            let names = ["first", "second"]
            for name in names {
                try node.cluster.put(Manifest.pod(name))
                _ = try await handler.add(node.request(name, uid: "uid-\(name)"))
            }
            let writing = Task { try await notes.run() }
            await node.wait {
                names.allSatisfy { name in
                    let pod = node.cluster.object(.pods, name: name).map { String(decoding: $0.json, as: UTF8.self) }
                    return pod?.contains("holdfast.dev/assigned-addresses.eth0") == true
                }
            }
            // In the order of the ADDs: the later of two is right.
            let patched = node.cluster.requests.filter { $0.verb == "patch" && $0.resource == .podStatus }
            #expect(patched.map(\.name) == ["first", "first", "first", "first", "second"])
            writing.cancel()
            try await writing.value
            await client.shutDown()
        }
    }

    /// As after a node's reboot: the pod is the same, and so are its annotations.
    @Test func `what was written on a pod asks for nothing when its next sandbox is made`() async throws {
        try await NodeOnCluster.run(watching: false) { node in
            let client = KubernetesClient(node.cluster.configuration, log: NodeOnCluster.quiet)
            let notes = ClusterNotes(node: "node-a", client: client, annotatesPods: true, log: NodeOnCluster.quiet)
            let handler = AttachmentHandler(
                node: "node-a", ipam: node.ipam, source: node.source, cluster: notes, log: NodeOnCluster.quiet)
            try node.cluster.put(Manifest.pod("web"))
            _ = try await handler.add(node.request("web", uid: "uid-web", container: "c1"))
            let former = try #require(node.ipam.bindings.first)
            let writing = Task { try await notes.run() }
            await node.wait {
                let pod = node.cluster.object(.pods, name: "web").map { String(decoding: $0.json, as: UTF8.self) }
                return pod?.contains("\(former.mac)") == true
            }
            var del = node.request("web", uid: "uid-web", container: "c1")
            del.environment["CNI_COMMAND"] = "DEL"
            try await handler.delete(del)
            var pool = try await node.ipam.pool(named: former.pool, timeout: .seconds(1)).pool
            for address in former.assignments.map(\.address) {
                for index in pool.prefixes.indices where pool.prefixes[index].prefix.contains(address) {
                    pool.prefixes[index].excluded.append(AddressRange(from: address, through: address))
                }
            }
            try node.ipam.apply(.updatePool(pool, for: nil))
            _ = try await handler.add(node.request("web", uid: "uid-web", container: "c2"))
            let present = try #require(node.ipam.bindings.first)
            #expect(present.active?.containerID == "c2")
            #expect(Set(present.assignments.map(\.address)).isDisjoint(with: former.assignments.map(\.address)))
            writing.cancel()
            try await writing.value
            await client.shutDown()
        }
    }

    @Test func `an ADD that is refused again for the same reason is one event, with its newest words`() async throws {
        try await NodeOnCluster.run(watching: false) { node in
            let client = KubernetesClient(node.cluster.configuration, log: NodeOnCluster.quiet)
            let notes = ClusterNotes(node: "node-a", client: client, annotatesPods: false, log: NodeOnCluster.quiet)
            let handler = AttachmentHandler(
                node: "node-a", ipam: node.ipam, source: node.source, cluster: notes, log: NodeOnCluster.quiet)
            func shown() -> [String] { node.cluster.objects(.events).map { String(decoding: $0.json, as: UTF8.self) } }
            func refuse(_ reason: IPAMError.Reason, _ words: String, until isShown: ([String]) -> Bool) async {
                node.ipam.fail(with: IPAMError(.resourceExhausted, reason, words))
                _ = try? await handler.add(node.request("web", uid: "uid-web"))
                await node.wait { isShown(shown()) }
            }
            try node.cluster.put(Manifest.pod("web"))
            let writing = Task { try await notes.run() }
            for time in ["10:00:01", "10:00:16", "10:00:31"] {
                await refuse(.poolExhausted, "full until \(time)") { $0.contains { $0.contains(time) } }
            }
            #expect(shown().count == 1 && shown().first?.contains(#""count":3"#) == true, "\(shown())")
            await refuse(.quotaExceeded, "full until 10:00:46") { $0.count == 2 }
            // Nor does the server need to be asked.
            try node.cluster.put(Manifest.pod("web", node: "node-b"))
            _ = try? await handler.add(node.request("web", uid: "uid-web"))
            await node.wait { shown().contains { $0.contains("belongs to node node-b") } }
            writing.cancel()
            try await writing.value
            await client.shutDown()
        }
    }

    @Test func `that an instance of no VM has migrated is told on the instance`() async throws {
        try await NodeOnCluster.run { node in
            let client = KubernetesClient(node.cluster.configuration, log: NodeOnCluster.quiet)
            let notes = ClusterNotes(node: "node-a", client: client, annotatesPods: false, log: NodeOnCluster.quiet)
            let owner = Owner(
                kind: .virtualMachine, namespace: "default", name: "testvm", uid: "vmi-1", network: "vm-net/eth0")
            let source = IPAMModel.Attachment(node: "node-b", pod: "source", podUID: "uid-source", containerID: "c0")
            try node.ipam.apply(.allocate(AllocateRequest(owner: owner, attachment: source)))
            try node.cluster.put(
                Manifest.instance(labels: [KubeVirtName.migrationTargetNodeName: "node-a"], machine: nil))
            try node.cluster.put(Manifest.migration())
            try node.cluster.put(Manifest.pod("target", instance: "testvm", migration: (uid: "vmim-1", name: "m")))
            _ = try await node.handler.add(node.request("target", uid: "uid-target"))
            try node.cluster.put(Manifest.migration(phase: "Succeeded"))
            await node.wait {
                let objects = await node.source.read().objects
                return objects.instances.count == 1 && objects.migrations.first?.hasEnded == true
            }
            var agent = Reconciliation(
                node: "node-a", ipam: node.ipam, source: node.source, cluster: notes, log: NodeOnCluster.quiet)
            await agent.pass(at: .now)
            #expect(node.ipam.bindings.first?.active?.podUID == "uid-target")
            let writing = Task { try await notes.run() }
            await node.wait {
                node.cluster.objects(.events).contains {
                    let text = String(decoding: $0.json, as: UTF8.self)
                    return text.contains(#""Migrated""#) && text.contains(#""VirtualMachineInstance""#)
                }
            }
            writing.cancel()
            try await writing.value
            await client.shutDown()
        }
    }
}
