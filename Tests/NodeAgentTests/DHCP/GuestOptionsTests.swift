import Addresses
import CNI
import DHCP
import IPAMAPI
import IPAMModel
import KubeVirt
import Testing

@testable import NodeAgent

struct GuestOptionsTests {
    private static let ipv4Annotation = "ovn.kubernetes.io/dhcp-v4-options"
    private static let ipv6Annotation = "ovn.kubernetes.io/dhcp-v6-options"

    private func described() throws -> DescribedBinding {
        func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }
        let binding = Binding(
            owner: Owner(kind: .virtualMachine, namespace: "default", name: "testvm", network: "vm-net/eth0"),
            pool: "vms",
            assignments: [
                Assignment(
                    address: try address("10.16.0.15"), prefixLength: 16, gateway: try address("10.16.0.1")),
                Assignment(address: try address("fd00::15"), prefixLength: 64, gateway: try address("fd00::1")),
            ], mac: MACAddress(bits: 0x0200_0a10_000f), revision: 1, createdAt: Timestamp(seconds: 0),
            updatedAt: Timestamp(seconds: 0))
        return DescribedBinding(
            binding: binding,
            routes: [
                Route(destination: try #require(IPPrefix("192.168.0.0/16"))),
                Route(destination: try #require(IPPrefix("fd01::/64"))),
            ],
            dns: DNS(nameservers: [try address("10.16.0.2"), try address("fd00::2")], domain: "d", search: ["s"]))
    }

    private func nic(
        _ interface: String, network: String, _ annotations: [String: String], mac: MACAddress? = nil
    ) -> PodInterface {
        PodInterface(
            name: interface, network: network,
            pod: ObjectMeta(namespace: "ns1", name: "launcher", uid: "u", annotations: annotations),
            machineNetworks: mac.map { [MachineNetwork(name: "default", isPrimary: true, mac: $0)] } ?? [])
    }

    private func options(
        dhcp: JSON = .null, isDefault: Bool = true, _ annotations: [String: String] = [:], interface: String = "eth0",
        network: String = "vm-net", asIPAM: Bool = false, mac: MACAddress? = nil
    ) throws -> GuestOptions {
        let plugin: JSON = ["type": "holdfast-cni", "dhcp": dhcp, "delegate": ["type": "bridge"]]
        var json: JSON = ["type": "bridge", "ipam": plugin]
        if !asIPAM { json = plugin }
        var object = try #require(json.object)
        object["cniVersion"] = "1.0.0"
        object["name"] = .string(network)
        return try GuestOptions(
            isDefault: isDefault, network: NetworkConfiguration(object), annotations: annotations,
            nic: nic(interface, network: network, annotations, mac: mac), hostName: "testvm")
    }

    @Test func `the VM's word goes before the network's, the network's before the agent's`() throws {
        #expect(try options().isOn && !options(isDefault: false).isOn)
        for asIPAM in [true, false] {
            #expect(try options(dhcp: true, isDefault: false, asIPAM: asIPAM).isOn)
            #expect(try options(dhcp: ["leaseTime": 60], isDefault: false, asIPAM: asIPAM).isOn)
            #expect(try !options(dhcp: false, asIPAM: asIPAM).isOn)
        }
        #expect(try options(dhcp: false, [GuestOptions.annotation: "true"]).isOn)
        #expect(try !options(dhcp: true, [GuestOptions.annotation: "false"]).isOn)
    }

    @Test func `what speaks for one NIC goes before what speaks for its network`() throws {
        let on = "vm-net.ns1.\(GuestOptions.annotation)"
        #expect(try options(isDefault: false, [on: "true"], interface: "net1").isOn)
        #expect(try !options([on: "true", "\(GuestOptions.annotation).net1": "false"], interface: "net1").isOn)
        let provider = "vm-net.ns1.ovn"
        let annotations = [
            "\(provider).net1.kubernetes.io/dhcp-v4-options": "lease_time=70",
            "\(provider).kubernetes.io/dhcp-v4-options": "lease_time=80",
        ]
        for (interface, leaseTime) in [("net1", 70), ("net2", 80)] as [(String, UInt32)] {
            let options = try options(annotations, interface: interface)
            #expect(try options.configuration(of: described()).ipv4?.leaseTime == leaseTime)
        }
    }

    @Test func `whose VM has another MAC than the binding is answered by that`() throws {
        let mac = MACAddress(bits: 0x0200_0000_0066)
        #expect(try options(mac: mac).configuration(of: described()).mac == mac)
        #expect(try options().configuration(of: described()).mac == described().binding.mac)
    }

    @Test func `a delegate's own call to its IPAM plugin says the same as the network`() throws {
        let dhcp: JSON = ["leaseTime": 77]
        let beside: JSONObject = [
            "cniVersion": "1.0.0", "name": "n", "type": "holdfast-cni", "dhcp": dhcp, "delegate": ["type": "bridge"],
        ]
        let wrapped: JSONObject = [
            "cniVersion": "1.0.0", "name": "n", "type": "holdfast-cni",
            "delegate": ["type": "bridge", "ipam": ["type": "holdfast-cni", "dhcp": dhcp]],
        ]
        for network in [beside, wrapped] {
            let delegate = try #require(try NetworkConfiguration(network).delegateConfiguration(mac: nil))
            for network in [network, delegate] {
                let options = try GuestOptions(
                    isDefault: false, network: NetworkConfiguration(network), annotations: [:],
                    nic: nic("eth0", network: "n", [:]), hostName: "")
                #expect(options.isOn)
                #expect(try options.configuration(of: described()).ipv4?.leaseTime == 77)
            }
        }
    }

    @Test func `pool and binding say what there is to say`() throws {
        let guest = try options().configuration(of: described())
        let ipv4 = try #require(guest.ipv4)
        #expect(guest.mac == MACAddress(bits: 0x0200_0a10_000f))
        #expect(ipv4.address.description == "10.16.0.15" && ipv4.router?.description == "10.16.0.1")
        #expect(ipv4.hostName == "testvm" && ipv4.domain == "d" && ipv4.search == ["s"] && ipv4.leaseTime == 86_400)
        #expect(ipv4.nameservers.map(\.description) == ["10.16.0.2"])
        #expect(ipv4.routes.map(\.router.description) == ["10.16.0.1"], "a route without gateway is the pool's")
        let ipv6 = try #require(guest.ipv6)
        #expect(ipv6.address.description == "fd00::15" && ipv6.router == nil)
        #expect(ipv6.nameservers.map(\.description) == ["fd00::2"] && ipv6.search == ["s"])
    }

    /// As a pod's: CNIResult's tests say why.
    @Test func `a guest is routed as its pod is`() throws {
        func ipv4(
            gateway: String?, _ routes: (String, String?)..., hasDefaultRoute: Bool = true
        ) throws -> DHCPv4Lease {
            var described = try self.described()
            described.binding.assignments[0].gateway = gateway.flatMap(IPAddress.init)
            described.routes = try routes.map {
                Route(destination: try #require(IPPrefix($0.0)), gateway: $0.1.flatMap(IPAddress.init))
            }
            let interface = hasDefaultRoute ? "eth0" : "net1"
            return try #require(options(interface: interface).configuration(of: described).ipv4)
        }
        func shown(_ lease: DHCPv4Lease) -> [String] {
            (lease.router.map { ["\($0)"] } ?? []) + lease.routes.map { "\($0.destination) \($0.router)" }
        }
        for hasDefaultRoute in [true, false] {
            let own = try ipv4(
                gateway: "10.16.0.1", ("10.0.0.0/8", "10.16.0.2"), ("0.0.0.0/0", "10.16.0.3"),
                hasDefaultRoute: hasDefaultRoute)
            #expect(shown(own) == ["10.16.0.3", "10.0.0.0/8 10.16.0.2"])
            let noGateway = try ipv4(gateway: nil, ("0.0.0.0/0", "10.16.0.3"), hasDefaultRoute: hasDefaultRoute)
            #expect(shown(noGateway) == ["10.16.0.3"], "in option 3")
        }
        #expect(try shown(ipv4(gateway: nil, ("192.168.50.0/24", nil))) == ["192.168.50.0/24 0.0.0.0"], "on the link")
        #expect(
            try shown(ipv4(gateway: nil, ("0.0.0.0/0", "169.254.1.1"), ("169.254.1.1/32", nil)))
                == ["169.254.1.1", "169.254.1.1/32 0.0.0.0"])
        #expect(try shown(ipv4(gateway: nil, ("0.0.0.0/0", nil))) == ["0.0.0.0/0 0.0.0.0"], "no router for option 3")
    }

    @Test func `the router for IPv6 is named on the NIC that has the default route`() throws {
        func router(_ interface: String, _ described: DescribedBinding) throws -> IPAddress? {
            try options(dhcp: ["ipv6Router": "fe80::1"], interface: interface).configuration(of: described).ipv6?.router
        }
        var described = try self.described()
        #expect(try router("eth0", described)?.description == "fe80::1")
        #expect(try router("net1", described) == nil)
        described.routes.append(Route(destination: try #require(IPPrefix("::/0"))))
        #expect(try router("net1", described)?.description == "fe80::1")
    }

    @Test func `a network that names none has the router of the pool's own route where that can advertise`() throws {
        func router(_ gateway: String?, interface: String = "net1") throws -> IPAddress? {
            var described = try described()
            described.routes.append(
                Route(
                    destination: try #require(IPPrefix("::/0")),
                    gateway: try gateway.map { try #require(IPAddress($0)) }))
            return try options(dhcp: true, interface: interface).configuration(of: described).ipv6?.router
        }
        #expect(try router("fe80::2")?.description == "fe80::2")
        #expect(try router("fd00::2") == nil && router(nil, interface: "eth0") == nil)
    }

    @Test func `the network's object sets what a pool does not have`() throws {
        let dhcp: JSON = [
            "leaseTime": 3600, "mtu": 1400, "ntpServers": ["10.0.0.5", "fd00::5"], "ipv6Router": "fe80::1",
        ]
        let guest = try options(dhcp: dhcp).configuration(of: described())
        #expect(guest.ipv4?.leaseTime == 3600 && guest.ipv6?.leaseTime == 3600 && guest.ipv4?.mtu == 1400)
        #expect(guest.ipv4?.ntpServers.map(\.description) == ["10.0.0.5"])
        #expect(
            guest.ipv6?.ntpServers.map(\.description) == ["fd00::5"] && guest.ipv6?.router?.description == "fe80::1")
    }

    @Test(
        arguments: [
            ["leaseTime": 59], ["leaseTime": "60"], ["mtu": 65536], ["ntpServers": ["x"]], ["ipv6Router": "fd00::1"],
            ["ipv6Router": "10.0.0.1"], ["lease": 60], "yes", 1,
            ["ntpServers": .array(Array(repeating: "10.0.0.1", count: 17))],
        ] as [JSON])
    func `what the network says wrongly is refused with what would be right`(dhcp: JSON) throws {
        let error = #expect(throws: CNIError.self) { try options(dhcp: dhcp) }
        #expect(error?.code == .invalidConfiguration && error?.details.contains("expected") == true)
    }

    @Test func `Kube-OVN's annotations go before everything, key by key`() throws {
        let options = try options(
            dhcp: ["mtu": 1400, "leaseTime": 600],
            [
                Self.ipv4Annotation:
                    "lease_time=3600, router=10.16.0.4,dns_server={1.1.1.1;8.8.8.8},hostname=\"other\","
                    + "server_id=10.16.0.9,server_mac=00:00:00:2E:2F:B8,domain_search_list=\"a.b, c.d\",tftp_server=1.2.3.4,"
                    + "ms_classless_static_route={10.0.0.0/8,10.16.0.5,172.16.0.0/12,10.16.0.6}",
                Self.ipv6Annotation: "server_id=00:00:00:00:00:01,dns_server={fd00::9}",
            ])
        let guest = try options.configuration(of: described())
        let ipv4 = try #require(guest.ipv4)
        #expect(ipv4.leaseTime == 3600 && ipv4.mtu == 1400 && ipv4.hostName == "other")
        #expect(ipv4.router?.description == "10.16.0.4" && ipv4.server.description == "10.16.0.9")
        #expect(ipv4.nameservers.map(\.description) == ["1.1.1.1", "8.8.8.8"] && ipv4.search == ["a.b", "c.d"])
        #expect(ipv4.serverMAC.description == "00:00:00:2e:2f:b8")
        #expect(
            ipv4.routes.map { "\($0.destination) \($0.router)" } == ["10.0.0.0/8 10.16.0.5", "172.16.0.0/12 10.16.0.6"])
        #expect(guest.ipv6?.serverMAC.bits == 1 && guest.ipv6?.nameservers.map(\.description) == ["fd00::9"])
        #expect(options.unknown == ["tftp_server"])
    }

    @Test(arguments: [
        "lease_time", "lease_time=x", "lease_time=0", "mtu=1", "lease_time=-1", "router=10.16.0.300", "router=fd00::1",
        "dns_server={1.1.1.1,x}",
        "dns_server={1.1.1.1", "server_mac=01:00:5e:00:00:01", "classless_static_route={10.0.0.0/8}", "=1", "mtu=70000",
    ])
    func `an option that cannot be honoured is refused with its annotation`(text: String) throws {
        let error = #expect(throws: CNIError.self) {
            _ = try options([Self.ipv4Annotation: text]).configuration(of: described())
        }
        #expect(error?.code == .badAnnotation && error?.message.contains(Self.ipv4Annotation) == true)
    }

    @Test(arguments: [
        (key: "domain_search_list", value: "..", most: 16), ("dns_server", "10.0.0.1", 16),
        ("ntp_server", "10.0.0.1", 16),
        ("classless_static_route", "10.0.0.0/8,10.16.0.1", 64), ("domain_search", "..", 16),
        ("dns_server", "fd00::1", 16),
    ])
    func `an option that has more values than a pool may have is refused, in few words`(
        key: String, value: String, most: Int
    ) throws {
        let isIPv6 = key == "domain_search" || value == "fd00::1"
        func refusal(of count: Int) throws -> CNIError? {
            let text = "\(key)={\(Array(repeating: value, count: count).joined(separator: ","))}"
            let options = try options([isIPv6 ? Self.ipv6Annotation : Self.ipv4Annotation: text])
            do { _ = try options.configuration(of: described()) } catch let error as CNIError { return error }
            return nil
        }
        #expect(try refusal(of: most) == nil)
        for count in [most + 1, 20_000] {
            let error = try #require(try refusal(of: count))
            #expect(error.code == .badAnnotation && error.message.contains(key) && error.message.utf8.count < 1500)
            #expect(error.details.contains("\(most)"))
        }
    }

    @Test func `a secondary NIC has annotations of its own, and no default route`() throws {
        let multus = [
            "k8s.v1.cni.cncf.io/networks":
                "[{\"name\":\"net1\",\"namespace\":\"ns1\",\"interface\":\"pod1a2b3c4d5e6\"}]"
        ]
        func lease(_ annotations: [String: String]) throws -> DHCPv4Lease? {
            try options(
                annotations.merging(multus) { $1 }, interface: "pod1a2b3c4d5e6", network: "net1"
            ).configuration(of: described()).ipv4
        }
        #expect(try lease(["net1.ns1.ovn.kubernetes.io/dhcp-v4-options": "lease_time=7200"])?.leaseTime == 7200)
        #expect(try lease(["net2.ns1.ovn.kubernetes.io/dhcp-v4-options": "lease_time=7200"])?.leaseTime == 86_400)
        #expect(try lease([Self.ipv4Annotation: "lease_time=7200"])?.leaseTime == 86_400)
        let plain = try lease([:])
        #expect(plain?.router == nil && plain?.routes.map(\.router.description) == ["10.16.0.1"])
        #expect(
            try lease(["net1.ns1.ovn.kubernetes.io/dhcp-v4-options": "router=10.16.0.9"])?.router?.description
                == "10.16.0.9")
        let off = ["holdfast.dev/dhcp.pod1a2b3c4d5e6": "false"].merging(multus) { $1 }
        #expect(try !options(off, interface: "pod1a2b3c4d5e6", network: "net1").isOn)
        #expect(try options(off).isOn)
    }
}
