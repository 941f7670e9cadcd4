import Addresses
import CNI
import Foundation
import IPAMAPI
import IPAMModel
import KubeVirt
import Ledger
import Logging
import NodeAgent
import Synchronization
import Testing

/// What a test says there is.
final class StatedSource: ObjectSource {
    private let reading = Mutex(Reading(objects: ClusterObjects(), isComplete: true))

    func read() async -> Reading { reading.withLock { $0 } }

    func state(_ objects: ClusterObjects, isComplete: Bool = true) {
        state(Reading(objects: objects, isComplete: isComplete))
    }

    func state(_ reading: Reading) { self.reading.withLock { $0 = reading } }
}

struct AttachmentHandlerTests {
    private let ipam: LedgerIPAM
    private let source = StatedSource()
    private let handler: AttachmentHandler

    init() throws {
        ipam = try LedgerIPAM()
        handler = AttachmentHandler(
            node: "node-a", ipam: ipam, source: source, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    private func pod(_ change: (inout Pod) -> Void = { _ in }) {
        var pod = Pod(
            metadata: ObjectMeta(
                namespace: "default", name: "web", uid: "pod-1", createdAt: Timestamp(seconds: 1_795_495_200)),
            nodeName: "node-a")
        change(&pod)
        var objects = ClusterObjects()
        objects.pods = [pod]
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

    /// What makes a pod the launcher of an instance, by its own word.
    private func launcher(of instance: String = "testvm", uid: String = "vmi-1") -> OwnerReference {
        OwnerReference(apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", name: instance, uid: uid)
    }

    private func request(
        _ verb: String = "ADD", container: String = "c1",
        args: String = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=pod-1",
        extra: JSONObject = [:]
    ) -> AgentRequest {
        var configuration: JSONObject = [
            "cniVersion": "1.0.0", "name": "vm-net", "type": "bridge", "ipam": ["type": "holdfast-cni", "pool": "vms"],
        ]
        for member in extra.members { configuration[member.key] = member.value }
        return AgentRequest(
            environment: [
                "CNI_COMMAND": verb, "CNI_CONTAINERID": container, "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": "eth0",
                "CNI_ARGS": args,
            ], configuration: configuration)
    }

    private func refusal(_ request: AgentRequest) async -> CNIError? {
        do {
            _ = try await handler.add(request)
            return nil
        } catch {
            return error
        }
    }

    /// The kubelet names a static pod by its manifest's hash, and the API server's mirror of it has a UID of its own, another one
    /// each time that it is made anew.
    @Test func `a static pod is known by the UID that the kubelet gives it`() async throws {
        let hash = "0123456789abcdef0123456789abcdef"
        func mirror(_ uid: String, of hash: String) throws -> ClusterObjects {
            var objects = ClusterObjects()
            objects.insert(
                try ClusterObject(
                    manifest: Data(
                        """
                        {"apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": "node-a"}, "metadata": {
                        "namespace": "default", "name": "web", "uid": "\(uid)",
                        "annotations": {"kubernetes.io/config.mirror": "\(hash)"}}}
                        """.utf8)))
            return objects
        }
        source.state(try mirror("mirror-1", of: hash))
        let args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=\(hash)"
        _ = try await handler.add(request(args: args))
        let given = try #require(ipam.bindings.first)
        #expect(given.active?.podUID == hash && given.owner.uid == hash)
        source.state(try mirror("mirror-2", of: hash))
        _ = try await handler.add(request(container: "c2", args: args))
        #expect(ipam.bindings.map(\.assignments) == [given.assignments])
        try await handler.delete(request("DEL", container: "c2", args: args))
        #expect(ipam.bindings.isEmpty)
        // What is no hash is somebody's word: no pod passes for another.
        source.state(try mirror("pod-1", of: "0e5cbb2c-7c8c-4a3e-9d0e-6f0a4c1b2d3e"))
        #expect(await refusal(request()) == nil)
        #expect(ipam.bindings.first?.owner.uid == "pod-1")
    }

    @Test func `ADD of a plain pod allocates for the pod, with all that tells its attachment`() async throws {
        pod()
        let answer = try await handler.add(request())
        #expect(
            ipam.calls == [
                .allocate(
                    AllocateRequest(
                        owner: Owner(
                            kind: .pod, namespace: "default", name: "web", uid: "pod-1", network: "vm-net/eth0"),
                        attachment: Attachment(
                            node: "node-a", pod: "web", podUID: "pod-1", containerID: "c1",
                            createdAt: Timestamp(seconds: 1_795_495_200)), pool: "vms"))
            ])
        #expect(answer["mac"]?.string == ipam.bindings.first?.mac.description)
        #expect(
            answer["result"]?["routes"] == [
                ["dst": "0.0.0.0/0", "gw": "10.16.0.1"], ["dst": "192.168.0.0/16", "gw": "10.16.0.1"],
            ])
        #expect(answer["result"]?["dns"] == ["nameservers": ["10.16.0.2"], "search": ["vm.example"]])
        #expect(answer["result"]?["interfaces"] == nil)
    }

    @Test func `the pod's annotations go before the network's pool`() async throws {
        pod {
            $0.metadata.annotations = [
                "ovn.kubernetes.io/ip_address": "10.17.0.15,fd00::15",
                "ovn.kubernetes.io/mac_address": "02:00:00:00:00:0f", "ovn.kubernetes.io/logical_switch": "other",
            ]
        }
        let answer = try await handler.add(request())
        guard case .allocate(let asked) = try #require(ipam.calls.first) else { return }
        #expect(asked.pool == "other" && asked.mac?.description == "02:00:00:00:00:0f")
        #expect(asked.addresses.map(\.description) == ["10.17.0.15", "fd00::15"])
        #expect(
            answer["result"]?["ips"] == [
                ["address": "10.17.0.15/16", "gateway": "10.17.0.1"], ["address": "fd00::15/64", "gateway": "fd00::1"],
            ])
        #expect(
            answer["result"]?["routes"]?.array?.prefix(2) == [
                ["dst": "0.0.0.0/0", "gw": "10.17.0.1"], ["dst": "::/0", "gw": "fd00::1"],
            ])
    }

