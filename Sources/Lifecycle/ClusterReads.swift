package import IPAMModel
package import KubeVirt
package import KubernetesAPI

/// The cluster as the comparison looks at it. Every call asks the API server afresh.
package protocol ClusterReads: Sendable {
    /// All of what `coverage` names (machines, launchers, pods), as complete lists; throws where one cannot be had.
    func inventory(of coverage: Inventory.Coverage) async throws(KubernetesError) -> Inventory
    /// What there is about the open migrations of these bindings.
    func migrations(of bindings: [Binding]) async throws(KubernetesError) -> Inventory
    /// Whether a VM or an instance of this name is there.
    func hasMachine(_ name: ObjectName) async throws(KubernetesError) -> Bool
    func pod(_ name: ObjectName) async throws(KubernetesError) -> Pod?
    /// The pods of this name on this node, in whatever namespace; on any where `node` is empty.
    func pods(named name: String, on node: String) async throws(KubernetesError) -> Inventory
}

extension ClusterReads {
    /// All that there is to compare these bindings with.
    package func inventory(for bindings: [Binding]) async throws(KubernetesError) -> Inventory {
        var inventory = try await inventory(of: .needed(for: bindings))
        let open = bindings.filter { $0.target != nil }
        if !open.isEmpty { inventory.merge(try await migrations(of: open)) }
        return inventory
    }
}
