import Addresses
import IPAMAPI
import IPAMModel
import Testing

/// What the golden files show.
enum Sample {
    static let now = Timestamp(seconds: 1_800_000_000)

    static func pools() throws -> [DescribedPool] {
        let v4 = try #require(IPPrefix("10.16.0.0/16"))
        let v6 = try #require(IPPrefix("fd00:10:16::/64"))
        let small = try #require(IPPrefix("192.168.7.0/31"))
        return [
            DescribedPool(
                pool: Pool(
                    name: "lab", prefixes: [PoolPrefix(prefix: small, usesEdgeAddresses: true)], namespaces: ["lab"],
                    reuseDelay: .seconds(90), namespaceQuota: 2, revision: 3),
                usage: [PrefixUsage(prefix: small, total: 2, bound: 1, reserved: 0, quarantined: 1, free: 0)]),
            DescribedPool(
                pool: Pool(
                    name: "vm-net",
                    prefixes: [
                        PoolPrefix(
                            prefix: v4, gateway: IPAddress("10.16.0.1"),
                            excluded: [
                                try #require(AddressRange("10.16.0.2..10.16.0.9")),
                                try #require(AddressRange("10.16.255.0/24")),
                            ]),
                        PoolPrefix(prefix: v6, gateway: IPAddress("fd00:10:16::1")),
                    ],
                    routes: [
                        Route(destination: try #require(IPPrefix("0.0.0.0/0"))),
                        Route(destination: try #require(IPPrefix("172.16.0.0/12")), gateway: IPAddress("10.16.0.2")),
                    ],
                    dns: DNS(
                        nameservers: [try #require(IPAddress("10.96.0.10"))], domain: "cluster.local",
                        search: ["svc.cluster.local"], options: ["ndots:5"]),
                    isDefault: true, revision: 12),
                usage: [
                    PrefixUsage(prefix: v4, total: 65270, bound: 2, reserved: 1, quarantined: 4, free: 65263),
                    PrefixUsage(prefix: v6, total: .max, bound: 1, reserved: 0, quarantined: 0, free: .max - 1),
                ]),
        ]
    }

    static func bindings() throws -> [DescribedBinding] {
        let gateway = IPAddress("10.16.0.1")
        func vm(_ namespace: String, _ name: String, _ address: String, age: Int64) throws -> Binding {
            let address = try #require(IPAddress(address))
            return Binding(
                owner: Owner(
                    kind: .virtualMachine, namespace: namespace, name: name, uid: "7d3c-\(name)", network: "vm-net/eth0"
                ),
                pool: "vm-net", assignments: [Assignment(address: address, prefixLength: 16, gateway: gateway)],
                mac: MACAddress(bits: 0x0200_0000_0000 | UInt64(truncatingIfNeeded: address.bits)), revision: 41,
                createdAt: now.back(age), updatedAt: now.back(age - 5))
        }
        var migrating = try vm("default", "testvm", "10.16.0.15", age: 3 * 86_400)
        migrating.assignments.append(
            Assignment(
                address: try #require(IPAddress("fd00:10:16::f")), prefixLength: 64,
                gateway: IPAddress("fd00:10:16::1")))
        migrating.active = IPAMModel.Attachment(
            node: "node-a", pod: "virt-launcher-testvm-x7k2p", podUID: "p-1", containerID: "c-1",
            createdAt: now.back(600))
        migrating.target = IPAMModel.Attachment(
            node: "node-b", pod: "virt-launcher-testvm-q9z4c", podUID: "p-2", containerID: "c-2")
        migrating.migrationUID = "m-1"
        var bound = try vm("default", "true", "10.16.0.16", age: 45)
        bound.active = IPAMModel.Attachment(
            node: "node-b", pod: "virt-launcher-true-abcde", podUID: "p-3", containerID: "c-3")
        bound.updatedAt.nanoseconds += 250_000_000
        let pools = try pools()
        return [migrating, bound, try vm("prod", "idle", "10.16.0.17", age: 4000)].map {
            DescribedBinding(binding: $0, routes: pools[1].pool.routes, dns: pools[1].pool.dns)
        }
    }
}

extension Timestamp {
    func back(_ seconds: Int64) -> Timestamp { Timestamp(nanoseconds: nanoseconds - seconds * 1_000_000_000) }
}
