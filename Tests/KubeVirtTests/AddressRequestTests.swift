import Addresses
import IPAMModel
import KubeVirt
import Testing

/// A VM's pod with three NICs: the pod network; `blue`, of the definition prod/storage; `green`, of the same.
struct Machine {
    static let networks = [
        MachineNetwork(name: "default", isPrimary: true), MachineNetwork(name: "blue"), MachineNetwork(name: "green"),
    ]
    static let blue = MachineNetwork(name: "blue").interface
    static let green = MachineNetwork(name: "green").interface

    static func request(
        _ annotations: [String: String], interface: String = "eth0", network: String = "vm-net", isAttached: Bool = true
    ) throws(WishError) -> AddressRequest {
        var annotations = annotations
        if isAttached {
            annotations["k8s.v1.cni.cncf.io/networks"] = """
                [{"name":"storage","namespace":"prod","interface":"\(blue)"},
                 {"name":"storage","namespace":"prod","interface":"\(green)","mac":"02:00:00:00:00:77"}]
                """
        }
        let pod = ObjectMeta(namespace: "default", name: "p", uid: "u", annotations: annotations)
        let nic = PodInterface(name: interface, network: network, pod: pod, machineNetworks: networks)
        return try AddressRequest(Wish.wishes(in: annotations, for: nic))
    }
}

struct AddressRequestTests {
    private func addresses(_ request: AddressRequest) -> [[String]] { request.choices.map { $0.map(\.description) } }

    @Test func `a VM's network is the interface that KubeVirt names after it`() {
        // As in ../../../shared/fixtures/kubevirt/secondary, written for a network named net1.
        #expect(MachineNetwork(name: "net1").interface == "pod6c270ef2f25")
        #expect(MachineNetwork(name: "default", isPrimary: true).interface == "eth0")
    }

    @Test(arguments: [
        ("holdfast.dev/addresses", "eth0"), ("vm-net.holdfast.dev/addresses", "eth0"),
        ("holdfast.dev/addresses.eth0", "eth0"), ("holdfast.dev/addresses.default", "eth0"),
        ("ovn.kubernetes.io/ip_address", "eth0"),
        ("storage.prod.holdfast.dev/addresses", Machine.blue), ("vm-net.holdfast.dev/addresses", Machine.blue),
        ("holdfast.dev/addresses.blue", Machine.blue), ("holdfast.dev/addresses.\(Machine.blue)", Machine.blue),
        ("storage.prod.ovn.kubernetes.io/ip_address", Machine.blue),
        ("storage.prod.ovn.\(Machine.blue).kubernetes.io/ip_address", Machine.blue),
        ("storage.prod.kubernetes.io/ip_address", Machine.blue),
        ("storage.prod.kubernetes.io/ip_address.\(Machine.blue)", Machine.blue),
    ])
    func `an annotation speaks for the NIC that it names`(name: String, interface: String) throws {
        let request = try Machine.request([name: "10.16.0.15/24, fd00::15"], interface: interface)
        #expect(addresses(request) == [["10.16.0.15", "fd00::15"]])
        // Of the others at most one of the same definition or network is meant as well.
        let isOfWholeNetwork = name.contains("vm-net") || name.contains("storage") && !name.contains(Machine.blue)
        if !isOfWholeNetwork {
            for other in ["eth0", Machine.blue, Machine.green] where other != interface {
                #expect(try Machine.request([name: "10.16.0.15"], interface: other).choices.isEmpty)
            }
        }
    }

    @Test func `MAC and pool have the same forms, and every one is read`() throws {
        let request = try Machine.request(
            [
                "storage.prod.kubernetes.io/mac_address.\(Machine.green)": "02:00:0A:10:00:0f",
                "storage.prod.ovn.kubernetes.io/logical_switch": "storage",
                "holdfast.dev/mac.green": "02-00-0a-10-00-0f",
                "storage.prod.holdfast.dev/pool": "storage", "holdfast.dev/pool": "vms", "holdfast.dev/mac": "nonsense",
            ], interface: Machine.green)
        #expect(request.mac?.description == "02:00:0a:10:00:0f" && request.pool == "storage")
        #expect(try Machine.request(["ovn.kubernetes.io/logical_switch": "vms"]).pool == "vms")
        #expect(try Machine.request(["ovn.kubernetes.io/mac_address": "02:00:0a:10:00:0f"]).mac == request.mac)
    }

