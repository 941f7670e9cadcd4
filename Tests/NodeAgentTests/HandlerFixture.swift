import CNI
import IPAMModel
import KubeVirt
import Synchronization
import TestLog

@testable import NodeAgent

/// A handler on the real rules, and pods that the test states: `web`, whose owner it is itself, and `launcher`, of the
/// machine `testvm`. Both are on `node-a`.
struct HandlerFixture {
    let ipam: LedgerIPAM
    let source = StatedSource()
    let handler: AttachmentHandler
    let log = RecordedLog()
    /// What the handler is told of its copies.
    let hasCopies = Flag()

    final class Flag: Sendable {
        private let value = Mutex(false)
        var isSet: Bool { value.withLock { $0 } }
        func set(_ newValue: Bool) { value.withLock { $0 = newValue } }
    }

    init(node: String = "node-a", ipam: LedgerIPAM? = nil) throws {
        let ipam = try ipam ?? LedgerIPAM()
        self.ipam = ipam
        handler = AttachmentHandler(
            node: node, ipam: ipam, source: source, log: log.logger,
            servesKnownMachines: { [hasCopies] in hasCopies.isSet })
        var objects = ClusterObjects()
        objects.pods = [
            Pod(metadata: ObjectMeta(namespace: "default", name: "web", uid: "uid-web"), nodeName: node),
            Pod(
                metadata: ObjectMeta(
                    namespace: "default", name: "launcher", uid: "uid-launcher",
                    owners: [
                        OwnerReference(
                            apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", name: "testvm", uid: "vmi-1")
                    ]), nodeName: node),
        ]
        objects.instances = [
            VirtualMachineInstance(
                metadata: ObjectMeta(
                    namespace: "default", name: "testvm", uid: "vmi-1",
                    owners: [
                        OwnerReference(
                            apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name: "testvm", uid: "vm-1")
                    ]))
        ]
        source.state(objects)
    }

    static let ipamNetwork: JSONObject = [
        "cniVersion": "1.1.0", "name": "vm-net", "type": "bridge", "ipam": ["type": "holdfast-cni", "pool": "vms"],
    ]
    static let mainNetwork: JSONObject = [
        "cniVersion": "1.1.0", "name": "vm-net", "type": "holdfast-cni", "pool": "vms", "delegate": ["type": "bridge"],
    ]

    func request(
        _ verb: String, pod: String = "web", container: String = "c1", interface: String = "eth0",
        network: JSONObject = HandlerFixture.ipamNetwork, _ member: (String, JSON)? = nil
    ) -> AgentRequest {
        var network = network
        if let (key, value) = member { network[key] = value }
        return AgentRequest(
            environment: [
                "CNI_COMMAND": verb, "CNI_CONTAINERID": container, "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": interface,
                "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=\(pod)", "CNI_PATH": "/opt/cni/bin",
            ], configuration: network)
    }

    func add(pod: String = "web", container: String = "c1", interface: String = "eth0") async throws {
        _ = try await handler.add(request("ADD", pod: pod, container: container, interface: interface))
    }

    /// The error of what is expected to fail.
    func refusal(_ body: () async throws(CNIError) -> Void) async -> CNIError? {
        do throws(CNIError) {
            try await body()
            return nil
        } catch {
            return error
        }
    }
}
