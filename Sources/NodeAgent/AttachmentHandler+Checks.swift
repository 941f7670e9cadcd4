import Addresses
package import CNI
import IPAMAPI
import IPAMModel
import KubeVirt
import Logging
import NetworkPools

// The verbs that change nothing.
extension AttachmentHandler {
    /// CHECK: throws unless this container carries the binding of the pod's owner, and the previous result has the
    /// binding's addresses, and its MAC where this plugin sets it. What else is in the result, other plugins made.
    package func check(_ request: AgentRequest) async throws(CNIError) {
        let deadline = ContinuousClock.now + Self.patience
        try await logging("CHECK failed", request) { (invocation, network) throws(CNIError) in
            try await check(invocation, network, by: deadline)
        }
    }

    private func check(
        _ invocation: Invocation, _ network: NetworkConfiguration, by deadline: ContinuousClock.Instant
    ) async throws(CNIError) {
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

    /// STATUS: throws code 50 where no ADD on this network can be served. A runtime takes any error for a node without
    /// network, on which the kubelet starts no pod at all. So it is silent also where only some pods can be served: those
    /// whose addresses this node knows, while the server is away, and those that have some, where the pool is full.
    package func status(_ request: AgentRequest) async throws(CNIError) {
        let network = try NetworkConfiguration(request.configuration)
        // The plugin that runs the delegate has asked, and knows more of the pool.
        if network.isDelegates { return }
        let pool = try NetworkPool(network)
        do throws(IPAMError) {
            guard try await !hasPool(pool) else { return }
        } catch {
            let cause = CNIError(error)
            if cause.code == .tryAgainLater, servesKnownMachines() { return }
            throw CNIError(.notAvailable, cause.message, details: cause.details)
        }
        throw CNIError(.notAvailable, "there is no pool", details: "create one with `holdfast pool create`")
    }

    /// Whether there is a pool that may be an ADD's, or one is made at the first ADD. Throws where the one that is named is
    /// not there.
    private func hasPool(_ pool: NetworkPool?) async throws(IPAMError) -> Bool {
        let deadline = ContinuousClock.now + Self.shortTry
        // A binding has one, and one of this node's is found at once: with a pool comes how full it is, which is counted.
        let page = try await ipam.bindings(
            matching: BindingFilter(pool: pool?.name, node: node), pageSize: 1, pageToken: nil,
            timeout: deadline.remaining)
        if !page.bindings.isEmpty { return true }
        // Without one it depends on the namespace of the ADD's pod.
        guard let pool else { return try await !ipam.pools(timeout: deadline.remaining).isEmpty }
        do {
            _ = try await ipam.pool(named: pool.name, timeout: deadline.remaining)
        } catch {
            guard case .inline = pool, error.code == .notFound else { throw error }
        }
        return true
    }
}
