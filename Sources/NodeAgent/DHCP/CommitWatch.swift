import IPAMModel

/// Notices that migrations to this node have ended, whoever ended them: the source's agent may commit one first.
struct CommitWatch: Sendable {
    private let node: String
    private var open: [OwnerKey: Binding] = [:]

    init(node: String) { self.node = node }

    /// One that this agent has ended itself.
    mutating func forget(_ ended: Binding) { open[ended.owner.key] = nil }

    /// Those that were open at the look before with a target on this node and are no more, as they were then. Whether
    /// each was committed only its binding tells.
    mutating func observe(_ migrating: [Binding]) -> [Binding] {
        let mine = migrating.filter { $0.target?.node == node }
        let still = Dictionary(mine.map { ($0.owner.key, $0) }) { $1 }
        defer { open = still }
        return open.values.filter { still[$0.owner.key]?.migrationUID != $0.migrationUID }
    }
}
