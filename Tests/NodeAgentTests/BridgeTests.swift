import CNI
import Foundation
import Testing

/// Through Debian's real bridge plugin, in network namespaces.
@Suite(.serialized, .enabled(if: NetworkNamespaces.areUsable))
struct BridgeTests {
    private static let pod = """
        apiVersion: v1
        kind: Pod
        metadata: {namespace: default, name: web, uid: pod-1, creationTimestamp: 2026-11-24T04:40:00Z}
        spec: {nodeName: node-a}
        """

    @Test func `as IPAM plugin of bridge the pod's interface gets the binding's address and routes`() async throws {
        try await NodeFixture.run { fixture in
            let configuration: JSON = [
                "cniVersion": "1.0.0", "name": "vm-net", "type": "bridge",
                "bridge": .string(fixture.bridgeName()),
                "ipam": ["type": "holdfast-cni", "socket": .string(fixture.socket)],
            ]
            try fixture.write(Self.pod, to: "web.yaml")
            let netns = try fixture.makeNamespace()
            let added = try Command.run(
                ["/usr/lib/cni/bridge"],
                environment: [
                    "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/var/run/netns/\(netns)",
                    "CNI_IFNAME": "eth0", "CNI_PATH": "/usr/lib/cni:\(Command.products)",
                    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=pod-1",
                ], input: configuration.description)
            print(added.output, added.errors)
            try added.requireSuccess()
            print(try Command.run(["ip", "-n", netns, "addr"]).output)
            print(try Command.run(["ip", "-n", netns, "route"]).output)
        }
    }
}

enum NetworkNamespaces {
    static let areUsable: Bool = {
        guard FileManager.default.isExecutableFile(atPath: "/usr/lib/cni/bridge") else {
            print("skipped: tests in network namespaces need /usr/lib/cni/bridge (containernetworking-plugins)")
            return false
        }
        let name = "hf-probe-\(UUID().uuidString.prefix(6).lowercased())"
        guard let made = try? Command.run(["ip", "netns", "add", name]), made.status == 0 else {
            print("skipped: tests in network namespaces need root and the right to make namespaces")
            return false
        }
        _ = try? Command.run(["ip", "netns", "del", name])
        return true
    }()
}
