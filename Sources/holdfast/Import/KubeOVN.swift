import Addresses
import IPAMAPI
import IPAMModel
import Program
import Yams

/// Kube-OVN's objects (pkg/apis/kubeovn/v1: subnet.go, ippool.go and ip.go).
enum KubeOVN {
    struct Subnet {
        var pool: Pool
        /// "ovn", or "NAD.NAMESPACE.ovn".
        var provider: String

        /// Dual stack: CIDRs and gateways separated by commas. Throws `Failure`.
        init(_ node: Node) throws {
            let (name, spec) = (node.name.name, node["spec"])
            let gateways = (spec?["gateway"]?.text ?? "").split(separator: ",").compactMap { IPAddress(String($0)) }
            do throws(IPAMError) {
                pool = Pool(name: try Rules.poolName(name, "its name"), prefixes: [])
                var excluded: [AddressRange] = []
                for text in spec?["excludeIps"]?.texts ?? [] { excluded.append(try Rules.range(text, "excludeIps")) }
                for text in (spec?["cidrBlock"]?.text ?? "").split(separator: ",") {
                    let prefix = try Rules.prefix(String(text), "cidrBlock")
                    let gateway = gateways.first(where: prefix.contains)
                    pool.prefixes.append(
                        PoolPrefix(
                            prefix: prefix, gateway: gateway,
                            // The gateway, which Kube-OVN lists as well, is never given in any case.
                            excluded: excluded.compactMap { $0.part(in: prefix) }
                                .filter { $0.lower != gateway || $0.upper != gateway }))
                }
                for text in spec?["namespaces"]?.texts ?? [] {
                    pool.namespaces.append(try Rules.namespace(text, "namespaces"))
                }
            } catch {
                throw Failure("Kube-OVN's Subnet \(name): \(error.message)")
            }
            provider = spec?["provider"]?.text ?? ""
        }
    }

    /// A part of a Subnet.
    struct IPPool {
        var name: String
        var subnet: String
        var ranges: [AddressRange] = []
        /// Whose pods have it for their default network. Others may ask for it too, in Kube-OVN.
        var namespaces: [String] = []
        /// OVN's rules know it by its name.
        var isAddressSet: Bool

        /// Throws `Failure`.
        init(_ node: Node) throws {
            let spec = node["spec"]
            (name, subnet) = (node.name.name, spec?["subnet"]?.text ?? "")
            isAddressSet = spec?["enableAddressSet"]?.bool ?? false
            do throws(IPAMError) {
                name = try Rules.poolName(name, "its name")
                for text in spec?["ips"]?.texts ?? [] {
                    // Host bits of a CIDR do not count.
                    if let (address, length) = IPPrefix.split(text),
                        let network = IPPrefix(containing: address, length: length)
                    {
                        ranges.append(network.range)
                    } else {
                        ranges.append(try Rules.range(text, "ips"))
                    }
                }
                for text in spec?["namespaces"]?.texts ?? [] {
                    namespaces.append(try Rules.namespace(text, "namespaces"))
                }
            } catch {
                throw Failure("Kube-OVN's IPPool \(name): \(error.message)")
            }
        }
    }

    struct Address {
        var name: String
        var subnet: String
        var namespace: String
        /// A VM's, where `isMachine`.
        var owner: String
        var isMachine: Bool
        var addresses: [IPAddress]
        var mac: MACAddress?

        init(_ node: Node) throws {
            let spec = node["spec"]
            name = node.name.name
            (subnet, namespace) = (spec?["subnet"]?.text ?? "", spec?["namespace"]?.text ?? "")
            (owner, isMachine) = (spec?["podName"]?.text ?? "", spec?["podType"]?.text == "VirtualMachine")
            let texts = [spec?["v4IpAddress"]?.text, spec?["v6IpAddress"]?.text].compactMap(\.self).filter {
                !$0.isEmpty
            }
            let all = texts.isEmpty ? (spec?["ipAddress"]?.text ?? "").split(separator: ",").map(String.init) : texts
            addresses = []
            for text in all {
                guard let address = IPAddress(text) else {
                    throw Failure("Kube-OVN's IP \(name): \"\(text)\" is no address")
                }
                addresses.append(address)
            }
            mac = MACAddress(spec?["macAddress"]?.text ?? "")
        }

        /// Which network it is of: its name is POD.NAMESPACE, or POD.NAMESPACE.PROVIDER (pkg/ovs/util.go,
        /// PodNameToPortName). "ovn" for the primary one.
        func provider(of subnet: Subnet?) -> String {
            let prefix = "\(owner).\(namespace)"
            if name == prefix { return "ovn" }
            if name.hasPrefix(prefix + ".") { return String(name.dropFirst(prefix.count + 1)) }
            return subnet?.provider ?? ""
        }
    }

    /// What a secondary network's provider names: "NAD.NAMESPACE.ovn", with ".INTERFACE" where a pod has it twice, or
    /// "NAD.NAMESPACE" where another plugin makes the interface (pkg/controller/pod.go).
    static func definition(of provider: String) -> (name: ForeignObjects.Name, interface: String?)? {
        let parts = provider.split(separator: ".").map(String.init)
        guard parts.count >= 2 else { return nil }
        let isOVN = parts.count > 2 && parts[2] == "ovn"
        return (ForeignObjects.Name(parts[1], parts[0]), isOVN && parts.count > 3 ? parts[3] : nil)
    }
}
