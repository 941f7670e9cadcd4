import Addresses
import Foundation
import IPAMModel
import KubeVirt
import Testing

struct ManifestTests {
    private func object(_ text: String) throws -> ClusterObject { try ClusterObject(manifest: Data(text.utf8)) }

    @Test func `YAML and JSON of one object are the same object`() throws {
        let yaml = """
            # a comment
            apiVersion: v1
            kind: Pod
            metadata:
              name: web
              uid: 69d8d0e3
              creationTimestamp: 2026-11-24T04:40:00Z
              annotations: {count: "5", switch: 'on'}
              unknown: [1, {x: y}]
            spec: {nodeName: node-a, containers: [{name: a, image: b}]}
            status: {phase: Running}
            """
        let json = """
            {"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"default","uid":"69d8d0e3",
            "creationTimestamp":"2026-11-24T04:40:00Z","annotations":{"count":"5","switch":"on"}},
            "spec":{"nodeName":"node-a"},"status":{"phase":"Running"}}
            """
        let pod = Pod(
            metadata: ObjectMeta(
                namespace: "default", name: "web", uid: "69d8d0e3", annotations: ["count": "5", "switch": "on"],
                createdAt: Timestamp(seconds: 1_795_495_200)),
            nodeName: "node-a", phase: "Running")
        #expect(try object(yaml) == .pod(pod))
        #expect(try object(json) == .pod(pod))
        let flow = "{apiVersion: v1, kind: Pod, metadata: {name: web, uid: x}}"
        #expect(
            try object(flow) == .pod(Pod(metadata: ObjectMeta(namespace: "default", name: "web", uid: "x"))))
    }

    /// As Multus writes it (Network Custom Resource Definition De-facto Standard, 5).
    @Test func `a pod's interfaces and their addresses are those that Multus notes`() throws {
        func interfaces(_ status: String) throws -> [String: [IPAddress]]? {
            let text = status.replacing("\"", with: "\\\"")
            guard
                case .pod(let pod) = try object(
                    """
                    {"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","uid":"x",
                    "annotations":{"k8s.v1.cni.cncf.io/network-status":"\(text)"}}}
                    """)
            else { throw CocoaError(.coderInvalidValue) }
            return pod.interfaces
        }
        let noted = try interfaces(
            """
            [{"name":"k8s-pod-network","interface":"eth0","ips":["10.244.1.9","fd00::9"],"default":true,"dns":{}},\
            {"name":"default/vms","interface":"pod6c270ef2f25","ips":["10.16.0.15"],"mac":"02:00:00:00:00:01"},\
            {"name":"default/layer2","interface":"net3"},{"name":"odd","ips":["10.0.0.1"]}]
            """)
        #expect(
            noted == [
                "eth0": ["10.244.1.9", "fd00::9"].compactMap(IPAddress.init),
                "pod6c270ef2f25": ["10.16.0.15"].compactMap(IPAddress.init), "net3": [],
            ])
        #expect(noted?["eth0"]?.count == 2)
        #expect(try interfaces("nonsense") == nil)
        #expect(try interfaces(#"[{"interface":"eth0","ips":["nonsense"]}]"#) == ["eth0": []])
    }

    @Test func `a VM's network is bridged where its interface of that name says so`() throws {
        let text = """
            {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","metadata":{"name":"a","uid":"x"},"spec":{
            "networks":[{"name":"a","pod":{}},{"name":"b","multus":{"networkName":"n"}},{"name":"c"},{"name":"d"},
            {"name":"e"},{"name":"f"}],
            "domain":{"devices":{"interfaces":[{"name":"b","bridge":{}},{"name":"a","masquerade":{}},
            {"name":"c","binding":{"name":"managedTap"}},{"name":"d","binding":{"name":"passt"}},{"name":"e","sriov":{}}]}}}}
            """
        guard case .instance(let instance) = try object(text) else { throw CocoaError(.coderInvalidValue) }
        #expect(instance.networks.filter(\.isBridged).map(\.name) == ["b", "c"])
    }

    @Test(arguments: [
        "", "{", "a: [", "kind: Pod", "apiVersion: v1\nkind: Pod", "apiVersion: v1\nkind: Pod\nmetadata: {name: web}",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: [], uid: x}", "- 1", "null", "\u{1}",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, uid: b}\n---\napiVersion: v1\nkind: Pod",
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachineInstanceMigration\nmetadata: {name: a, uid: b}",
    ])
    func `what is no whole object is refused`(text: String) {
        #expect(throws: (any Error).self) { try object(text) }
    }

    @Test func `a kind that is not looked at is no error`() throws {
        #expect(try object("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}") == .other)
        #expect(try object("apiVersion: example.com/v1\nkind: VirtualMachine\nspec: 5") == .other)
    }

    @Test(arguments: ["lifecycle", "migrate", "migrate-failures", "secondary"])
    func `every object that a real API server sent is read`(story: String) throws {
        var kinds: Set<String> = []
        for event in try Recording(story).events {
            kinds.insert(event.resource)
            #expect(event.object != .other)
        }
        #expect(kinds.isSuperset(of: ["Pod", "VirtualMachine", "VirtualMachineInstance"]))
    }

    @Test func `the guest's MAC is the VM's word, else its domain's, and its name what KubeVirt makes of it`() throws {
        func instance(_ name: String, _ spec: String) throws -> VirtualMachineInstance {
            guard
                case .instance(let instance) = try object(
                    """
                    {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","metadata":{"name":"\(name)","uid":"x"},
                    "spec":{\(spec)"networks":[{"name":"default","pod":{}},{"name":"blue","multus":{"networkName":"b"}}]},
                    "status":{"interfaces":[{"mac":"02:00:00:00:00:07","interfaceName":"docker0"},
                    {"name":"blue","mac":"02:00:00:00:00:08"},{"name":"default","mac":"02:00:00:00:00:09"}]}}
                    """)
            else { throw CocoaError(.coderInvalidValue) }
            return instance
        }
        let plain = try instance("db.prod", "")
        #expect(plain.networks.map(\.mac?.description) == ["02:00:00:00:00:09", "02:00:00:00:00:08"])
        #expect(plain.hostName == "db")
        let interfaces = #"{"name":"default","macAddress":"02-00-00-00-00-01","masquerade":{}},{"name":"blue"}"#
        let asked = try instance(
            "db", #""hostname":"one","domain":{"devices":{"interfaces":[\#(interfaces)]}},"#)
        #expect(asked.networks.map(\.mac?.description) == ["02:00:00:00:00:01", "02:00:00:00:00:08"])
        #expect(asked.hostName == "one")
        #expect(try instance(String(repeating: "a", count: 100), "").hostName == String(repeating: "a", count: 63))
    }
}
