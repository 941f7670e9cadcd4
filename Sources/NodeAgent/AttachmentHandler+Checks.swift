import Addresses
package import CNI
import IPAMAPI
import IPAMModel
import KubeVirt
import NetworkPools

// The verbs that change nothing.
extension AttachmentHandler {
    /// CHECK: throws unless this container carries the binding of the pod's owner, and the previous result has the
    /// binding's addresses, and its MAC where this plugin sets it. What else is in the result, other plugins made.
    package func check(_ request: AgentRequest) async throws(CNIError) {
        let deadline = ContinuousClock.now + Self.patience
        let invocation = try Invocation(environment: request.environment)
        let network = try NetworkConfiguration(request.configuration)
        guard let previous = network.json["prevResult"], let ips = previous["ips"]?.array else {
            throw CNIError(
                .invalidConfiguration, "CHECK has no \"prevResult\" with \"ips\"",
                details: "the runtime gives what ADD has printed (CNI 1.1, section 2, \"CHECK\")")
        }
        let owner = try await identity(invocation, by: deadline).owner(network: network.network(of: invocation))
        let binding: Binding?
        do {
            binding = try await ipam.existingBinding(of: owner, by: deadline)
        } catch {
            throw CNIError(error)
        }
        guard let binding else { throw CNIError(.notFound, "\(owner.key) has no binding") }
        let carriers = [binding.active, binding.target].compactMap { $0 }
        guard carriers.contains(where: { $0.containerID == invocation.containerID }) else {
            throw CNIError(
                .conflict, "\(owner.key) is not carried by container \(invocation.containerID)",
                details: binding.active.map { "pod \($0.pod) on node \($0.node) carries it" } ?? "no pod carries it")
        }
        let found = Set(ips.compactMap { $0["address"]?.string.flatMap(InterfaceAddress.init) })
        let held = binding.assignments.map { InterfaceAddress(address: $0.address, prefixLength: $0.prefixLength) }
        guard found.isSuperset(of: held) else {
            func list(_ addresses: some Sequence<InterfaceAddress>) -> String {
                let texts = addresses.map(\.description).sorted()
                return texts.isEmpty ? "none" : texts.joined(separator: ", ")
            }
            throw CNIError(
                .conflict, "\(owner.key) has \(list(held)), not \(list(found))",
                details: "the interface was set up with other addresses: restart the pod")
        }
        let interface = previous["interfaces"]?.array?.first { $0.isInSandbox(named: invocation.interface) }
        if network.delegate != nil, let mac = interface?["mac"]?.string.flatMap(MACAddress.init), mac != binding.mac {
            throw CNIError(
                .conflict, "\(owner.key) has the MAC \(binding.mac), not \(mac)",
                details: "the interface was set up with another MAC: restart the pod")
        }
    }

    /// STATUS: throws code 50 where the server cannot serve an ADD on this network, 51 where it cannot be reached and
    /// this node can serve the VMs that it knows.
    package func status(_ request: AgentRequest) async throws(CNIError) {
        let pool = try NetworkPool(NetworkConfiguration(request.configuration))
        let pools: [DescribedPool]?
        do throws(IPAMError) {
            pools = try await candidates(pool)
        } catch {
            let cause = CNIError(error)
            let isLimited = cause.code == .tryAgainLater && servesKnownMachines()
            throw CNIError(
                isLimited ? .limitedConnectivity : .notAvailable,
                isLimited ? "only VMs that this node knows can be served: \(cause.message)" : cause.message,
                details: cause.details)
        }
        guard let pools else { return }
        let shortages = pools.compactMap(\.shortage)
        guard shortages.count == pools.count else { return }
        throw CNIError(
            .notAvailable,
            shortages.isEmpty ? "there is no pool" : shortages.joined(separator: "; "),
            details: shortages.isEmpty
                ? "create one with `holdfast pool create`"
                : "VMs that have an address keep it; for others add a prefix to the pool, or release bindings")
    }

    /// The pools of which one will be an ADD's; nil where that one is made at the first ADD.
    private func candidates(_ pool: NetworkPool?) async throws(IPAMError) -> [DescribedPool]? {
        // Without one it depends on the namespace of the ADD's pod.
        guard let pool else { return try await ipam.pools(timeout: Self.patience) }
        do {
            return [try await ipam.pool(named: pool.name, timeout: Self.patience)]
        } catch {
            if case .inline = pool, error.code == .notFound { return nil }
            throw error
        }
    }
}

extension DescribedPool {
    /// Why no new owner gets addresses here: a family that none of the prefixes has one of. Nil where each has.
    fileprivate var shortage: String? {
        for family in [AddressFamily.ipv4, .ipv6] {
            let prefixes = usage.filter { $0.prefix.address.family == family }
            guard !prefixes.isEmpty, prefixes.allSatisfy({ $0.free == 0 }) else { continue }
            let quarantined = prefixes.reduce(0) { $0 + $1.quarantined }
            let hope = quarantined > 0 ? " (\(quarantined) in quarantine)" : ""
            return "pool \(pool.name) has no free \(family == .ipv4 ? "IPv4" : "IPv6") address\(hope)"
        }
        return nil
    }
}

/// An address with its prefix's length, as a result writes it: "10.16.0.15/16".
private struct InterfaceAddress: Hashable, CustomStringConvertible {
    var address: IPAddress
    var prefixLength: Int

    init(address: IPAddress, prefixLength: Int) {
        self.address = address
        self.prefixLength = prefixLength
    }

    init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let address = IPAddress(String(parts[0])), let length = Int(parts[1]) else {
            return nil
        }
        self.init(address: address, prefixLength: length)
    }

    var description: String { "\(address)/\(prefixLength)" }
}
