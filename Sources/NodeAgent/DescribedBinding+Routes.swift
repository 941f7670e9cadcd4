import Addresses
import IPAMAPI
import IPAMModel

extension DescribedBinding {
    /// What a NIC with this binding is routed by, each destination once: its pod and its guest are told the same. Routes on the
    /// link come first, as the next hops of others may be reached by them, and no plugin or client sets a route whose next hop
    /// it cannot reach yet.
    ///
    /// A route that names no next hop has the pool's gateway, and is on the link in a pool without one. A default route of the
    /// pool's own is what counts, as with host-local and whereabouts, which route nothing by a gateway but what they are told
    /// to; else the NIC that is to have the default route has it by the gateway.
    func routes(hasDefaultRoute: Bool) -> [Route] {
        let own = routes.compactMap { route in
            binding.assignments.first { $0.address.family == route.destination.family }.map {
                Route(destination: route.destination, gateway: route.gateway ?? $0.gateway)
            }
        }
        var routes: [Route] = []
        for assignment in binding.assignments where hasDefaultRoute {
            let zero = IPAddress(family: assignment.address.family, bits: 0)
            guard let gateway = assignment.gateway, let all = IPPrefix(address: zero, length: 0),
                !own.contains(where: { $0.destination == all })
            else { continue }
            routes.append(Route(destination: all, gateway: gateway))
        }
        for route in own where !routes.contains(where: { $0.destination == route.destination }) { routes.append(route) }
        return routes.filter { $0.gateway == nil } + routes.filter { $0.gateway != nil }
    }
}
