import Addresses
import CNI
import Foundation
import IPAMModel
import Ledger
import Testing

/// Through Debian's real bridge plugin, with this package's plugin as a process, in network namespaces.
@Suite(.serialized, .enabled(if: NetworkNamespaces.areUsable))
struct BridgeTests {
    enum Way: CaseIterable { case asIPAM, asMain }

    private func configuration(_ way: Way, _ fixture: NodeFixture, bridge: String) -> JSON {
        switch way {
        case .asIPAM:
            [
                "cniVersion": "1.0.0", "name": "vm-net", "type": "bridge", "bridge": .string(bridge),
                "ipam": ["type": "holdfast-cni", "pool": "vms", "socket": .string(fixture.socket)],
            ]
        case .asMain:
            [
                "cniVersion": "1.0.0", "name": "vm-net", "type": "holdfast-cni", "pool": "vms",
                "socket": .string(fixture.socket), "delegate": ["type": "bridge", "bridge": .string(bridge)],
            ]
        }
    }

    private let machine = """
        apiVersion: kubevirt.io/v1
        kind: VirtualMachine
        metadata: {namespace: default, name: testvm, uid: vm-1}
        """
    private let instance = """
        apiVersion: kubevirt.io/v1
        kind: VirtualMachineInstance
        metadata:
          {namespace: default, name: testvm, uid: vmi-1, ownerReferences: [
            {apiVersion: kubevirt.io/v1, kind: VirtualMachine, name: testvm, uid: vm-1, controller: true}]}
        """

    private func launcher(_ pod: String) -> String {
        """
        apiVersion: v1
        kind: Pod
        metadata:
          {namespace: default, name: \(pod), uid: uid-\(pod), ownerReferences: [
            {apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: testvm, uid: vmi-1, controller: true}]}
        spec: {nodeName: node-a}
        """
    }

    @Test(arguments: Way.allCases)
    func `the pod's interface gets the VM's address, routes and, with a delegate, its MAC`(way: Way) async throws {
        try await NodeFixture.run { fixture in
            let configuration = configuration(way, fixture, bridge: fixture.bridgeName())
            try fixture.write(machine, to: "vm.yaml")
            try fixture.write(instance, to: "vmi.yaml")
            try fixture.write(launcher("first"), to: "pod.yaml")
            let netns = try fixture.makeNamespace()
            let added = try fixture.runtime(
                "ADD", configuration: configuration, container: "c1", netns: netns, pod: "first", uid: "uid-first")
            try added.requireSuccess()

            let binding = try #require(fixture.ipam.bindings.first)
            #expect(
                binding.owner
                    == Owner(
                        kind: .virtualMachine, namespace: "default", name: "testvm", uid: "vm-1",
                        network: "vm-net/eth0"))
            #expect(binding.pool == "vms" && binding.active?.podUID == "uid-first" && binding.active?.node == "node-a")
            let link = try Interface(in: netns)
            #expect(link.addresses == ["10.16.0.11/16"])
            #expect(link.routes.prefix(2) == ["default via 10.16.0.1", "10.16.0.0/16"])
            #expect(link.routes.contains("192.168.0.0/16 via 10.16.0.1"))
            if way == .asMain {
                #expect(link.mac == binding.mac.description)
                #expect(try added.json["dns"]?["nameservers"] == ["10.16.0.2"])
            }

            // Twice, as kubelet may.
            for _ in 0..<2 {
                let deleted = try fixture.runtime(
                    "DEL", configuration: configuration, container: "c1", netns: netns, pod: "first",
                    uid: "uid-first")
                try deleted.requireSuccess()
                #expect(deleted.output == "")
            }
            #expect(try !Interface.exists(in: netns))
            #expect(fixture.ipam.bindings.first?.state == .reserved)
        }
    }

    @Test(arguments: Way.allCases)
    func `a restarted VM keeps address and MAC in another namespace, and answers there`(way: Way) async throws {
        try await NodeFixture.run { fixture in
            let configuration = configuration(way, fixture, bridge: fixture.bridgeName())
            try fixture.write(instance, to: "vmi.yaml")
            var seen: [Interface] = []
            for pod in ["first", "second"] {
                try fixture.write(launcher(pod), to: "pod.yaml")
                let netns = try fixture.makeNamespace()
                try fixture.runtime(
                    "ADD", configuration: configuration, container: "c-\(pod)", netns: netns, pod: pod
                ).requireSuccess()
                seen.append(try Interface(in: netns))
                if pod == "second" {
                    try fixture.write(
                        "apiVersion: v1\nkind: Pod\nmetadata: {name: client, uid: uid-client}\nspec: {nodeName: node-a}",
                        to: "client.yaml")
                    let client = try fixture.makeNamespace()
                    try fixture.runtime(
                        "ADD", configuration: configuration, container: "c-client", netns: client, pod: "client"
                    ).requireSuccess()
                    try Executable.run(["ip", "netns", "exec", client, "ping", "-c1", "-w20", "10.16.0.11"])
                        .requireSuccess()
                } else {
                    try fixture.remove("pod.yaml")
                    try fixture.runtime(
                        "DEL", configuration: configuration, container: "c-\(pod)", netns: netns, pod: pod
                    ).requireSuccess()
                }
            }
            #expect(seen[0].addresses == seen[1].addresses)
            if way == .asMain { #expect(seen[0].mac == seen[1].mac) }
        }
    }

    @Test func `addresses of both families, MAC and pool are those of the annotations`() async throws {
        try await NodeFixture.run { fixture in
            try fixture.write(
                """
                apiVersion: v1
                kind: Pod
                metadata:
                  name: web
                  uid: uid-web
                  annotations:
                    ovn.kubernetes.io/ip_address: 10.17.0.15,fd00::15
                    ovn.kubernetes.io/mac_address: 02:00:00:00:00:0f
                    ovn.kubernetes.io/logical_switch: other
                spec: {nodeName: node-a}
                """, to: "web.yaml")
            let netns = try fixture.makeNamespace()
            let configuration = configuration(.asMain, fixture, bridge: fixture.bridgeName())
            try fixture.runtime("ADD", configuration: configuration, container: "c1", netns: netns, pod: "web")
                .requireSuccess()
            let link = try Interface(in: netns)
            #expect(link.addresses == ["10.17.0.15/16", "fd00::15/64"])
            #expect(link.mac == "02:00:00:00:00:0f")
            #expect(link.routes.first == "default via 10.17.0.1")
            #expect(
                try Executable.run(["ip", "-n", netns, "-6", "route", "show", "default"]).output
                    .hasPrefix("default via fd00::1 "))
        }
    }

    // CNI 1.1, section 2, "DEL": succeeds "even if some resources or state are missing".
    @Test(arguments: Way.allCases)
    func `DEL succeeds when namespace, pod and binding are gone already`(way: Way) async throws {
        try await NodeFixture.run { fixture in
            let configuration = configuration(way, fixture, bridge: fixture.bridgeName())
            try fixture.runtime(
                "DEL", configuration: configuration, container: "never", netns: "hf-gone", pod: "gone"
            ).requireSuccess()
        }
    }

    @Test func `a refused ADD leaves no interface and names the holder`() async throws {
        try await NodeFixture.run { fixture in
            let configuration = configuration(.asMain, fixture, bridge: fixture.bridgeName())
            let holder = Owner(kind: .virtualMachine, namespace: "default", name: "holder", network: "vm-net/eth0")
            try fixture.ipam.apply(
                .allocate(AllocateRequest(owner: holder, addresses: [IPAddress(family: .ipv4, bits: 0x0a10_000f)])))
            try fixture.write(
                """
                apiVersion: v1
                kind: Pod
                metadata: {name: web, uid: uid-web, annotations: {ovn.kubernetes.io/ip_address: 10.16.0.15}}
                spec: {nodeName: node-a}
                """, to: "web.yaml")
            let netns = try fixture.makeNamespace()
            let added = try fixture.runtime(
                "ADD", configuration: configuration, container: "c1", netns: netns, pod: "web")
            #expect(added.status == 1)
            #expect(try added.json["code"] == 103)
            #expect(try added.json["msg"]?.string?.contains("default/holder") == true)
            #expect(try added.json["cniVersion"] == "1.0.0")
            #expect(try !Interface.exists(in: netns))
        }
    }

    @Test func `an agent that is away is code 11`() async throws {
        try await NodeFixture.run { fixture in
            let added = try fixture.runtime(
                "ADD",
                configuration: [
                    "cniVersion": "1.0.0", "name": "vm-net", "type": "bridge",
                    "ipam": ["type": "holdfast-cni", "socket": "/run/holdfast-test/none.sock"],
                ], container: "c1", netns: try fixture.makeNamespace(), pod: "web")
            #expect(added.status != 0)
            #expect(try added.json["code"] == 11)
            #expect(try added.json["msg"]?.string?.contains("/run/holdfast-test/none.sock") == true)
        }
    }
}

