import Addresses
import CNI
import IPAMAPI
import IPAMModel
import KubeVirt
import Ledger
import Logging
import NodeAgent
import TestLog
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

    /// Deleted with its instance orphaned, or restored from a backup of the cluster: another UID.
    @Test func `a VM made anew under its name stays where it is, whatever its network's pool and its list say first`()
        async throws
    {
        func owner(_ name: String) -> Owner {
            Owner(
                kind: .virtualMachine, namespace: "default", name: name, uid: "vm-of-before", network: "vm-net/eth0")
        }
        try ipam.apply(.allocate(AllocateRequest(owner: owner("vm-a"), pool: "other")))
        let held = try #require(ipam.bindings.first).assignments.map(\.address)
        await pod("pod-a", machine: "vm-a")
        #expect(try await add(pod: "pod-a").map { InterfaceAddress($0)?.address } == held)

        let second = try #require(IPAddress("10.16.0.16"))
        try ipam.apply(.allocate(AllocateRequest(owner: owner("vm-b"), addresses: [second])))
        await pod("pod-b", machine: "vm-b", annotations: ["ovn.kubernetes.io/ip_pool": "10.16.0.15,10.16.0.16"])
        #expect(try await add(pod: "pod-b") == ["10.16.0.16/16"])
    }

    @Test func `who has an address is told within its namespace, and to nobody else but the log`() async throws {
        let log = RecordedLog()
        let handler = AttachmentHandler(node: "node-a", ipam: ipam, source: source, log: log.logger)
        func told(_ annotations: [String: String]) async throws -> String {
            await pod(annotations: annotations)
            let error = await refusal { () throws(CNIError) in
                _ = try await handler.add(
                    AgentRequest(
                        environment: [
                            "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c", "CNI_NETNS": "/run/netns/x",
                            "CNI_IFNAME": "eth0", "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web",
                        ], configuration: HandlerFixture.ipamNetwork))
                return []
            }
            let refusal = try #require(error)
            return "\(refusal.message) (\(refusal.details))"
        }
        let addresses = ["10.16.0.15", "10.16.0.16", "10.16.0.17"]
        for (index, (namespace, address)) in zip(["default", "secret", "secret"], addresses).enumerated() {
            let owner = Owner(kind: .virtualMachine, namespace: namespace, name: "vm-\(index)", network: "vm-net/eth0")
            try ipam.apply(
                .allocate(
                    AllocateRequest(
                        owner: owner, addresses: [#require(IPAddress(address))],
                        mac: MACAddress("02:00:00:00:00:0\(index)"))))
            if index == 2 { try ipam.apply(.release(.binding(owner))) }
        }
        let own = try await told(["holdfast.dev/addresses": addresses[0]])
        #expect(own.contains("is held by vm default/vm-0 (vm-net/eth0)") && own.contains("holder=vm default/vm-0"))
        for wish in [
            ["holdfast.dev/addresses": addresses[1]], ["holdfast.dev/addresses": addresses[2]],
            ["holdfast.dev/mac": "02:00:00:00:00:01"],
        ] {
            let others = try await told(wish)
            #expect(others.contains("by an owner in another namespace") && !others.contains("secret"), "\(others)")
        }
        let list = try await told(["ovn.kubernetes.io/ip_pool": addresses.joined(separator: ",")])
        #expect(list.contains("vm-0") && !list.contains("secret"), "\(list)")
        #expect(list.contains("10.16.0.16 is held by an owner in another namespace;"), "\(list)")
        #expect(log.lines.count { $0.contains("vm secret/vm-1 (vm-net/eth0)") } == 3)
        #expect(log.lines.count { $0.contains("vm secret/vm-2 (vm-net/eth0)") } == 2)
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

    @Test func `a NIC that was plugged in a moment ago waits until its wishes can be seen`() async throws {
        let red = MachineNetwork(name: "red").interface
        func attach(_ networks: String) async -> CNIError? {
            await pod(
                machine: "testvm",
                annotations: ["k8s.v1.cni.cncf.io/networks": networks, "holdfast.dev/addresses.blue": "10.16.0.30"])
            return await refusal { () throws(CNIError) in
                try await add(interface: MachineNetwork(name: "blue").interface)
            }
        }
        let blue = MachineNetwork(name: "blue").interface
        #expect(await attach(#"[{"name":"a","interface":"\#(red)"}]"#)?.code == .tryAgainLater)
        #expect(ipam.calls.isEmpty)
        #expect(await attach(#"[{"name":"a","interface":"\#(red)"},{"name":"b","interface":"\#(blue)"}]"#) == nil)
        #expect(ipam.bindings.first?.assignments.first?.address == IPAddress("10.16.0.30"))
        // The pod has it, and the instance not yet.
        let early = await refusal { () throws(CNIError) in try await add(interface: red) }
        #expect(early?.code == .tryAgainLater)
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

/// ADD in a network that describes its pool by ranges.
struct InlineAllocationTests {
    private let ipam: LedgerIPAM
    private let source = StatedSource()

    init() throws { ipam = try LedgerIPAM() }

    /// As one agent; each has its own memory of which pools are there.
    private func agent() -> AttachmentHandler {
        AttachmentHandler(
            node: "node-a", ipam: ipam, source: source, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    private func pods(_ names: [String], in namespace: String = "default") {
        var objects = ClusterObjects()
        objects.pods = names.map {
            Pod(metadata: ObjectMeta(namespace: namespace, name: $0, uid: "uid-\($0)"), nodeName: "node-a")
        }
        source.state(objects)
    }

    private func add(
        _ pod: String, in namespace: String = "default", on agent: AttachmentHandler, network: String = "vlan10",
        _ ranges: JSONObject
    ) async throws(CNIError) -> JSON {
        var ipam = ranges
        ipam["type"] = "holdfast-cni"
        return try await agent.add(
            AgentRequest(
                environment: [
                    "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c-\(pod)", "CNI_NETNS": "/run/netns/x",
                    "CNI_IFNAME": "net1", "CNI_ARGS": "K8S_POD_NAMESPACE=\(namespace);K8S_POD_NAME=\(pod)",
                ],
                configuration: [
                    "cniVersion": "1.0.0", "name": .string(network), "type": "macvlan", "ipam": .object(ipam),
                ]))
    }

    private func refusal(_ body: () async throws(CNIError) -> JSON) async -> CNIError? {
        do {
            _ = try await body()
            return nil
        } catch {
            return error
        }
    }

    private var poolCalls: Int { ipam.calls.count { if case .pool = $0 { true } else { false } } }

    private let ranges: JSONObject = [
        "range": "10.20.0.0/24", "range_start": "10.20.0.10", "range_end": "10.20.0.11", "gateway": "10.20.0.1",
    ]

    @Test func `the word whereabouts made holdfast-cni is all: the pool is there with the first ADD, on every node`()
        async throws
    {
        pods(["a", "b", "c"])
        let (first, second) = (agent(), agent())
        let answer = try await add("a", on: first, ranges)
        #expect(answer["result"]?["ips"] == [["address": "10.20.0.10/24", "gateway": "10.20.0.1"]])
        #expect(poolCalls == 1)
        // Another network of the same ranges shares the pool, as in whereabouts.
        #expect(
            try await add("b", on: second, network: "other", ranges)["result"]?["ips"]
                == [["address": "10.20.0.11/24", "gateway": "10.20.0.1"]])
        #expect(poolCalls == 2)
        // Known pools cost no further call.
        _ = try await add("a", on: first, ranges)
        #expect(poolCalls == 2)
        #expect(await refusal { () throws(CNIError) in try await add("c", on: first, ranges) }?.code == .exhausted)
        #expect(poolCalls == 2)
    }

    @Test func `a pool that was deleted is made again`() async throws {
        pods(["a"])
        let agent = agent()
        _ = try await add("a", on: agent, ranges)
        for binding in ipam.bindings { try ipam.apply(.release(.binding(binding.owner))) }
        for _ in 0..<61 { _ = try? ipam.apply(.deletePool(name: "none")) }
        try ipam.apply(.deletePool(name: "10.20.0.0-24"))
        #expect(try await add("a", on: agent, ranges)["result"]?["ips"]?.array?.count == 1)
    }

    @Test func `changed ranges change the pool where that loses nothing, and what an operator set stays`() async throws
    {
        pods(["a", "b", "c"])
        let agent = agent()
        _ = try await add("a", on: agent, ranges)
        var pool = try #require(ipam.pool(named: "10.20.0.0-24"))
        pool.namespaceQuota = 2
        try ipam.apply(.updatePool(pool))

        var wider = ranges
        wider["range_end"] = "10.20.0.20"
        wider["gateway"] = "10.20.0.2"
        #expect(
            try await add("b", on: agent, wider)["result"]?["ips"]
                == [["address": "10.20.0.11/24", "gateway": "10.20.0.2"]])
        #expect(ipam.pool(named: "10.20.0.0-24")?.namespaceQuota == 2)

        // Without the first two, who are there.
        var moved = ranges
        moved["range_start"] = "10.20.0.30"
        moved["range_end"] = "10.20.0.40"
        let refusal = await refusal { () throws(CNIError) in try await add("c", on: agent, network: "moved", moved) }
        #expect(refusal?.code == .conflict)
        for words in ["\"moved\"", "10.20.0.30", "10.20.0.20", "10.20.0.10"] {
            // Both descriptions, and what is in the way.
            let neighbours = ["10.20.0.30": "10.20.0.0..10.20.0.29", "10.20.0.20": "10.20.0.21..10.20.0.255"]
            #expect(
                refusal?.message.contains(neighbours[words] ?? words) == true, "\(words): \(refusal?.message ?? "")")
        }
    }

    @Test func `another namespace's network of the same ranges takes neither the gateway nor its address`() async throws
    {
        pods(["a"])
        let (ours, theirs) = (agent(), agent())
        _ = try await add("a", on: ours, ranges)
        let before = try #require(ipam.pool(named: "10.20.0.0-24"))

        pods(["thief"], in: "evil")
        var stolen = ranges
        stolen["range_start"] = "10.20.0.1"
        stolen["gateway"] = "10.20.0.66"
        stolen["routes"] = [["dst": "0.0.0.0/0"]]
        let refusal = await refusal { () throws(CNIError) in
            try await add("thief", in: "evil", on: theirs, network: "theirs", stolen)
        }
        #expect(refusal?.code == .notPermitted && refusal?.details.hasPrefix("NAMESPACE_NOT_ALLOWED") == true)
        #expect(refusal?.message.contains("10.20.0.0-24") == true)
        #expect(refusal?.message.contains("holdfast pool update") == true)
        #expect(ipam.pool(named: "10.20.0.0-24") == before && ipam.bindings.count == 1)
        // As it is, it is for all whose network says the same of it.
        #expect(
            try await add("thief", in: "evil", on: theirs, ranges)["result"]?["ips"]
                == [["address": "10.20.0.11/24", "gateway": "10.20.0.1"]])
    }

    @Test func `a pool that another namespace has changed since it was seen gives no new owner its addresses`()
        async throws
    {
        pods(["a"])
        let (ours, theirs) = (agent(), agent())
        var ranges = ranges
        ranges["range_end"] = "10.20.0.20"
        _ = try await add("a", on: ours, ranges)
        for binding in ipam.bindings { try ipam.apply(.release(.binding(binding.owner))) }
        // Nobody is there any more.
        pods(["thief"], in: "evil")
        var stolen = ranges
        stolen["gateway"] = "10.20.0.66"
        _ = try await add("thief", in: "evil", on: theirs, stolen)
        pods(["b"])
        let refusal = await refusal { () throws(CNIError) in try await add("b", on: ours, ranges) }
        #expect(refusal?.code == .notPermitted && refusal?.message.contains("via 10.20.0.66") == true)
        #expect(ipam.bindings.allSatisfy { $0.owner.namespace == "evil" })
        // An operator sets it right.
        var pool = try #require(ipam.pool(named: "10.20.0.0-24"))
        pool.prefixes[0].gateway = IPAddress("10.20.0.1")
        try ipam.apply(.updatePool(pool))
        #expect(
            try await add("b", on: ours, ranges)["result"]?["ips"]?.array?.first?["gateway"] == "10.20.0.1")
    }

    @Test func `ranges that overlap another pool are refused in the server's words`() async throws {
        pods(["a"])
        let refusal = await refusal { () throws(CNIError) in
            try await add("a", on: agent(), ["range": "10.16.4.0/24"])
        }
        #expect(refusal?.code == .taken && refusal?.details.hasPrefix("POOL_OVERLAP") == true)
        #expect(refusal?.message.contains("\"vlan10\"") == true && refusal?.message.contains("vms") == true)
    }

    @Test func `a VM that has its addresses starts though its network's new ranges are refused`() async throws {
        var objects = ClusterObjects()
        for name in ["a", "b"] {
            objects.instances.append(
                VirtualMachineInstance(metadata: ObjectMeta(namespace: "default", name: name, uid: "vmi-\(name)")))
            objects.pods.append(
                Pod(
                    metadata: ObjectMeta(
                        namespace: "default", name: name, uid: "uid-\(name)",
                        owners: [
                            OwnerReference(
                                apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", name: name,
                                uid: "vmi-\(name)")
                        ]), nodeName: "node-a"))
        }
        source.state(objects)
        let agent = agent()
        let before = try await add("a", on: agent, ranges)
        let changed: JSONObject = ["range": "10.20.0.0/24", "exclude": ["10.20.0.10"]]
        #expect(try await add("a", on: agent, changed)["result"]?["ips"] == before["result"]?["ips"])
        #expect(await refusal { () throws(CNIError) in try await add("b", on: agent, changed) }?.code == .conflict)
        // Ranges that are another pool move nobody either.
        #expect(try await add("a", on: agent, ["range": "10.30.0.0/24"])["result"]?["ips"] == before["result"]?["ips"])
        #expect(ipam.pool(named: "10.30.0.0-24") == nil)
    }
}
