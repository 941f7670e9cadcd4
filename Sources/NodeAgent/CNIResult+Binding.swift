import Addresses
package import CNI
package import IPAMAPI
import IPAMModel
import NetworkPools

extension CNIResult {
    /// What a pod's interface gets. The default routes come first, each with its next hop: KubeVirt's bridge binding gives
    /// the first route's next hop to the guest, and does not start without one
    /// (KubeVirt pkg/network/setup/netpod/discoverbridge.go).
    ///
    /// A NIC that is not to have the default route has it only where the pool's routes say so.
    package init(_ described: DescribedBinding, hasDefaultRoute: Bool = true) {
        let assignments = described.binding.assignments
        var routes: [Route] = []
        func add(_ destination: IPPrefix, _ gateway: IPAddress?) {
            if !routes.contains(where: { $0.destination == destination }) {
                routes.append(Route(destination: destination, gateway: gateway))
            }
        }
        for assignment in assignments where hasDefaultRoute {
            let zero = IPAddress(family: assignment.address.family, bits: 0)
            guard let gateway = assignment.gateway, let all = IPPrefix(address: zero, length: 0) else { continue }
            add(all, gateway)
        }
        for route in described.routes {
            guard let assignment = assignments.first(where: { $0.address.family == route.destination.family }) else {
                continue
            }
            add(route.destination, route.gateway ?? assignment.gateway)
        }
        // A pool without gateway may have a default route of its own, anywhere in its list.
        routes = routes.filter { $0.destination.length == 0 } + routes.filter { $0.destination.length > 0 }
        self.init(
            addresses: assignments.map {
                Address(address: $0.address, prefixLength: $0.prefixLength, gateway: $0.gateway)
            },
            routes: routes,
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
                .flatMap { inline.usualGateways[$0] }
        }
    }
}