/// What the kernel says of a pod's interface; of all its routes.
struct Interface: Equatable {
    var mac = ""
    var addresses: [String] = []
    /// "DESTINATION via GATEWAY", in the kernel's order.
    var routes: [String] = []

    static func exists(_ name: String = "eth0", in netns: String) throws -> Bool {
        try Executable.run(["ip", "-n", netns, "link", "show", name]).status == 0
    }

    init(_ name: String = "eth0", in netns: String) throws {
        let lines = try Executable.run(["ip", "-n", netns, "addr", "show", name]).requireSuccess().split(
            separator: "\n")
        for line in lines {
            let words = line.split(separator: " ")
            if words.first == "link/ether" { mac = String(words[1]) }
            if words.first == "inet" || words.first == "inet6" && words.contains("global") {
                addresses.append(String(words[1]))
            }
        }
        routes = try Executable.run(["ip", "-n", netns, "route"]).requireSuccess().split(separator: "\n").map { line in
            let words = line.split(separator: " ")
            return words.prefix(words.dropFirst().first == "via" ? 3 : 1).joined(separator: " ")
        }
    }
}

enum NetworkNamespaces {
    static let areUsable: Bool = {
        // On CI's machine they are: there tests fail rather than be left out.
        if ProcessInfo.processInfo.environment["HOLDFAST_CI"] != nil { return true }
        guard FileManager.default.isExecutableFile(atPath: "/usr/lib/cni/bridge") else {
            print("skipped: tests in network namespaces need /usr/lib/cni/bridge (containernetworking-plugins)")
            return false
        }
        let name = "hf-probe-\(UUID().uuidString.prefix(6).lowercased())"
        guard let made = try? Executable.run(["ip", "netns", "add", name]), made.status == 0 else {
            print("skipped: tests in network namespaces need root and the right to make namespaces")
            return false
        }
        _ = try? Executable.run(["ip", "netns", "del", name])
        return true
    }()
}
