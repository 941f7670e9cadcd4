import Addresses
import ArgumentParser
import Foundation
import IPAMAPI
import IPAMModel
import KubeVirt
import Program
import Testing

@testable import holdfast

/// `holdfast import`, on objects as kubectl prints them; with a real server: Tests/outside/test_import.py.
@Suite struct `What import reads` {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent()

    private func path(_ name: String) -> String { Self.folder.appending(path: "Import/\(name)").path }

    /// What is printed, and whether it ended well.
    private func dryRun(
        _ files: [String], _ options: [String] = [], calls: FakeCalls = FakeCalls()
    ) async throws -> String {
        let line = ["import", "--dry-run"] + options + files.map(path)
        let command = try #require(try Holdfast.parseAsRoot(line) as? ImportCommand)
        var output = ""
        let session = Session(
            calls: calls, timeout: .seconds(1), format: command.options.output, now: Sample.now,
            write: { output += $0 + "\n" })
        do {
            try await command.run(session)
        } catch let code as ExitCode {
            output += "exit \(code.rawValue)\n"
        }
        #expect(calls.noted.isEmpty)
        return output
    }

    /// After a change that is meant: `UPDATE_GOLDEN=1 swift test --filter HoldfastCLITests`, and read the difference.
    private func compare(_ output: String, with name: String) throws {
        let file = Self.folder.appending(path: "Golden/\(name)")
        if ProcessInfo.processInfo.environment["UPDATE_GOLDEN"] != nil { try Data(output.utf8).write(to: file) }
        #expect(output == (try String(contentsOf: file, encoding: .utf8)), "\(name)")
    }

    @Test(arguments: ["table", "json"]) func `Kube-OVN's subnets and IPs`(format: String) async throws {
        let output = try await dryRun(
            ["cluster.yaml", "kube-ovn.yaml"], ["-o", format, "--network", "ovn-default=vm-net"])
        try compare(output, with: "import-kube-ovn.\(format)")
    }

    /// The pools that are made fit each other by the ledger's rules: Tests/outside/test_import.py.
    @Test(arguments: ["table", "json"]) func `Kube-OVN's IPPools, each a pool in its Subnet's network`(
        format: String
    ) async throws {
        let output = try await dryRun(["cluster.yaml", "kube-ovn-ippools.yaml"], ["-o", format])
        try compare(output, with: "import-ippools.\(format)")
    }

    @Test func `IPPools that contradict their Subnet, each other, or who has their addresses`() async throws {
        try compare(try await dryRun(["kube-ovn-contradictions.yaml"]), with: "import-contradictions.table")
    }

    @Test func `whereabouts' pools and reservations`() async throws {
        try compare(try await dryRun(["cluster.yaml", "whereabouts.yaml"]), with: "import-whereabouts.table")
    }

    @Test func `host-local's state, with the node's configuration`() async throws {
        let output = try await dryRun(
            ["cluster.yaml", "10-cbr0.conflist"], ["--host-local", path("host-local")])
        try compare(output, with: "import-host-local.table")
    }

    @Test func `what cannot be told, each with what would tell it`() async throws {
        let output = try await dryRun(["kube-ovn.yaml", "whereabouts.yaml"], ["--host-local", path("host-local")])
        try compare(output, with: "import-unclear.table")
    }

    @Test func `what the server has already, and has otherwise`() async throws {
        func binding(_ name: String, _ network: String, _ addresses: [String]) throws -> DescribedBinding {
            DescribedBinding(
                binding: Binding(
                    owner: Owner(
                        kind: .virtualMachine, namespace: name == "testvm" ? "default" : "prod", name: name,
                        network: network), pool: "lan",
                    assignments: try addresses.map {
                        Assignment(address: try #require(IPAddress($0)), prefixLength: 16, gateway: nil)
                    }, mac: try #require(MACAddress("02:00:00:00:16:05")), revision: 1, createdAt: Sample.now,
                    updatedAt: Sample.now))
        }
        let calls = FakeCalls(
            bindings: [
                try binding("testvm", "lan/pod094a367b026", ["10.16.0.5", "fd00:10:16::5"]),
                try binding("idle", "lan/eth0", ["10.16.0.99"]), try binding("other", "lan/eth0", ["10.16.0.9"]),
            ])
        let output = try await dryRun(
            ["cluster.yaml", "kube-ovn.yaml"], ["--network", "ovn-default=vm-net"], calls: calls)
        try compare(output, with: "import-server.table")
    }

    @Test func `nothing is done where anything conflicts, unless it is asked for`() async throws {
        let files = ["cluster.yaml", "whereabouts.yaml"].map(path)
        let calls = FakeCalls(bindings: try Sample.bindings())
        await #expect(throws: Failure.self) { try await run(["import"] + files, on: calls) }
        #expect(calls.noted.isEmpty)
        await #expect(throws: ExitCode.self) { try await run(["import", "--partial"] + files, on: calls) }
        #expect(
            calls.noted == [
                "create pool 10.20.0.0-24-fd20---64",
                """
                allocate vm default/testvm (storage-net/pod49a25f9feef) pool 10.20.0.0-24-fd20---64 \
                ["10.20.0.5", "fd20::5"] mac 02:00:00:00:20:05 attached false
                """,
            ])
    }

