import Foundation
import IPAMAPI
import IPAMModel
import KubeVirt
import KubernetesAPI
import Lifecycle
import TestCluster
import Testing

/// The operator's command against server and cluster.
@Suite(.serialized) struct CommandTests {
    private func withChain(_ body: (Chain, TestCluster) async throws -> Void) async throws {
        try await TestCluster.run { cluster in
            let chain = try Chain(cluster, followsCluster: false)
            do {
                try await body(chain, cluster)
            } catch {
                await chain.stop()
                throw error
            }
            await chain.stop()
        }
    }

    private func machine(_ name: String) -> String {
        """
        {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachine","metadata":{"namespace":"default","name":"\(name)",\
        "uid":"uid-\(name)"}}
        """
    }

    private let network = PlayedPod.Network(name: "vm-net", interface: "eth0")

    /// The VM, its instance and its pod on node-a.
    private func launch(_ name: String, in cluster: TestCluster) throws -> PlayedPod {
        try cluster.put(machine(name))
        try cluster.put(
            """
            {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","metadata":{"namespace":"default",\
            "name":"\(name)","uid":"vmi-\(name)","ownerReferences":[{"apiVersion":"kubevirt.io/v1",\
            "kind":"VirtualMachine","name":"\(name)","uid":"uid-\(name)","controller":true}]},\
            "spec":{"networks":[{"name":"default","pod":{}}]}}
            """)
        try cluster.put(
            """
            {"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"default","name":"launcher-\(name)",\
            "uid":"pod-\(name)","annotations":{"ovn.kubernetes.io/ip_address":"10.16.0.15"},\
            "ownerReferences":[{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance",\
            "name":"\(name)","uid":"vmi-\(name)","controller":true}]},"spec":{"nodeName":"node-a"}}
            """)
        return PlayedPod(
            namespace: "default", name: "launcher-\(name)", uid: "pod-\(name)", node: "node-a",
            networks: [network])
    }