    @Test func `the network's pool is for a VM without addresses, and moves none that has some in another pool`()
        async throws
    {
        let owner = Owner(
            kind: .virtualMachine, namespace: "default", name: "testvm", uid: "vm-1", network: "vm-net/eth0")
        try ipam.apply(.allocate(AllocateRequest(owner: owner, pool: "other")))
        let reserved = try #require(ipam.bindings.first)
        pod { $0.metadata.owners = [launcher()] }
        for container in ["c1", "c2"] {
            let answer = try await handler.add(request(container: container))
            #expect(answer["mac"]?.string == reserved.mac.description)
        }
        #expect(ipam.bindings.first?.pool == "other" && ipam.bindings.first?.assignments == reserved.assignments)

        let new = request(extra: ["name": "net-2", "ipam": ["type": "holdfast-cni", "pool": "other"]])
        _ = try await handler.add(new)
        #expect(ipam.bindings.map(\.pool) == ["other", "other"])
    }

    @Test func `a bad annotation is refused by name and value before the server is asked`() async {
        pod { $0.metadata.annotations = ["ovn.kubernetes.io/ip_address": "10.16.0.300"] }
        let refusal = await refusal(request())
        #expect(refusal?.code == .badAnnotation)
        #expect(refusal?.message == #"annotation ovn.kubernetes.io/ip_address has the value "10.16.0.300""#)
        #expect(ipam.calls.isEmpty)
    }

