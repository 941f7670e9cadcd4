import Addresses
import CNI
import IPAMModel
import KubeVirt
import KubernetesAPI
import Ledger
import Logging
import NodeAgent
import TestCluster
import Testing

/// Objects as KubeVirt and the kubelet write them, as far as the agent looks.
enum Manifest {
    static func pod(
        _ name: String, uid: String? = nil, node: String = "node-a", instance: String? = nil,
        instanceUID: String = "vmi-1",
        migration: (uid: String, name: String)? = nil, annotations: [String: String] = [:], phase: String = "Running"
    ) -> String {
        var annotations = annotations
        var labels: [String: String] = [:]
        if let migration {
            labels[KubeVirtName.migrationJobUID] = migration.uid
            annotations[KubeVirtName.migrationJobName] = migration.name
        }
        let owner = instance.map {
            """
            {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","name":"\($0)","uid":"\(instanceUID)",\
            "controller":true}
            """
        }
        return """
            {"apiVersion":"v1","kind":"Pod","metadata":{"name":"\(name)","namespace":"default",\
            "uid":"\(uid ?? "uid-\(name)")","labels":\(object(labels)),"annotations":\(object(annotations)),\
            "ownerReferences":[\(owner ?? "")]},"spec":{"nodeName":"\(node)"},"status":{"phase":"\(phase)"}}
            """
    }

    static func instance(
        _ name: String = "testvm", uid: String = "vmi-1", labels: [String: String] = [:], status: String = "{}",
        machine: String? = "vm-1"
    ) -> String {
        let owner = machine.map {
            """
            {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachine","name":"\(name)","uid":"\($0)","controller":true}
            """
        }
        return """
            {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","metadata":{"name":"\(name)",\
            "namespace":"default","uid":"\(uid)","labels":\(object(labels)),"ownerReferences":[\(owner ?? "")]},\
            "status":\(status)}
            """
    }

    static func migration(
        _ name: String = "m", uid: String = "vmim-1", of instance: String = "testvm", phase: String = "Scheduling",
        sends: String? = nil, receives: String? = nil
    ) -> String {
        let halves = [("sendTo", sends), ("receive", receives)].compactMap { key, id in
            id.map { #","\#(key)":{"migrationID":"\#($0)"}"# }
        }
        return """
            {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstanceMigration","metadata":{"name":"\(name)",\
            "namespace":"default","uid":"\(uid)"},"spec":{"vmiName":"\(instance)"\(halves.joined())},\
            "status":{"phase":"\(phase)"}}
            """
    }

    private static func object(_ members: [String: String]) -> String {
        "{" + members.map { #""\#($0)":"\#($1)""# }.joined(separator: ",") + "}"
    }
}

/// One node's agent before an API server of the tests' own.
struct NodeOnCluster {
    let cluster: TestCluster
    let source: KubernetesSource
    let ipam: LedgerIPAM
    let handler: AttachmentHandler

    static var quiet: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

    /// Runs `body` with an agent whose watches run, where they should.
    static func run(
        watching: Bool = true, patience change: (inout KubernetesClient.Patience) -> Void = { _ in },
        _ body: (NodeOnCluster) async throws -> Void
    ) async throws {
        var patience = KubernetesClient.Patience()
        patience.longestPause = .milliseconds(50)
        change(&patience)
        try await TestCluster.run { cluster in
            let client = KubernetesClient(cluster.configuration, patience: patience, log: quiet)
            let source = KubernetesSource(node: "node-a", client: client, log: quiet)
            let ipam = try LedgerIPAM()
            let handler = AttachmentHandler(node: "node-a", ipam: ipam, source: source, log: quiet)
            let node = NodeOnCluster(cluster: cluster, source: source, ipam: ipam, handler: handler)
            guard watching else { return try await body(node) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await source.run() }
                await node.wait { await source.read().isComplete && cluster.watchCount == 3 }
                try await body(node)
                group.cancelAll()
            }
        }
    }

    func wait(
        sourceLocation: SourceLocation = #_sourceLocation, _ condition: () async -> Bool
    ) async {
        let deadline = ContinuousClock.now + .seconds(30)
        while await !condition(), .now < deadline { try? await Task.sleep(for: .milliseconds(2)) }
        #expect(await condition(), "waited in vain", sourceLocation: sourceLocation)
    }

    func request(_ pod: String, uid: String? = nil, container: String? = nil) -> AgentRequest {
        var arguments = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=\(pod)"
        if let uid { arguments += ";K8S_POD_UID=\(uid)" }
        return AgentRequest(
            environment: [
                "CNI_COMMAND": "ADD", "CNI_CONTAINERID": container ?? "c-\(pod)", "CNI_NETNS": "/run/netns/x",
                "CNI_IFNAME": "eth0", "CNI_ARGS": arguments,
            ],
            configuration: [
                "cniVersion": "1.0.0", "name": "vm-net", "type": "bridge", "ipam": ["type": "holdfast-cni"],
            ])
    }

    func refusal(_ pod: String, uid: String? = nil) async -> CNIError? {
        do {
            _ = try await handler.add(request(pod, uid: uid))
            return nil
        } catch {
            return error
        }
    }

    /// What was asked for by name, as `pods/web`.
    var gets: [String] {
        cluster.requests.filter { $0.verb == "get" }.map { "\($0.resource.plural)/\($0.name ?? "")" }
    }
}

struct KubernetesSourceTests {
    @Test func `an ADD before any watch asks for the pod and its instance, and attaches for the VM`() async throws {
        try await NodeOnCluster.run(watching: false) { node in
            try node.cluster.put(Manifest.instance())
            try node.cluster.put(Manifest.pod("launcher", instance: "testvm"))
            _ = try await node.handler.add(node.request("launcher", uid: "uid-launcher"))
            let binding = try #require(node.ipam.bindings.first)
            #expect(binding.owner.uid == "vm-1" && binding.owner.name == "testvm")
            #expect(binding.active?.podUID == "uid-launcher")
            #expect(node.gets == ["pods/launcher", "virtualmachineinstances/testvm"])
        }
    }