    @Test func `a pool that the server refuses takes its addresses with it, each named`() async throws {
        let calls = FakeCalls(refusal: IPAMError(.failedPrecondition, .poolOverlap, "it overlaps"))
        let plan = ["import", "--partial", path("cluster.yaml"), path("whereabouts.yaml")]
        await #expect(throws: Failure.self) { try await run(plan, on: calls) }
    }

    @Test(arguments: [
        ("- a: [", "cannot be read"),
        ("{apiVersion: kubeovn.io/v1, kind: Subnet, metadata: {name: x}, spec: {cidrBlock: 10.0.0.1/8}}", "Subnet x"),
        (
            "{apiVersion: kubeovn.io/v1, kind: IPPool, metadata: {name: x}, spec: {subnet: s, ips: [10.0.0.9..10.0.0.1]}}",
            "IPPool x"
        ),
        ("{apiVersion: kubeovn.io/v1, kind: IP, metadata: {name: x}, spec: {ipAddress: 10.0.0}}", "IP x"),
        (
            "{apiVersion: whereabouts.cni.cncf.io/v1alpha1, kind: IPPool, metadata: {name: x}, spec: {range: any}}",
            "IPPool x"
        ),
        (
            "{apiVersion: whereabouts.cni.cncf.io/v1alpha1, kind: IPPool, metadata: {name: x}, spec: {range: 10.0.0.0/24, allocations: {a: {}}}}",
            "offset"
        ),
    ])
    func `what is malformed is refused by name`(text: String, complaint: String) throws {
        var objects = ForeignObjects()
        do {
            try objects.read(text, from: "ipam.yaml")
            Issue.record("read: \(text)")
        } catch let failure as Failure {
            #expect(failure.description.hasPrefix("ipam.yaml") && failure.description.contains(complaint), "\(failure)")
        }
    }

    /// A record of VM prod/idle by Kube-OVN, and one of pod prod/launcher, VM prod/gone's, by whereabouts.
    private func findings(
        besides given: String, networks: [String: String] = ["lan": "vm-net", "10.20.0.0-24": "storage/net1"]
    ) throws -> [String] {
        var objects = ForeignObjects()
        let records = """
            {apiVersion: kubeovn.io/v1, kind: Subnet, metadata: {name: lan}, spec: {cidrBlock: 10.16.0.0/16, provider: ovn}}
            ---
            {apiVersion: kubeovn.io/v1, kind: IP, metadata: {name: idle.prod}, spec: {podName: idle, namespace: prod, \
            subnet: lan, ipAddress: 10.16.0.6, podType: VirtualMachine}}
            ---
            {apiVersion: whereabouts.cni.cncf.io/v1alpha1, kind: IPPool, metadata: {name: 10.20.0.0-24}, \
            spec: {range: 10.20.0.0/24, allocations: {"5": {podref: prod/launcher, ifname: net1}}}}
            ---
            {apiVersion: v1, kind: Pod, metadata: {name: launcher, namespace: prod, uid: p, ownerReferences: \
            [{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: friend, uid: vmi-friend}, \
            {apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: gone, uid: vmi-gone, controller: true}]}}
            ---

            """
        try objects.read(records + given, from: "x")
        return ImportReader(objects: objects, hostLocal: [], networks: networks).findings.compactMap { finding in
            switch finding {
            case .claim(let claim): "claimed: \(claim.owner.name) \(claim.owner.uid)"
            case .leftOut(_, let addresses, let why): addresses.isEmpty ? nil : "left out: \(why)"
            case .unclear(_, _, let why): "unclear: \(why)"
            }
        }
    }

    private func machine(_ name: String) -> String {
        "{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {name: \(name), namespace: prod, uid: vm-\(name)}}"
    }