    @Test func `other projects' JSON is read for its NIC`() throws {
        let kubevirt = [
            "network.kubevirt.io/addresses": #"{"default": ["10.16.0.15"], "blue": ["10.17.0.1", "fd00::1"]}"#
        ]
        #expect(addresses(try Machine.request(kubevirt)) == [["10.16.0.15"]])
        #expect(addresses(try Machine.request(kubevirt, interface: Machine.blue)) == [["10.17.0.1", "fd00::1"]])
        #expect(try Machine.request(kubevirt, interface: Machine.green).choices.isEmpty)

        let calico = ["cni.projectcalico.org/ipAddrs": #"["fd00::15", "10.16.0.15"]"#]
        #expect(addresses(try Machine.request(calico)) == [["10.16.0.15", "fd00::15"]])
        #expect(try Machine.request(calico, interface: Machine.blue).choices.isEmpty)

        for text in [
            #"[{"name":"main","namespace":"prod","ips":["10.16.0.15/16"],"mac":"02:00:00:00:00:01"}]"#,
            #"{"name":"main","namespace":"prod","ips":["10.16.0.15"],"mac":"02:00:00:00:00:01"}"#,
        ] {
            let request = try Machine.request(["v1.multus-cni.io/default-network": text])
            #expect(addresses(request) == [["10.16.0.15"]] && request.mac?.description == "02:00:00:00:00:01")
        }
        let named = [
            "v1.multus-cni.io/default-network": "prod/main", "main.prod.ovn.kubernetes.io/ip_address": "10.16.0.15",
        ]
        #expect(addresses(try Machine.request(named)) == [["10.16.0.15"]])
    }

    @Test(arguments: [
        ("10.16.0.15", [["10.16.0.15"]]), ("10.16.0.15, 10.16.0.16", [["10.16.0.15"], ["10.16.0.16"]]),
        ("10.16.0.15,fd00::15", [["10.16.0.15", "fd00::15"]]), ("fd00::15", [["fd00::15"]]),
        ("10.16.0.15,fd00::15;fd00::16,10.16.0.16", [["10.16.0.15", "fd00::15"], ["10.16.0.16", "fd00::16"]]),
        ("10.16.0.15;10.16.0.15;10.16.0.16", [["10.16.0.15"], ["10.16.0.16"]]), ("", []),
    ])
    func `a list in ip_pool is a choice, as Kube-OVN splits it`(text: String, choices: [[String]]) throws {
        let request = try Machine.request(["ovn.kubernetes.io/ip_pool": text])
        #expect(addresses(request) == choices && request.pool == nil)
    }

    @Test func `a list in ip_pool has 64 elements at most`() throws {
        func list(_ count: Int) -> [String: String] {
            ["ovn.kubernetes.io/ip_pool": (1...count).map { "10.16.0.\($0)" }.joined(separator: ",")]
        }
        #expect(try Machine.request(list(64)).choices.count == 64)
        #expect {
            try Machine.request(list(65))
        } throws: { error in
            guard case .unreadable(_, let value, let expected)? = error as? WishError else { return false }
            return value.hasSuffix("…") && expected.contains("at most 64") && expected.contains("has 65")
        }
    }

    @Test func `a name in ip_pool is a pool, and goes before the subnet that it is a part of`() throws {
        #expect(try Machine.request(["ovn.kubernetes.io/ip_pool": "web.1"]).pool == "web.1")
        let both = ["ovn.kubernetes.io/ip_pool": "web", "ovn.kubernetes.io/logical_switch": "vms"]
        #expect(try Machine.request(both).pool == "web")
        #expect(throws: WishError.self) { try Machine.request(both.merging(["holdfast.dev/pool": "vms"]) { $1 }) }
    }