    @Test func `what the watches have shown is not asked for`() async throws {
        try await NodeOnCluster.run { node in
            try node.cluster.put(Manifest.instance(labels: [KubeVirtName.nodeName: "node-a"]))
            try node.cluster.put(Manifest.pod("launcher", instance: "testvm"))
            await node.wait { await node.source.read().objects.pods.count == 1 }
            await node.wait { await node.source.read().objects.instances.count == 1 }
            _ = try await node.handler.add(node.request("launcher", uid: "uid-launcher"))
            #expect(node.ipam.bindings.first?.owner.uid == "vm-1" && node.gets.isEmpty)
        }
    }

    @Test func `a NIC that the watches do not show yet is asked for once, before it is refused`() async throws {
        try await NodeOnCluster.run { node in
            let blue = MachineNetwork(name: "blue").interface
            func put(_ networks: String, _ selections: String) throws {
                try node.cluster.put(
                    Manifest.instance(labels: [KubeVirtName.nodeName: "node-a"]).replacing(
                        #""status":"#, with: #""spec":{"networks":[\#(networks)]},"status":"#))
                try node.cluster.put(
                    Manifest.pod(
                        "launcher", instance: "testvm",
                        annotations: [
                            "k8s.v1.cni.cncf.io/networks": selections, "holdfast.dev/addresses.blue": "10.16.0.30",
                        ]))
            }
            let one = #"{"name":"default","pod":{}}"#
            try put(one, "a@net1")
            await node.wait { await node.source.read().objects.pods.count == 1 }
            await node.wait { await node.source.read().objects.instances.count == 1 }
            var plugged = node.request("launcher", uid: "uid-launcher")
            plugged.environment["CNI_IFNAME"] = blue
            await #expect(throws: CNIError.self) { try await node.handler.add(plugged) }
            #expect(node.gets == ["pods/launcher", "virtualmachineinstances/testvm"])
            node.cluster.hold(.pods)
            node.cluster.hold(.virtualMachineInstances)
            try put(#"\#(one),{"name":"blue","multus":{"networkName":"b"}}"#, "a@net1,b@\(blue)")
            _ = try await node.handler.add(plugged)
            #expect(node.ipam.bindings.first?.assignments.first?.address == IPAddress("10.16.0.30"))
        }
    }

    @Test func `a pod of an older UID, or of none the runtime tells, is asked for afresh`() async throws {
        try await NodeOnCluster.run { node in
            try node.cluster.put(Manifest.pod("web", uid: "old"))
            await node.wait { await node.source.read().objects.pods.count == 1 }
            node.cluster.hold(.pods)
            try node.cluster.put(Manifest.pod("web", uid: "new"))
            _ = try await node.handler.add(node.request("web", uid: "new"))
            #expect(node.ipam.bindings.first?.owner.uid == "new" && node.gets == ["pods/web"])
            _ = try await node.handler.add(node.request("web"))
            #expect(node.ipam.bindings.first?.owner.uid == "new" && node.gets.count == 2)
            #expect(await node.refusal("web", uid: "older")?.code == .tryAgainLater)
        }
    }

    @Test func `a pod that was asked for shows until the watch is past it`() async throws {
        try await NodeOnCluster.run { node in
            func shown() async -> [String] { await node.source.read().objects.pods.map(\.metadata.name).sorted() }
            node.cluster.hold(.pods)
            try node.cluster.put(Manifest.pod("web"))
            _ = try await node.handler.add(node.request("web", uid: "uid-web"))
            #expect(await shown() == ["web"])
            try node.cluster.put(Manifest.pod("late"))
            try node.cluster.delete(.pods, name: "web")
            node.cluster.release()
            await node.wait { await shown() == ["late"] }
        }
    }

    @Test func `another node's pod is neither served nor kept`() async throws {
        try await NodeOnCluster.run { node in
            try node.cluster.put(Manifest.pod("web", node: "node-b"))
            let refusal = await node.refusal("web", uid: "uid-web")
            #expect(refusal?.message == "pod default/web belongs to node node-b")
            #expect(await node.source.read().objects.pods.isEmpty)
        }
    }

    @Test func `whether a migration's NIC is new tells the instance's pod on another node`() async throws {
        try await NodeOnCluster.run { node in
            let status =
                #"[{\"name\":\"prod/a\",\"interface\":\"eth0\"},{\"name\":\"default/a\",\"interface\":\"net2\"}]"#
            try node.cluster.put(
                Manifest.pod(
                    "one", node: "node-b", instance: "testvm",
                    annotations: ["k8s.v1.cni.cncf.io/network-status": status]
                ).replacing(#""labels":{}"#, with: #""labels":{"\#(KubeVirtName.createdBy)":"vmi-1"}"#))
            let owner = OwnerReference(
                apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", name: "testvm", uid: "vmi-1")
            var target = Pod(
                metadata: ObjectMeta(namespace: "default", name: "two", uid: "uid-two", owners: [owner]))
            func isNew(_ interface: String) async throws -> Bool {
                try await node.source.pods(ofInstanceOf: target, by: .now + .seconds(30)).isNew(interface, in: target)
            }
            #expect(try await isNew("net1"))
            #expect(try await !isNew("eth0"))
            for (definition, isOther) in [("prod/a", false), ("prod/b", true)] {
                target.metadata.annotations["v1.multus-cni.io/default-network"] = definition
                #expect(try await isNew("eth0") == isOther)
            }
            target.metadata.annotations["k8s.v1.cni.cncf.io/networks"] = "c,a"
            #expect(try await !isNew("net2"))
            target.metadata.annotations["k8s.v1.cni.cncf.io/networks"] = "c,b"
            #expect(try await isNew("net2"), "by another definition")
            try node.cluster.delete(.pods, name: "one")
            #expect(try await !isNew("net1"), "nobody says")
        }
    }

    // Promise 8
    @Test func `a migration target is believed only when its migration is there, for its instance, by its UID`()
        async throws
    {
        try await NodeOnCluster.run(watching: false) { node in
            try node.cluster.put(Manifest.instance())
            try node.cluster.put(Manifest.pod("source", node: "node-b", instance: "testvm"))
            try node.ipam.apply(
                .allocate(
                    AllocateRequest(
                        owner: Owner(
                            kind: .virtualMachine, namespace: "default", name: "testvm", uid: "vm-1",
                            network: "vm-net/eth0"),
                        attachment: Attachment(node: "node-b", pod: "source", podUID: "uid-source", containerID: "c0")))
            )
            try node.cluster.put(
                Manifest.pod("target", instance: "testvm", migration: (uid: "vmim-1", name: "m")))
            func refusal() async -> CNIError.Code? { await node.refusal("target", uid: "uid-target")?.code }
            #expect(await refusal() == .tryAgainLater)
            try node.cluster.put(Manifest.migration(uid: "another"))
            #expect(await refusal() == .tryAgainLater)
            try node.cluster.delete(.virtualMachineInstanceMigrations, name: "m")
            try node.cluster.put(Manifest.migration(of: "othervm"))
            #expect(await refusal() == .tryAgainLater)
            try node.cluster.put(Manifest.migration(phase: "Failed"))
            #expect(await refusal() == .conflict)
            #expect(node.ipam.bindings.first?.target == nil)
            // The instance does not name the target yet (KubeVirt writes its migrationState at the hand-off, after this).
            try node.cluster.put(Manifest.migration())
            #expect(await refusal() == nil)
            let binding = try #require(node.ipam.bindings.first)
            #expect(binding.state == .migrating && binding.migrationUID == "vmim-1")
            #expect(binding.target?.podUID == "uid-target" && binding.active?.podUID == "uid-source")
        }
    }

    private func standing(_ node: NodeOnCluster) async throws -> PodIdentity.Migration? {
        try await node.source.identity(
            ofPod: "target", in: "default", uid: nil, afresh: false, by: .now + .seconds(30)
        ).migration
    }

    /// As KubeVirt sees it (`IsDecentralized`).
    @Test func `a migration that both sends and receives brings the VM from nowhere else`() async throws {
        try await NodeOnCluster.run(watching: false) { node in
            try node.cluster.put(Manifest.instance())
            try node.cluster.put(Manifest.pod("target", instance: "testvm", migration: (uid: "vmim-1", name: "m")))
            try node.cluster.put(Manifest.migration(receives: "x"))
            #expect(try await standing(node)?.standing == .fromElsewhere)
            try node.cluster.put(Manifest.migration(sends: "x", receives: "x"))
            let local = try await standing(node)
            #expect(local?.standing == .open && local?.source == nil)
        }
    }

    @Test func `of a decentralized migration's senders the one that is open is asked for, of more none`() async throws {
        try await NodeOnCluster.run(watching: false) { node in
            try node.cluster.put(Manifest.instance())
            try node.cluster.put(Manifest.pod("target", instance: "testvm", migration: (uid: "vmim-1", name: "m")))
            try node.cluster.put(Manifest.migration(receives: "x"))
            for (name, phase) in [("one", "Running"), ("two", "Running"), ("three", "Failed")] {
                try node.cluster.put(Manifest.migration(name, uid: name, of: "vm-\(name)", phase: phase, sends: "x"))
            }
            func asked() -> [String] { node.gets.filter { $0.hasPrefix("virtualmachineinstances/vm-") } }
            #expect(try await standing(node)?.standing == .fromElsewhere)
            #expect(asked().isEmpty)
            try node.cluster.delete(.virtualMachineInstanceMigrations, name: "two")
            #expect(try await standing(node)?.standing == .fromElsewhere)
            #expect(asked() == ["virtualmachineinstances/vm-one"])
        }
    }

    @Test func `an API server that has said nothing yet is silent since the agent's start`() async throws {
        let before = ContinuousClock.now
        try await NodeOnCluster.run(watching: false) { node in
            let made = ContinuousClock.now
            try await Task.sleep(for: .milliseconds(1))
            let asked = ContinuousClock.now
            let silences = node.source.watches.map(\.silence)
            #expect(silences.count == 3)
            #expect(silences.allSatisfy { $0 >= asked - made && $0 <= .now - before }, "\(silences)")
        }
    }

    @Test func `while the API server is away, or forbids to look, an ADD is to be tried again, and says why`()
        async throws
    {
        try await NodeOnCluster.run(watching: false) { node in
            node.cluster.fail("get", .pods, status: 403)
            let forbidden = await node.refusal("web", uid: "x")
            #expect(forbidden?.code == .tryAgainLater)
            #expect(forbidden?.message.contains(#"verb "get" on "pods""#) == true, "\(forbidden?.message ?? "")")
            await node.cluster.stop()
            let away = await node.refusal("web", uid: "x")
            #expect(away?.code == .tryAgainLater)
            #expect(away?.message.contains("API server \(node.cluster.url)") == true, "\(away?.message ?? "")")
        }
    }

    @Test func `no pod but an instance's makes the agent ask after a migration`() async throws {
        try await NodeOnCluster.run { node in
            func asked(_ name: String) -> Int {
                node.gets.count { $0 == "virtualmachineinstancemigrations/\(name)" }
            }
            try node.cluster.put(Manifest.pod("anybodys", migration: (uid: "vmim-0", name: "label-alone")))
            try node.cluster.put(Manifest.migration())
            try node.cluster.put(
                Manifest.pod("target", instance: "testvm", migration: (uid: "vmim-1", name: "m")))
            // All are asked after in turn.
            await node.wait { asked("m") > 1 }
            #expect(asked("label-alone") == 0)
        }
    }

    @Test func `a pod that names its migration wrongly spoils no other's answer`() async throws {
        try await NodeOnCluster.run { node in
            func phases() async -> [String?] { await node.source.read().objects.migrations.map(\.phase) }
            try node.cluster.put(Manifest.migration())
            try node.cluster.put(Manifest.pod("liar", instance: "testvm", migration: (uid: "vmim-1", name: "wrong")))
            try node.cluster.put(Manifest.pod("target", instance: "testvm", migration: (uid: "vmim-1", name: "m")))
            await node.wait { node.gets.contains("virtualmachineinstancemigrations/wrong") }
            await node.wait { await phases() == ["Scheduling"] }
            try node.cluster.put(Manifest.migration(phase: "Succeeded"))
            await node.wait { await phases() == ["Succeeded"] }
        }
    }

    @Test func `an ADD does not wait for a silent API server longer than the plugin does`() async throws {
        try await NodeOnCluster.run(watching: false, patience: { $0.head = .seconds(3600) }) { node in
            node.cluster.delay(.seconds(3600))
            let deadline = ContinuousClock.now + .milliseconds(300)
            await #expect(throws: IdentityError.self) {
                try await node.source.identity(ofPod: "web", in: "default", uid: nil, afresh: false, by: deadline)
            }
        }
    }

    @Test func `instances that run on the node or come to it are shown, and no other's`() async throws {
        try await NodeOnCluster.run { node in
            func shown() async -> [String] {
                await node.source.read().objects.instances.map(\.metadata.name).sorted()
            }
            try node.cluster.put(Manifest.instance("here", uid: "1", labels: [KubeVirtName.nodeName: "node-a"]))
            try node.cluster.put(Manifest.instance("there", uid: "2", labels: [KubeVirtName.nodeName: "node-b"]))
            try node.cluster.put(
                Manifest.instance(
                    "coming", uid: "3",
                    labels: [
                        KubeVirtName.nodeName: "node-b", KubeVirtName.migrationTargetNodeName: "node-a",
                    ]))
            try node.cluster.put(
                Manifest.instance(
                    "within", uid: "4",
                    labels: [
                        KubeVirtName.nodeName: "node-a", KubeVirtName.migrationTargetNodeName: "node-a",
                    ]))
            await node.wait { await shown() == ["coming", "here", "within"] }
            // Arrived: the label of the move goes last.
            try node.cluster.put(Manifest.instance("coming", uid: "3", labels: [KubeVirtName.nodeName: "node-a"]))
            try node.cluster.put(Manifest.instance("here", uid: "1", labels: [KubeVirtName.nodeName: "node-c"]))
            await node.wait { await shown() == ["coming", "within"] }
        }
    }

    @Test func `a migration is looked up for its target pod, until it has ended`() async throws {
        try await NodeOnCluster.run { node in
            func phases() async -> [String?] { await node.source.read().objects.migrations.map(\.phase) }
            try node.cluster.put(Manifest.migration())
            try node.cluster.put(
                Manifest.pod("target", instance: "testvm", migration: (uid: "vmim-1", name: "m")))
            await node.wait { await phases() == ["Scheduling"] }
            try node.cluster.put(Manifest.migration(phase: "Succeeded"))
            await node.wait { await phases() == ["Succeeded"] }
            // The pod's label stays.
            node.cluster.forgetRequests()
            try node.cluster.put(
                Manifest.pod(
                    "target", instance: "testvm", migration: (uid: "vmim-1", name: "m"), annotations: ["x": "y"]))
            await node.wait { await node.source.read().objects.pods.first?.metadata.annotations["x"] == "y" }
            try await Task.sleep(for: .milliseconds(500))
            #expect(node.gets.isEmpty)
            try node.cluster.delete(.pods, name: "target")
            await node.wait { await node.source.read().objects.migrations.isEmpty }
            await node.wait { node.source.heldObjects == 0 }
        }
    }

    @Test func `a reading is complete once all watches are, and never shows what is gone`() async throws {
        try await NodeOnCluster.run(watching: false) { node in
            #expect(await !node.source.read().isComplete)
        }
        try await NodeOnCluster.run { node in
            #expect(await node.source.read().isCurrent == false)
            try node.cluster.put(
                #"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"odd","labels":{"x":5}},"spec":{"nodeName":"node-a"}}"#
            )
            await node.wait { await !node.source.read().isComplete }
            try node.cluster.delete(.pods, name: "odd")
            await node.wait { await node.source.read().isComplete }
        }
    }

    @Test func `a change is told when it comes`() async throws {
        try await NodeOnCluster.run { node in
            // What the start has changed.
            await node.source.change(within: .milliseconds(1))
            let change = Task { await node.source.change(within: .seconds(3600)) }
            try node.cluster.put(Manifest.instance("here", labels: [KubeVirtName.nodeName: "node-a"]))
            await change.value
            #expect(await node.source.read().objects.instances.count == 1)
            let cancelled = Task { await node.source.change(within: .seconds(3600)) }
            cancelled.cancel()
            await cancelled.value
        }
    }
}