    @Test func `what a VM that is not there any more had is left out, and without any VMs nobody can tell`() throws {
        let help = "only VMs tell: give `kubectl get vm,vmi -A -o yaml`"
        #expect(
            try findings(besides: "") == [
                "unclear: whether VM prod/idle is there \(help)", "unclear: whether VM prod/gone is there \(help)",
            ])
        #expect(
            try findings(besides: machine("another")) == [
                "left out: its VM prod/idle is gone",
                "unclear: VM prod/gone, whose pod prod/launcher runs, is not among those given: give all of them",
            ])
        #expect(
            try findings(besides: machine("idle") + "\n---\n" + machine("gone")) == [
                "claimed: idle vm-idle", "claimed: gone vm-gone",
            ])
        let ownNetwork = try findings(besides: machine("idle"), networks: [:])[0]
        #expect(ownNetwork.hasPrefix("unclear: it is of Kube-OVN's own network"), "\(ownNetwork)")
    }

    @Test func `a VM's NIC of before KubeVirt 1 is known by the name that its next pod gives it`() throws {
        let folder = "/tmp/holdfast-test-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try FileManager.default.createDirectory(atPath: folder + "/lan", withIntermediateDirectories: true)
        try Data("c\nnet2".utf8).write(to: URL(filePath: folder + "/lan/10.30.0.5"))
        func claim(_ status: String) throws -> ImportClaim {
            var objects = ForeignObjects()
            try objects.read(
                """
                {apiVersion: whereabouts.cni.cncf.io/v1alpha1, kind: IPPool, metadata: {name: 10.20.0.0-24}, \
                spec: {range: 10.20.0.0/24, allocations: {"5": {podref: prod/launcher, ifname: net2}}}}
                ---
                {apiVersion: v1, kind: Pod, metadata: {name: launcher, namespace: prod, uid: p, ownerReferences: \
                [{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: old, uid: x, controller: true}], \
                annotations: {k8s.v1.cni.cncf.io/network-status: '\(status)'}}}
                ---
                {apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {name: old, namespace: prod, uid: vm-old}, \
                spec: {template: {spec: {networks: [{name: blue, multus: {networkName: a}}, {name: default, pod: {}}, \
                {name: red, multus: {networkName: b}}]}}}}
                """, from: "x")
            try objects.read(
                """
                {"cniVersion":"1.0.0","name":"lan","type":"bridge",\
                "ipam":{"type":"host-local","ranges":[[{"subnet":"10.30.0.0/24"}]]}}
                """, from: "lan.conf")
            let reader = ImportReader(
                objects: objects, hostLocal: [try HostLocal(path: folder)], networks: ["10.20.0.0-24": "storage"])
            let claims = reader.findings.compactMap { if case .claim(let claim) = $0 { claim } else { nil } }
            #expect(claims.last?.owner.network == "lan/" + claims[0].owner.network.dropFirst("storage/".count))
            #expect(claims.count == 2 && claims.last?.note == claims[0].note)
            return claims[0]
        }
        let old = try claim(#"[{"name":"a","interface":"net1"},{"name":"b","interface":"net2","ips":["10.30.0.5"]}]"#)
        #expect(old.owner.network == "storage/" + MachineNetwork(name: "red").interface)
        #expect(old.note?.hasSuffix("(net2): restart the VM before it migrates") == true)
        // A network binding plugin's NIC of a newer VM.
        let blue = MachineNetwork(name: "blue").interface
        let new = try claim(
            #"[{"name":"a","interface":"\#(blue)"},{"name":"b","interface":"net2","ips":["10.30.0.5"]}]"#)
        #expect(new.owner.network == "storage/net2" && new.note == nil)
    }

    /// Pod prod/web's record by whereabouts, and the definition prod/storage with this configuration.
    private func plan(_ configuration: String, besides given: String = "", isShown: Bool = false) throws -> ImportPlan {
        let status = #"[{"name":"prod/storage","interface":"net1"}]"#
        var objects = ForeignObjects()
        try objects.read(
            """
            {apiVersion: whereabouts.cni.cncf.io/v1alpha1, kind: IPPool, metadata: {name: 10.20.0.0-24}, \
            spec: {range: 10.20.0.0/24, allocations: {"5": {podref: prod/web, ifname: net1}}}}
            ---
            {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: prod, uid: p, \
            annotations: {k8s.v1.cni.cncf.io/network-status: '\(isShown ? status : "[]")'}}}
            ---
            {apiVersion: k8s.cni.cncf.io/v1, kind: NetworkAttachmentDefinition, \
            metadata: {name: storage, namespace: prod}, spec: {config: '\(configuration)'}}
            ---
            \(given)
            """, from: "x")
        return ImportPlan(ImportReader(objects: objects, hostLocal: [], networks: [:]), known: [], bindings: [])
    }

    private func configuration(_ ranges: String, version: String = "1.0.0", name: String = "storage") -> String {
        #"{"cniVersion":"\#(version)","name":"\#(name)","type":"macvlan","ipam":{"type":"whereabouts",\#(ranges)}}"#
    }

    @Test(arguments: [
        (#""range":"10.20.0.0/24""#, "0.2.0", #"cniVersion "0.2.0" is not supported"#, false),
        (#""range":"10.20.0.10-10.20.0.99/24","exclude":["x"]"#, "1.0.0", #""ipam.exclude[0]""#, false),
        (#""ipRanges":[{"range":"10.20.0.0/24"},{"range":"10.21.0.0/24"}]"#, "1.0.0", "is a second range", false),
        (#""range":"10.20.0.0""#, "1.0.0", "is no range like", true),
    ])
    func `a network that the agent would refuse is a conflict, and no other pool is made in its place`(
        ranges: String, version: String, problem: String, isShown: Bool
    ) throws {
        let plan = try plan(configuration(ranges, version: version), isShown: isShown)
        let actions = plan.rows.map(\.action)
        #expect(plan.conflicts == 1 && plan.pools.isEmpty, "\(actions)")
        #expect(actions.first?.contains("would refuse its network storage: ") == true, "\(actions)")
        #expect(actions.first?.contains(problem) == true, "\(actions)")
    }

    @Test func `the pool of a range is as its networks describe it, be they one or two`() throws {
        let ranges = #""range":"10.20.0.0/24","gateway":"10.20.0.1""#
        let other =
            "{apiVersion: k8s.cni.cncf.io/v1, kind: NetworkAttachmentDefinition, metadata: {name: other, namespace: prod}, "
            + "spec: {config: '\(configuration(ranges, name: "other"))'}}"
        for besides in ["", other] {
            let plan = try plan(configuration(ranges), besides: besides, isShown: true)
            #expect(plan.conflicts == 0 && plan.rows.first?.owner?.network == "storage/net1")
            #expect(plan.pools.map { $0.prefixes.first?.gateway?.description } == ["10.20.0.1"])
        }
        // Both families' ranges are one pool of all networks that have them.
        let both = #""ipRanges":[{"range":"10.20.0.0/24"},{"range":"fd20::/64"}]"#
        let twin = try plan(
            configuration(both), besides: other.replacing(ranges, with: both), isShown: true)
        #expect(twin.conflicts == 0 && twin.pools.map(\.prefixes.count) == [2])
        // One that nobody uses may be wrong.
        let wrong = try plan(configuration(ranges), besides: other.replacing("1.0.0", with: "0.2.0"), isShown: true)
        #expect(wrong.conflicts == 0 && wrong.pools.map { $0.prefixes.first?.gateway?.description } == ["10.20.0.1"])
        // What has no configuration of its own, the node's file has.
        #expect(try plan("", isShown: true).conflicts == 0)
    }

    @Test func `a network for a pool that is not there is refused, naming those that are`() async throws {
        let failure = await #expect(throws: Failure.self) {
            try await dryRun(["cluster.yaml", "kube-ovn.yaml"], ["--network", "ovn=vm-net"])
        }
        #expect(failure?.description == "--network ovn=…: what was read has no pool ovn")
        #expect(failure?.hint?.contains("ovn-default") == true, "\(failure?.hint ?? "")")
    }

    @Test func `what is no YAML is told by its place, without the text around it`() throws {
        let text = #"{"items": [\#(String(repeating: "{}, ", count: 10_000))}"#
        var objects = ForeignObjects()
        let failure = #expect(throws: Failure.self) { try objects.read(text, from: "pods.json") }
        #expect(failure?.description.hasPrefix("pods.json cannot be read: line 1, column ") == true)
        #expect((failure?.description.count ?? 0) < 200, "\(failure?.description ?? "")")
    }

    @Test func `objects of other kinds, empty lists and empty files are passed over`() throws {
        var objects = ForeignObjects()
        for text in [
            "", "---\n", "{kind: List, apiVersion: v1, items: []}",
            "{kind: Service, apiVersion: v1, metadata: {name: x}}", "[]", "text",
        ] {
            try objects.read(text, from: "x")
        }
        #expect(objects.kubeOVNAddresses.isEmpty && objects.pods.isEmpty)
    }
}
