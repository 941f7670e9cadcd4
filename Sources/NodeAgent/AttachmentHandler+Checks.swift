package import CNI
import IPAMAPI
import IPAMModel
import KubeVirt

extension AttachmentHandler {
    /// CHECK: throws unless the pod's owner has a binding with just the addresses of the previous result.
    package func check(_ request: AgentRequest) async throws(CNIError) {
        let deadline = ContinuousClock.now + Self.patience
        let invocation = try Invocation(environment: request.environment)
        let network = try NetworkConfiguration(request.configuration)
        guard let ips = network.json["prevResult"]?["ips"]?.array else {
            throw CNIError(.invalidConfiguration, "CHECK has no prevResult with ips")
        }
        let owner = try await identity(invocation, by: deadline).owner(network: network.network(of: invocation))
        let binding: Binding?
        do {
            binding = try await ipam.existingBinding(of: owner, by: deadline)
        } catch {
            throw CNIError(error)
        }
        guard let binding else { throw CNIError(.notFound, "\(owner.key) has no binding") }
        let held = binding.assignments.map { "\($0.address)/\($0.prefixLength)" }.sorted()
        let found = ips.compactMap { $0["address"]?.string }.sorted()
        guard held == found else {
            throw CNIError(
                .conflict, "\(owner.key) has \(held.joined(separator: ", ")), not \(found.joined(separator: ", "))",
                details: "the interface was set up with other addresses: restart the pod")
        }
    }

    /// STATUS: throws where the server cannot be reached.
    package func status() async throws(CNIError) {
        do throws(IPAMError) {
            _ = try await ipam.bindings(
                matching: BindingFilter(node: node), pageSize: 1, pageToken: nil, timeout: Self.patience)
        } catch {
            throw CNIError(error)
        }
    }
}
