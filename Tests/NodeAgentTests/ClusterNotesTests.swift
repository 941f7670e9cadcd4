import KubernetesAPI
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
                    return pod?.contains("holdfast.dev/addresses.eth0") == true
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
}
