import IPAMModel

/// Which pool a namespace gets when it names none.
struct PoolChoice: Sendable {
    private var ofNamespace: [String: Int] = [:]
    private(set) var byDefault: Int?

    init() {}

    init(_ spaces: [PoolSpace?]) {
        let pools = spaces.indices.compactMap { index in spaces[index].map { (index: index, pool: $0.pool) } }
        for (index, pool) in pools.sorted(by: { $0.pool.name < $1.pool.name }) {
            for namespace in pool.namespaces where ofNamespace[namespace] == nil { ofNamespace[namespace] = index }
            if pool.isDefault { byDefault = index }
        }
    }

    /// The first pool, by name, that lists the namespace.
    func listing(_ namespace: String) -> Int? { ofNamespace[namespace] }
}

extension Pool {
    var isForThoseWhoNameNone: Bool { isDefault || !namespaces.isEmpty }
}
