import Addresses
import Foundation
import KubeVirt
import Testing

struct RandomWishTests {
    /// Prints the seed, and takes it from HOLDFAST_SEED, so that a failure can be played again.
    private func generator() -> SeededGenerator {
        let seed = ProcessInfo.processInfo.environment["HOLDFAST_SEED"].flatMap(UInt64.init) ?? .random(in: 0 ... .max)
        print("HOLDFAST_SEED=\(seed)")
        return SeededGenerator(state: seed)
    }

    /// What users write, well formed.
    private static let samples: [(name: String, values: [String])] = [
        ("holdfast.dev/addresses", ["10.16.0.15", "10.16.0.15/16,fd00::15"]),
        ("holdfast.dev/mac", ["02:00:0a:10:00:0f"]),
        ("holdfast.dev/pool", ["vms"]), ("holdfast.dev/addresses.default", ["10.16.0.15"]),
        ("ovn.kubernetes.io/ip_address", ["10.16.0.15", "fd00::15,10.16.0.15"]),
        ("ovn.kubernetes.io/mac_address", ["02:00:0a:10:00:0f"]), ("ovn.kubernetes.io/logical_switch", ["vms", "web"]),
        ("ovn.kubernetes.io/ip_pool", ["web", "10.16.0.15,10.16.0.16", "10.16.0.15,fd00::15;10.16.0.16,fd00::16"]),
        ("network.kubevirt.io/addresses", [#"{"default":["10.16.0.15"],"blue":["10.17.0.1"]}"#]),
        ("cni.projectcalico.org/ipAddrs", [#"["10.16.0.15","fd00::15"]"#]),
        (
            "v1.multus-cni.io/default-network",
            ["prod/main", #"[{"name":"m","namespace":"n","ips":["10.16.0.15/16"]}]"#]
        ),
        ("k8s.v1.cni.cncf.io/networks", ["a/b@c,d", #"[{"name":"storage","namespace":"prod","interface":"net1"}]"#]),
        ("storage.prod.ovn.kubernetes.io/ip_address", ["10.17.0.15"]),
        ("storage.prod.kubernetes.io/ip_address.net1", ["10.17.0.15"]),
    ]

    private static let alphabet = Array("0123456789abcdefx:./,;-[]{}\"\\ \u{0}\u{1F3E0}é@_+eE\n").map(String.init)

    private func mutated(_ value: String, _ generator: inout SeededGenerator) -> String {
        var characters = value.map(String.init)
        for _ in 0..<Int.random(in: 0...4, using: &generator) {
            let position = Int.random(in: 0...characters.count, using: &generator)
            let piece = Self.alphabet.randomElement(using: &generator) ?? ""
            switch Int.random(in: 0..<4, using: &generator) {
            case 0: characters.insert(piece, at: position)
            case 1 where position < characters.count: characters[position] = piece
            case 2 where position < characters.count: characters.remove(at: position)
            default: characters += characters.prefix(position)
            }
        }
        return characters.joined()
    }

    @Test func `random annotations give a request that the service can read, or an error that names one of them`()
        throws
    {
        var generator = generator()
        var (requests, errors) = (0, 0)
        for _ in 0..<6000 {
            var annotations: [String: String] = [:]
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let sample = try #require(Self.samples.randomElement(using: &generator))
                let value =
                    if Int.random(in: 0..<8, using: &generator) == 0 {
                        (0..<Int.random(in: 0...40, using: &generator)).map { _ in
                            Self.alphabet.randomElement(using: &generator) ?? ""
                        }.joined()
                    } else {
                        mutated(sample.values.randomElement(using: &generator) ?? "", &generator)
                    }
                annotations[sample.name] = value
            }
            for interface in ["eth0", "net1", Machine.blue] {
                do throws(WishError) {
                    let request = try Machine.request(annotations, interface: interface, isAttached: false)
                    for choice in request.choices {
                        #expect(!choice.isEmpty && choice == choice.sorted())
                        #expect(Set(choice.map(\.family)).count == choice.count, "\(annotations)")
                        #expect(choice.allSatisfy { !$0.isMulticast && !$0.isUnspecified && !$0.isLoopback })
                    }
                    #expect(Set(request.choices).count == request.choices.count)
                    #expect(request.mac?.isMulticast != true && request.mac?.isZero != true)
                    requests += 1
                } catch {
                    for source in error.sources {
                        guard case .annotation(let name) = source else {
                            Issue.record("\(source)")
                            continue
                        }
                        #expect(annotations[name]?.isEmpty == false)
                    }
                    errors += 1
                }
            }
        }
        // Both ways are taken often enough to mean something.
        #expect(requests > 1000 && errors > 1000, "\(requests) requests, \(errors) errors")
    }

    /// One wish for the pod's first NIC, in every form that can say it.
    private func forms(_ addresses: [IPAddress], _ mac: MACAddress, _ pool: String) -> [[String: String]] {
        let texts = addresses.map(\.description)
        let (list, json) = (texts.joined(separator: ","), "[\(texts.map { "\"\($0)\"" }.joined(separator: ","))]")
        var forms: [[String: String]] = []
        for (prefix, suffix) in [("", ""), ("", ".eth0"), ("", ".default"), ("vm-net.", "")] {
            forms.append([
                "\(prefix)holdfast.dev/addresses\(suffix)": list, "\(prefix)holdfast.dev/mac\(suffix)": "\(mac)",
                "\(prefix)holdfast.dev/pool\(suffix)": pool,
            ])
        }
        let rest = ["holdfast.dev/mac": "\(mac)", "holdfast.dev/pool": pool]
        for (name, value) in [
            ("ovn.kubernetes.io/ip_address", texts.reversed().joined(separator: ",")),
            ("ovn.kubernetes.io/ip_pool", list), ("cni.projectcalico.org/ipAddrs", json),
            ("network.kubevirt.io/addresses", #"{"default":\#(json)}"#),
            ("v1.multus-cni.io/default-network", #"[{"name":"n","ips":\#(json),"mac":"\#(mac)"}]"#),
        ] { forms.append(rest.merging([name: value]) { $1 }) }
        let fixed = ["holdfast.dev/addresses": list]
        forms.append(
            fixed.merging(["ovn.kubernetes.io/mac_address": "\(mac)", "ovn.kubernetes.io/ip_pool": pool]) { $1 })
        forms.append(
            fixed.merging(["ovn.kubernetes.io/mac_address": "\(mac)", "ovn.kubernetes.io/logical_switch": pool]) { $1 })
        return forms
    }

    @Test func `equal wishes in any two forms, and both together, give the same request`() throws {
        var generator = generator()
        for _ in 0..<40 {
            var addresses = [
                IPAddress(family: .ipv4, bits: 0x0a00_0000 | UInt128(UInt16.random(in: 0 ... .max, using: &generator)))
            ]
            if Bool.random(using: &generator) {
                addresses.append(
                    IPAddress(
                        family: .ipv6, bits: 0xfd << 120 | UInt128(UInt64.random(in: 0 ... .max, using: &generator))))
            }
            let mac = MACAddress(bits: 0x0200_0000_0000 | UInt64(UInt32.random(in: 0 ... .max, using: &generator)))
            let forms = forms(addresses, mac, "pool-\(UInt8.random(in: 0 ... .max, using: &generator))")
            let expected = try Machine.request(forms[0])
            #expect(expected.choices == [addresses] && expected.mac == mac && expected.pool != nil)
            for first in forms {
                #expect(try Machine.request(first) == expected, "\(first)")
                for second in forms where second.allSatisfy({ first[$0.key] == nil || first[$0.key] == $0.value }) {
                    let both = first.merging(second) { $1 }
                    // A list beside a pool's name would be two values of one annotation.
                    #expect(try Machine.request(both) == expected, "\(both)")
                }
            }
        }
    }
}

struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    /// SplitMix64.
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