    @Test func `fixed addresses narrow a list, and families from two sources come together`() throws {
        let list = "10.16.0.15,fd00::15;10.16.0.16,fd00::16"
        #expect(
            addresses(
                try Machine.request(["ovn.kubernetes.io/ip_pool": list, "ovn.kubernetes.io/ip_address": "fd00::16"]))
                == [["10.16.0.16", "fd00::16"]])
        #expect(
            addresses(
                try Machine.request(["holdfast.dev/addresses": "fd00::1", "ovn.kubernetes.io/ip_address": "10.16.0.1"]))
                == [["10.16.0.1", "fd00::1"]])
        #expect(
            addresses(
                try Machine.request([
                    "ovn.kubernetes.io/ip_pool": "10.16.0.15,10.16.0.16", "holdfast.dev/addresses": "fd00::1",
                ])) == [["10.16.0.15", "fd00::1"], ["10.16.0.16", "fd00::1"]])
    }

    @Test(arguments: [
        ("holdfast.dev/addresses", "10.16.0.1", "ovn.kubernetes.io/ip_address", "10.16.0.2"),
        ("holdfast.dev/addresses", "10.16.0.1,fd00::1", "cni.projectcalico.org/ipAddrs", #"["fd00::2"]"#),
        ("holdfast.dev/addresses", "10.16.0.1", "ovn.kubernetes.io/ip_pool", "10.16.0.2,10.16.0.3"),
        ("holdfast.dev/mac", "02:00:00:00:00:01", "ovn.kubernetes.io/mac_address", "02:00:00:00:00:02"),
        ("holdfast.dev/pool", "a", "ovn.kubernetes.io/logical_switch", "b"),
        ("holdfast.dev/pool.eth0", "a", "ovn.kubernetes.io/ip_pool", "b"),
        ("ovn.kubernetes.io/ip_address", "10.16.0.1", "network.kubevirt.io/addresses", #"{"default":["10.16.0.2"]}"#),
        (
            "holdfast.dev/mac", "02:00:00:00:00:01", "v1.multus-cni.io/default-network",
            #"[{"name":"a","mac":"02:00:00:00:00:02"}]"#
        ),
    ])
    func `two that contradict each other are an error that names both with their values`(
        first: String, value: String, second: String, other: String
    ) {
        #expect {
            try Machine.request([first: value, second: other])
        } throws: { error in
            guard case .contradiction(let a, let b) = error as? WishError else { return false }
            return a.source == .annotation(first) && a.text == value && b.source == .annotation(second)
                && b.text == other
        }
    }

    @Test(arguments: [
        ("ovn.kubernetes.io/ip_address", "10.16.0"), ("ovn.kubernetes.io/ip_address", "10.16.0.15/33"),
        ("ovn.kubernetes.io/ip_address", "10.16.0.15,"), ("ovn.kubernetes.io/ip_address", "10.16.0.15,10.16.0.16"),
        ("ovn.kubernetes.io/ip_address", "auto"), ("ovn.kubernetes.io/ip_address", "127.0.0.1"),
        ("ovn.kubernetes.io/mac_address", "02:00:0a:10:00"), ("holdfast.dev/mac", "01:00:5e:00:00:01"),
        ("holdfast.dev/mac", "00:00:00:00:00:00"), ("holdfast.dev/pool", "a b"), ("holdfast.dev/pool", "-a"),
        ("ovn.kubernetes.io/ip_pool", "10.16.0.1,web"), ("ovn.kubernetes.io/ip_pool", "10.16.0.1;"),
        ("ovn.kubernetes.io/ip_pool", "10.16.0.1,10.16.0.2;10.16.0.3"), ("cni.projectcalico.org/ipAddrs", "10.16.0.1"),
        ("cni.projectcalico.org/ipAddrs", #"["10.16.0.1","10.16.0.2"]"#), ("network.kubevirt.io/addresses", "[]"),
        ("network.kubevirt.io/addresses", #"{"default":["x"]}"#), ("v1.multus-cni.io/default-network", "a/b/c"),
        ("v1.multus-cni.io/default-network", #"[{"name":"a"},{"name":"b"}]"#),
        ("v1.multus-cni.io/default-network", #"[{"name":"a","mac":"02"}]"#),
        ("v1.multus-cni.io/default-network", #"[{"name":"a","ips":["x"]}]"#),
    ])
    func `a bad value is an error that names annotation, value and what is expected`(name: String, value: String) {
        #expect {
            try Machine.request([name: value])
        } throws: { error in
            guard case .unreadable(.annotation(name), value, let expected) = error as? WishError else { return false }
            return !expected.isEmpty
        }
    }

    @Test(arguments: ["", "[]", "{}"])
    func `an empty value asks for nothing`(value: String) throws {
        let name = value == "{}" ? "network.kubevirt.io/addresses" : "cni.projectcalico.org/ipAddrs"
        #expect(try Machine.request([name: value]).choices.isEmpty)
    }

    @Test func `a NIC that Multus was not told of is called by its configuration's name, in the pod's namespace`()
        throws
    {
        let annotations = [
            "storage.prod.kubernetes.io/ip_address": "10.17.0.15",
            "storage.default.kubernetes.io/ip_address": "10.18.0.15",
        ]
        func request(_ network: String) throws -> [[String]] {
            addresses(try Machine.request(annotations, interface: "net1", network: network, isAttached: false))
        }
        #expect(try request("storage") == [["10.18.0.15"]])
        #expect(try request("other") == [])
    }

    @Test(arguments: [
        "prod/storage, backup@data0", " prod/storage,\n\tbackup@data0\n",
        #"[{"name": "storage", "namespace": "prod"}, {"name": "backup", "interfaceRequest": "data0"}]"#,
    ])
    func `each of Multus' forms names the definitions of net1, net2 and so on`(networks: String) throws {
        let annotations = [
            "k8s.v1.cni.cncf.io/networks": networks,
            "storage.prod.ovn.kubernetes.io/ip_address": "10.17.0.15",
            "backup.default.holdfast.dev/addresses": "10.18.0.15",
        ]
        func request(_ interface: String) throws -> [[String]] {
            addresses(try Machine.request(annotations, interface: interface, network: "x", isAttached: false))
        }
        #expect(try request("net1") == [["10.17.0.15"]])
        #expect(try request("data0") == [["10.18.0.15"]])
        #expect(try request("net2") == [])
    }

    @Test(arguments: [
        ([], "eth0"), ([MachineNetwork(name: "blue"), MachineNetwork(name: "main", isPrimary: true)], "eth0"),
        ([MachineNetwork(name: "blue"), MachineNetwork(name: "green")], Machine.blue),
    ])
    func `one NIC has the default route: the VM's first network's, or the pod's primary one`(
        networks: [MachineNetwork], interface: String
    ) {
        let pod = ObjectMeta(namespace: "default", name: "p", uid: "u")
        let names = ["eth0", "net1", Machine.blue, Machine.green].filter {
            PodInterface(name: $0, network: "n", pod: pod, machineNetworks: networks).hasDefaultRoute
        }
        #expect(names == [interface])
    }
}
