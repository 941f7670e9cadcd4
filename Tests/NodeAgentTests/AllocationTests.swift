import Addresses
import CNI
import IPAMAPI
import IPAMModel
import KubeVirt
import Ledger
import Logging
import NodeAgent
import Testing

/// What an ADD asks the service for, out of annotations, the runtime's call and the network's pool.
struct AllocationTests {
    private let ipam: LedgerIPAM
    private let source = StatedSource()
    private let handler: AttachmentHandler

    init() throws {
        ipam = try LedgerIPAM()
        handler = AttachmentHandler(
            node: "node-a", ipam: ipam, source: source, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    /// A pod of a VM of that name; without one a plain pod.
    private func pod(_ name: String = "web", machine: String? = nil, annotations: [String: String] = [:]) async {
        var objects = await source.read().objects
        objects.pods.removeAll { $0.metadata.name == name }
        objects.pods.append(
            Pod(
                metadata: ObjectMeta(
                    namespace: "default", name: name, uid: "uid-\(name)", annotations: annotations,
                    owners: machine.map {
                        [
                            OwnerReference(
                                apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", name: $0, uid: "vmi-\($0)"
                            )
                        ]
                    } ?? []), nodeName: "node-a"))
        if let machine {
            objects.instances.append(
                VirtualMachineInstance(
                    metadata: ObjectMeta(namespace: "default", name: machine, uid: "vmi-\(machine)"),
                    networks: [MachineNetwork(name: "default", isPrimary: true), MachineNetwork(name: "blue")]))
        }
        source.state(objects)
    }

    private func add(
        pod: String = "web", container: String? = nil, interface: String = "eth0", args: String = "",
        configuration extra: JSONObject = [:]
    ) async throws(CNIError) -> [String] {
        var configuration: JSONObject = [
            "cniVersion": "1.0.0", "name": "vm-net", "type": "bridge", "ipam": ["type": "holdfast-cni", "pool": "vms"],
        ]
        for member in extra.members { configuration[member.key] = member.value }
        let answer = try await handler.add(
            AgentRequest(
                environment: [
                    "CNI_COMMAND": "ADD", "CNI_CONTAINERID": container ?? "c-\(pod)", "CNI_NETNS": "/run/netns/x",
                    "CNI_IFNAME": interface,
                    "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=\(pod)" + (args.isEmpty ? "" : ";\(args)"),
                ], configuration: configuration))
        return answer["result"]?["ips"]?.array?.compactMap { $0["address"]?.string } ?? []
    }

    private func refusal(_ body: () async throws(CNIError) -> [String]) async -> CNIError? {
        do {
            _ = try await body()
            return nil
        } catch {
            return error
        }
    }

    @Test(
        arguments: [
            ("IP=10.16.0.40;MAC=02:00:00:00:00:04", [:]),
            ("IP=10.16.0.40/16;MAC=02:00:00:00:00:04", ["runtimeConfig": ["mac": "02:00:00:00:00:04"]]),
            ("", ["runtimeConfig": ["ips": ["10.16.0.40/16"], "mac": "02:00:00:00:00:04"]]),
            ("", ["args": ["cni": ["ips": ["10.16.0.40"], "mac": "02:00:00:00:00:04"]]]),
            (
                "IP=10.16.0.40",
                ["runtimeConfig": ["ips": ["10.16.0.40"]], "args": ["cni": ["mac": "02:00:00:00:00:04"]]]
            ),
        ] as [(String, JSONObject)])
    func `what Multus and other runtimes ask for is read from capabilities, args and CNI_ARGS`(
        args: String, configuration: JSONObject
    ) async throws {
        await pod()
        #expect(try await add(args: args, configuration: configuration) == ["10.16.0.40/16"])
        #expect(ipam.bindings.first?.mac.description == "02:00:00:00:00:04")
    }

    @Test
    func `runtime and annotation that contradict each other are refused by both names, before the server is asked`()
        async
    {
        await pod(annotations: ["ovn.kubernetes.io/mac_address": "02:00:00:00:00:0f"])
        let refusal = await refusal { () throws(CNIError) in
            try await add(configuration: ["args": ["cni": ["mac": "02:00:00:00:00:01"]]])
        }
        #expect(refusal?.code == .badAnnotation)
        #expect(
            refusal?.message == #"annotation ovn.kubernetes.io/mac_address has the value "02:00:00:00:00:0f", and "#
                + #"args.cni.mac has "02:00:00:00:00:01": they contradict each other"#)
        #expect(ipam.calls.isEmpty)
    }

    @Test(
        arguments: [
            ("MAC=02", [:]), ("IP=10.16.0", [:]), ("", ["runtimeConfig": ["ips": "10.16.0.1"]]),
            ("", ["args": ["cni": ["ips": [1]]]]), ("", ["args": ["cni": ["mac": 2]]]),
            ("MAC=02:00:00:00:00:01", ["runtimeConfig": ["mac": "02:00:00:00:00:02"]]),
        ] as [(String, JSONObject)])
    func `a runtime's wish that cannot be honoured is code 7`(args: String, configuration: JSONObject) async {
        await pod()
        let refusal = await refusal { () throws(CNIError) in try await add(args: args, configuration: configuration) }
        #expect(refusal?.code == .invalidConfiguration)
        #expect(ipam.calls.isEmpty)
    }

    @Test func `owners take the first free address of a list, keep it, and are told when all are taken`() async throws {
        let list = ["ovn.kubernetes.io/ip_pool": "10.16.0.15,10.16.0.16"]
        for (name, address) in [("a", "10.16.0.15/16"), ("b", "10.16.0.16/16")] {
            await pod("pod-\(name)", machine: "vm-\(name)", annotations: list)
            #expect(try await add(pod: "pod-\(name)") == [address])
        }
        // A restart, though the first of the list would be asked for by a new owner.
        await pod("pod-b2", machine: "vm-b", annotations: list)
        #expect(try await add(pod: "pod-b2") == ["10.16.0.16/16"])
        // A pod's second sandbox.
        await pod("plain", annotations: ["ovn.kubernetes.io/ip_pool": "10.16.0.15,10.16.0.17"])
        for container in ["c1", "c2"] {
            #expect(try await add(pod: "plain", container: container) == ["10.16.0.17/16"])
        }

        await pod("pod-c", machine: "vm-c", annotations: list)
        let refusal = await refusal { () throws(CNIError) in try await add(pod: "pod-c") }
        #expect(refusal?.code == .exhausted)
        #expect(refusal?.message.contains("none of the 2 listed addresses is free") == true)
        #expect(refusal?.message.contains("vm-a") == true && refusal?.message.contains("vm-b") == true)
    }

    @Test func `a listed address that waits in quarantine is passed over, and one that no pool has is not`()
        async throws
    {
        let other = Owner(kind: .virtualMachine, namespace: "default", name: "gone", network: "vm-net/eth0")
        try ipam.apply(.allocate(AllocateRequest(owner: other, addresses: [try #require(IPAddress("10.16.0.15"))])))
        try ipam.apply(.release(.binding(other)))
        await pod(annotations: ["ovn.kubernetes.io/ip_pool": "10.16.0.15,10.16.0.16"])
        #expect(try await add() == ["10.16.0.16/16"])

        await pod("other", annotations: ["ovn.kubernetes.io/ip_pool": "10.99.0.15,10.16.0.17"])
        let refusal = await refusal { () throws(CNIError) in try await add(pod: "other") }
        #expect(refusal?.code == .invalidRequest && refusal?.message.contains("10.99.0.15") == true)
    }

    @Test func `each NIC of a VM has its own wishes`() async throws {
        await pod(
            machine: "testvm",
            annotations: [
                "network.kubevirt.io/addresses": #"{"default": ["10.16.0.20"], "blue": ["10.17.0.20"]}"#,
                "holdfast.dev/pool.blue": "other", "holdfast.dev/mac.blue": "02:00:00:00:00:20",
            ])
        #expect(try await add() == ["10.16.0.20/16"])
        let blue = try await add(interface: MachineNetwork(name: "blue").interface)
        #expect(blue == ["10.17.0.20/16", "fd00::2/64"])
        #expect(ipam.bindings.map(\.pool) == ["vms", "other"])
        #expect(ipam.bindings.last?.mac.description == "02:00:00:00:00:20")
    }
}
