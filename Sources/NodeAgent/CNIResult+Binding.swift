import Addresses
package import CNI
package import IPAMAPI
import IPAMModel
import NetworkPools

extension CNIResult {
    /// What a pod's interface gets. Main plugins set the routes in the result's order, and KubeVirt's bridge binding gives its
    /// guest those that the kernel has, there the default route first (KubeVirt pkg/network/setup/netpod/discoverbridge.go).
    package init(_ described: DescribedBinding, hasDefaultRoute: Bool = true) {
        self.init(
            addresses: described.binding.assignments.map {
                Address(address: $0.address, prefixLength: $0.prefixLength, gateway: $0.gateway)
            },
            routes: described.routes(hasDefaultRoute: hasDefaultRoute).map {
                Route(destination: $0.destination, gateway: $0.gateway)
            },
            dns: described.dns.map {
                DNS(nameservers: $0.nameservers, domain: $0.domain, search: $0.search, options: $0.options)
            })
    }

    /// Names a gateway where the network's ranges would have host-local name one, which `ptp` and bridge's `isGateway` need,
    /// without a route by it.
    mutating func addGateways(of inline: InlinePool) {
        for index in addresses.indices where addresses[index].gateway == nil {
            let own = addresses[index]
            addresses[index].gateway = IPPrefix(containing: own.address, length: own.prefixLength)
                .flatMap { inline.namedGateways[$0] }
        }
    }
}