    @Test func `Events say what a VM got, and why another got nothing; annotations what its pod has`() async throws {
        try await withChain { chain, cluster in
            func message(_ reason: String, on vm: String) throws -> String? {
                for object in cluster.objects(.events) {
                    let event = try #require(try JSONSerialization.jsonObject(with: object.json) as? [String: Any])
                    let about = event["involvedObject"] as? [String: String]
                    if event["reason"] as? String == reason, about?["name"] == vm, about?["kind"] == "VirtualMachine" {
                        return event["message"] as? String
                    }
                }
                return nil
            }
            let first = try launch("first", in: cluster)
            try await chain.add(first)
            try await eventually("told") {
                try message("AddressAllocated", on: "first")?.contains("10.16.0.15") == true
            }
            try await eventually("annotated") {
                let pod = cluster.object(.pods, name: "launcher-first").map { String(decoding: $0.json, as: UTF8.self) }
                return pod?.contains(#""holdfast.dev/assigned-addresses.eth0":"10.16.0.15/24""#) == true
            }
            // With the right to no more than pods/status, which cannot change an image.
            let patched = cluster.requests.lazy.filter { $0.verb == "patch" && $0.resource.plural == "pods" }
            #expect(Set(patched.map(\.resource)) == [.podStatus])
            #expect(try chain.plugin("ADD", launch("second", in: cluster), network).status != 0)
            try await eventually("told why") {
                try message("AddressRefused", on: "second")?.contains("vm default/first") == true
            }
            try await chain.delete(first)
        }
    }

    @Test func `check names a deleted VM's addresses, frees them when asked to, and then all agree`() async throws {
        try await withChain { chain, cluster in
            try cluster.put(machine("here"))
            for name in ["here", "gone"] {
                _ = try await chain.client.allocate(AllocateRequest(owner: vm(name)), timeout: .seconds(20))
            }
            let found = try chain.holdfast("check", "--grace", "100ms")
            #expect(found.status == 1, "\(found.output)")
            #expect(found.output.contains("the cluster is that of \(cluster.url), context test"), "\(found.output)")
            #expect(found.output.contains("the VM is gone") && found.output.contains("free the addresses"))
            #expect(!found.output.contains("here"), "\(found.output)")
            let mended = try chain.holdfast("check", "--grace", "100ms", "--repair")
            #expect(mended.status == 0 && mended.output.contains("done"), "\(mended.output)")
            let agreed = try chain.holdfast("check")
            #expect(agreed.status == 0 && agreed.output.contains("1 binding agrees"), "\(agreed.output)")
            cluster.fail("list", .virtualMachines, status: 403)
            let failed = try chain.holdfast("check", "--grace", "100ms", "--repair")
            #expect(failed.status == 1 && failed.output.contains("forbids the list"), "\(failed.output)")
        }
    }

    /// KubeVirt says that the target's domain runs, so the migration is committed; then it fails, and the target's pod ends.
    @Test func `check tells of a VM that runs on at its source after a migration that failed late`() async throws {
        try await withChain { chain, cluster in
            let patience = Duration.seconds(20)
            let (source, target) = (attachment("source"), attachment("target", on: "node-b"))
            let made = try await chain.client.allocate(
                AllocateRequest(owner: vm("late"), attachment: source), timeout: patience)
            for phase in [TransferPhase.prepare(target: target), .commit(targetOwner: nil)] {
                _ = try await chain.client.transfer(
                    TransferRequest(owner: vm("late"), migrationUID: "m", phase: phase), timeout: patience)
            }
            _ = try await chain.client.release(
                .attachment(target.id, owner: vm("late"), network: "vm-net/eth0"), timeout: patience)
            let address = try #require(made.binding.binding.assignments.first?.address)
            try cluster.put(machine("late"))
            func run(in pod: String, on node: String) throws {
                try cluster.put(
                    """
                    {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","metadata":{"namespace":"default",\
                    "name":"late","uid":"vmi-late"},"status":{"nodeName":"\(node)",\
                    "migrationState":{"migrationUid":"m","failed":true}}}
                    """)
                let status = #"[{\"name\":\"net\",\"interface\":\"eth0\",\"ips\":[\"\#(address)\"],\"default\":true}]"#
                try cluster.put(
                    """
                    {"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"default","name":"\(pod)",\
                    "uid":"uid-\(pod)","labels":{"kubevirt.io":"virt-launcher"},\
                    "annotations":{"k8s.v1.cni.cncf.io/network-status":"\(status)"},\
                    "ownerReferences":[{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","name":"late",\
                    "uid":"vmi-late","controller":true}]},"spec":{"nodeName":"\(node)"},"status":{"phase":"Running"}}
                    """)
            }
            try run(in: "source", on: "node-a")
            let found = try chain.holdfast("check", "--grace", "100ms", "--repair")
            #expect(found.status == 1, "\(found.output)")
            #expect(found.output.contains("runs on with these addresses in pod source"), "\(found.output)")
            // The next migration mends it.
            for phase in [
                TransferPhase.prepare(target: attachment("third", on: "node-b")), .commit(targetOwner: nil),
            ] {
                _ = try await chain.client.transfer(
                    TransferRequest(owner: vm("late"), migrationUID: "next", phase: phase), timeout: patience)
            }
            try run(in: "third", on: "node-b")
            let agreed = try chain.holdfast("check", "--grace", "100ms")
            #expect(agreed.status == 0, "\(agreed.output)")
        }
    }

    @Test func `transfer waits for the copy that the VM's last node has`() async throws {
        try await withChain { chain, cluster in
            let pod = try launch("first", in: cluster)
            try await chain.add(pod)
            try await chain.delete(pod)
            let done = try chain.holdfast("transfer", "--from", "default/first", "--to", "default/other")
            #expect(done.status == 0 && done.output.contains("waiting:"), "\(done.output)")
            let left = try await chain.client.bindings(matching: BindingFilter(), timeout: .seconds(20))
            #expect(left.map(\.owner.name) == ["other"] && left.first?.state == .reserved)
        }
    }

    @Test func `transfer gives a stopped VM's addresses and MACs to another, on all its networks`() async throws {
        try await withChain { chain, _ in
            let patience = Duration.seconds(20)
            for network in ["vm-net/eth0", "vlan/net1"] {
                _ = try await chain.client.allocate(
                    AllocateRequest(owner: vm("old", network: network)), timeout: patience)
            }
            func all() async throws -> [Binding] {
                try await chain.client.bindings(matching: BindingFilter(), timeout: patience)
            }
            let before = try await all()
            let done = try chain.holdfast("transfer", "--from", "default/old", "--to", "default/new")
            #expect(done.status == 0, "\(done.output)")
            let after = try await all()
            #expect(after.map(\.owner.name) == ["new", "new"] && after.allSatisfy { $0.state == .reserved })
            #expect(after.map(\.assignments) == before.map(\.assignments) && after.map(\.mac) == before.map(\.mac))
            // The new VM, whatever its UID, starts with them.
            let started = try await chain.client.allocate(
                AllocateRequest(owner: vm("new"), attachment: attachment("p")), timeout: patience)
            #expect(!started.created && started.binding.binding.assignments == before[0].assignments)
            // Now it runs.
            let refused = try chain.holdfast("transfer", "--from", "default/new", "--to", "default/old")
            #expect(refused.status == 1, "\(refused.output)")
            #expect(refused.output.contains("default/new runs: pod p on node node-a"), "\(refused.output)")
            #expect(refused.output.contains("virtctl stop new -n default"), "\(refused.output)")
            #expect(try await all().map(\.state).contains(.bound))
            #expect(try await all().allSatisfy { $0.target == nil && $0.owner.name == "new" })
            // Who has some already is not given more.
            _ = try await chain.client.allocate(AllocateRequest(owner: vm("third")), timeout: patience)
            let taken = try chain.holdfast(
                "transfer", "--from", "default/third", "--to", "default/new", "--network", "vm-net/eth0")
            #expect(taken.status == 1 && taken.output.contains("default/new has"), "\(taken.output)")
            let none = try chain.holdfast("transfer", "--from", "default/old", "--to", "default/x")
            #expect(none.status == 1 && none.output.contains("default/old has no binding"), "\(none.output)")
        }
    }
}