    /// A VM carried by pod-0 in container c0, and its migration's target, not confirmed yet: pod-1 in container c1.
    private func startMigration() async throws {
        let owner = OwnerReference(
            apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", name: "testvm", uid: "vmi-1")
        pod {
            $0.metadata.owners = [owner]
            $0.metadata.uid = "pod-0"
        }
        _ = try await handler.add(request(container: "c0", args: "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"))
        pod {
            $0.metadata.owners = [owner]
            $0.metadata.labels = [KubeVirtName.migrationJobUID: "vmim-1"]
        }
    }

    private func confirmMigration(phase: String = "Running") async {
        var objects = await source.read().objects
        objects.migrations = [
            VirtualMachineInstanceMigration(
                metadata: ObjectMeta(namespace: "default", name: "m", uid: "vmim-1"), vmiName: "testvm", phase: phase)
        ]
        source.state(objects)
    }

    @Test func `a migration target is a PREPARE, never an allocation, and refused until it is confirmed`() async throws
    {
        try await startMigration()
        #expect(await refusal(request())?.code == .tryAgainLater)
        await confirmMigration()
        for _ in 0..<2 {
            let answer = try await handler.add(request())
            #expect(answer["result"]?["ips"] == [["address": "10.16.0.11/16", "gateway": "10.16.0.1"]])
        }
        let main: JSONObject = ["type": "holdfast-cni", "ipam": .null, "delegate": ["type": "bridge"]]
        let told = try await handler.add(request(extra: main))
        #expect(try await handler.add(request(extra: ["ipam": ["type": "holdfast-cni", "attached": true]])) == told)
        let binding = try #require(ipam.bindings.first)
        #expect(binding.active?.podUID == "pod-0" && binding.target?.podUID == "pod-1")
        #expect(binding.migrationUID == "vmim-1" && ipam.bindings.count == 1)
        #expect(ipam.calls.count { if case .allocate = $0 { true } else { false } } == 1)
    }

    @Test func `a target that has become the VM's carrier is attached again, another pod of that migration is not`()
        async throws
    {
        try await startMigration()
        await confirmMigration()
        _ = try await handler.add(request())
        let owner = try #require(ipam.bindings.first?.owner)
        try ipam.apply(
            .transfer(TransferRequest(owner: owner, migrationUID: "vmim-1", phase: .commit(targetOwner: nil))))
        let before = ipam.timeouts.count
        let answer = try await handler.add(request(container: "c2"))
        #expect(answer["result"]?["ips"] == [["address": "10.16.0.11/16", "gateway": "10.16.0.1"]])
        #expect(ipam.bindings.first?.active?.containerID == "c2")
        // All calls of one ADD share its time.
        let given = ipam.timeouts.dropFirst(before)
        #expect(given.count == 4 && zip(given, given.dropFirst()).allSatisfy { $0 > $1 })
        #expect(given.allSatisfy { $0 <= .seconds(12) })

        pod {
            $0.metadata.owners = [
                OwnerReference(
                    apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", name: "testvm", uid: "vmi-1")
            ]
            $0.metadata.uid = "pod-2"
            $0.metadata.labels = [KubeVirtName.migrationJobUID: "vmim-1"]
        }
        await confirmMigration()
        let late = await refusal(request(container: "c3", args: "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"))
        #expect(late?.code == .conflict)
        #expect(ipam.bindings.first?.active?.podUID == "pod-1")
    }

    @Test func `the carrier's new sandbox is attached when its migration has been cleaned away`() async throws {
        try await startMigration()
        await confirmMigration()
        _ = try await handler.add(request())
        let owner = try #require(ipam.bindings.first?.owner)
        try ipam.apply(
            .transfer(TransferRequest(owner: owner, migrationUID: "vmim-1", phase: .commit(targetOwner: nil))))
        var objects = await source.read().objects
        objects.migrations = []
        source.state(objects)
        _ = try await handler.add(request(container: "c2"))
        #expect(ipam.bindings.first?.active?.containerID == "c2")
    }

    @Test(arguments: [true, false])
    func `only a target whose guest has the address is told to be silent, and only until it comes`(isBridged: Bool)
        async throws
    {
        try await startMigration()
        await confirmMigration()
        var objects = await source.read().objects
        objects.instances[0].networks = [MachineNetwork(name: "default", isPrimary: true, isBridged: isBridged)]
        source.state(objects)
        #expect(try await handler.add(request())["silent"] == .bool(isBridged))
        let owner = try #require(ipam.bindings.first?.owner)
        try ipam.apply(
            .transfer(TransferRequest(owner: owner, migrationUID: "vmim-1", phase: .commit(targetOwner: nil))))
        #expect(try await handler.add(request(container: "c2"))["silent"] == false)
    }

    @Test(arguments: ["Succeeded", "Failed"])
    func `a migration that has ended is not opened again by its target pod`(phase: String) async throws {
        try await startMigration()
        await confirmMigration(phase: phase)
        #expect(await refusal(request())?.code == .conflict)
        #expect(ipam.bindings.first?.state == .bound && ipam.bindings.first?.active?.podUID == "pod-0")
    }

    @Test func `a target without a binding is refused`() async {
        pod {
            $0.metadata.owners = [
                OwnerReference(
                    apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", name: "testvm", uid: "vmi-1")
            ]
            $0.metadata.labels = [KubeVirtName.migrationJobUID: "vmim-1"]
        }
        var objects = await source.read().objects
        objects.migrations = [
            VirtualMachineInstanceMigration(
                metadata: ObjectMeta(namespace: "default", name: "m", uid: "vmim-1"), vmiName: "testvm")
        ]
        source.state(objects)
        #expect(await refusal(request())?.code == .notFound)
        #expect(ipam.bindings.isEmpty)
    }

    @Test func `an unknown pod, or one with another UID, is code 11`() async {
        #expect(await refusal(request())?.code == .tryAgainLater)
        pod { $0.metadata.uid = "pod-2" }
        #expect(await refusal(request())?.code == .tryAgainLater)
        #expect(ipam.calls.isEmpty)
    }

    // Promise 8
    @Test(arguments: [("v2", "made-up"), ("testvm", "made-up")])
    func `a pod that names a VM it is no pod of gets nothing of it, and the VM keeps its address`(
        name: String, uid: String
    ) async throws {
        let halted = Owner(kind: .virtualMachine, namespace: "default", name: name, uid: "vm-1", network: "vm-net/eth0")
        try ipam.apply(.allocate(AllocateRequest(owner: halted)))
        let before = ipam.bindings
        pod { $0.metadata.owners = [launcher(of: name, uid: uid)] }
        let refusal = await refusal(request())
        #expect(refusal?.code == .tryAgainLater && refusal?.message.contains(name) == true)
        #expect(ipam.calls.isEmpty && ipam.bindings == before)
    }

    // Promise 8
    @Test func `a pod of another node is refused`() async {
        pod { $0.nodeName = "node-b" }
        #expect(await refusal(request())?.code == .conflict)
        pod { $0.nodeName = nil }
        #expect(await refusal(request())?.code == .tryAgainLater)
        #expect(ipam.calls.isEmpty)
    }

    @Test func `CNI_ARGS without a pod is code 4`() async {
        #expect(await refusal(request(args: ""))?.code == .invalidEnvironment)
        #expect(await refusal(request(args: "K8S_POD_NAMESPACE=default"))?.message == "CNI_ARGS has no K8S_POD_NAME")
    }

    @Test func `DEL releases by container and network alone, with no pod in sight`() async throws {
        try await handler.delete(request("DEL", args: ""))
        #expect(
            ipam.calls == [
                .release(
                    .attachment(AttachmentID(podUID: "", containerID: "c1"), owner: nil, network: "vm-net/eth0"))
            ])
        ipam.fail(with: IPAMError(.notFound, .bindingNotFound, "none"))
        try await handler.delete(request("DEL", args: ""))
        ipam.fail(with: IPAMError(.unavailable, .noAnswer, "away"))
        await #expect(throws: CNIError.self) { try await handler.delete(request("DEL", args: "")) }
    }

    @Test(arguments: [
        (IPAMError.Code.unavailable, 11), (.aborted, 11), (.invalidArgument, 101), (.notFound, 102),
        (.alreadyExists, 103), (.resourceExhausted, 104), (.failedPrecondition, 105), (.permissionDenied, 106),
        (.unauthenticated, 106), (.internalError, 100),
    ])
    func `every refusal of the server has its code, its words and its facts`(
        code: IPAMError.Code, expected: Int
    ) async {
        pod()
        ipam.fail(with: IPAMError(code, .addressTaken, "words", metadata: ["holder": "vm default/b"]))
        let refusal = await refusal(request())
        #expect(refusal?.code.rawValue == expected)
        #expect(refusal?.message == "words")
        #expect(refusal?.details.hasPrefix("ADDRESS_TAKEN holder=vm default/b") == true)
        #expect(refusal?.details.contains("tries again") == (expected == 11))
    }
}

struct ResultTests {
    private func described(_ assignments: [Assignment], _ routes: [IPAMModel.Route]) -> DescribedBinding {
        DescribedBinding(
            binding: Binding(
                owner: Owner(kind: .pod, namespace: "a", name: "b", network: "n/eth0"), pool: "p",
                assignments: assignments, mac: MACAddress(bits: 2), revision: 1, createdAt: Timestamp(seconds: 0),
                updatedAt: Timestamp(seconds: 0)), routes: routes)
    }

    private func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }
    private func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }

    @Test func `a pool without gateway gives no default route, and the pool's routes without next hop`() throws {
        let result = CNIResult(
            described(
                [Assignment(address: try address("10.0.0.5"), prefixLength: 24, gateway: nil)],
                [Route(destination: try prefix("10.1.0.0/16"))]))
        #expect(
            result.json(version: .v1_0_0) == [
                "cniVersion": "1.0.0", "ips": [["address": "10.0.0.5/24"]], "routes": [["dst": "10.1.0.0/16"]],
                "dns": [:],
            ])
    }

    @Test func `the pool's own default route stands in for the one via its gateway, as with host-local`() throws {
        let assignment = Assignment(
            address: try address("10.0.0.5"), prefixLength: 24, gateway: try address("10.0.0.1"))
        var routes = [
            Route(destination: try prefix("10.1.0.0/16"), gateway: try address("10.0.0.2")),
            Route(destination: try prefix("0.0.0.0/0"), gateway: try address("10.0.0.3")),
            Route(destination: try prefix("0.0.0.0/0"), gateway: try address("10.0.0.4")),
            Route(destination: try prefix("fd00::/8")),
        ]
        let result = CNIResult(described([assignment], routes))
        #expect(
            result.json(version: .v0_4_0)["routes"] == [
                ["dst": "10.1.0.0/16", "gw": "10.0.0.2"], ["dst": "0.0.0.0/0", "gw": "10.0.0.3"],
            ])
        #expect(result == CNIResult(described([assignment], routes), hasDefaultRoute: false))
        #expect(result.json(version: .v0_4_0)["ips"]?.array?[0]["version"] == "4")
        #expect(result.json(version: .v1_1_0)["ips"]?.array?[0]["version"] == nil)
        routes.removeSubrange(1...2)
        #expect(
            CNIResult(described([assignment], routes)).json(version: .v0_4_0)["routes"] == [
                ["dst": "0.0.0.0/0", "gw": "10.0.0.1"], ["dst": "10.1.0.0/16", "gw": "10.0.0.2"],
            ])
    }

    @Test func `a route on the link, which others may need, comes before them`() throws {
        let result = CNIResult(
            described(
                [Assignment(address: try address("10.9.0.5"), prefixLength: 32, gateway: nil)],
                [
                    Route(destination: try prefix("0.0.0.0/0"), gateway: try address("169.254.1.1")),
                    Route(destination: try prefix("169.254.1.1/32")),
                ]))
        #expect(
            result.json(version: .v1_0_0)["routes"] == [
                ["dst": "169.254.1.1/32"], ["dst": "0.0.0.0/0", "gw": "169.254.1.1"],
            ])
        #expect(result.json(version: .v1_1_0)["routes"]?.array?[0] == ["dst": "169.254.1.1/32", "scope": 253])
    }
}
