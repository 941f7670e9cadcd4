import CNI
import KubeVirt

extension Wish {
    /// What the runtime's call asks for: capabilities (`runtimeConfig`), `args.cni` and CNI_ARGS (containernetworking/cni
    /// CONVENTIONS.md). Multus says there what the pod's selection element for this NIC asks for, in CNI_ARGS whatever
    /// the plugin's capabilities (pkg/multus/multus.go, `delegateAdd`), so that element is not read a second time.
    static func wishes(in network: NetworkConfiguration, _ invocation: Invocation) throws(WishError) -> [Wish] {
        var wishes: [Wish?] = []
        for (path, object) in [
            ("runtimeConfig", network.json["runtimeConfig"]), ("args.cni", network.json["args"]?["cni"]),
        ] {
            if let ips = object?["ips"], ips != .null {
                let source = Source.runtime("\(path).ips")
                let list = ips.array?.map(\.string)
                guard let list, !list.contains(nil) else {
                    throw .unreadable(source, value: "\(ips)", expected: "a list of addresses")
                }
                wishes.append(try addresses(list.compactMap { $0 }, in: "\(ips)", source))
            }
            if let mac = object?["mac"], mac != .null {
                let source = Source.runtime("\(path).mac")
                guard let text = mac.string else { throw .unreadable(source, value: "\(mac)", expected: "a string") }
                wishes.append(try Self.mac(text, source))
            }
        }
        wishes.append(try addresses(invocation.arguments["IP"] ?? "", .runtime("CNI_ARGS IP")))
        wishes.append(try mac(invocation.arguments["MAC"] ?? "", .runtime("CNI_ARGS MAC")))
        return wishes.compactMap { $0 }
    }
}
